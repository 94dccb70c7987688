"""TensorBoard's event files: a run's numbers as scalars, so that `tensorboard --logdir runs` shows them.

A file is a list of records of TFRecord: 8 bytes of length and 4 of its checksum, the data and 4 bytes of its checksum (CRC-32C,
masked). The data is a protobuf `Event`: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary = 5, whose
`value`s (1) hold tag = 1 (string) and simple_value = 2 (float). Written here in full: the packages that do it bring 20 MB.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from dlc.runtime.atomic import replace_file, write_fault

EVENTS = "events.out.tfevents.dlc"
"""TensorBoard takes every file with `tfevents` in its name."""

NOT_SHOWN = ("epoch", "step")


class Events:
    """The event file of a run's directory; tags are `train/loss`, `val/error`, `lr` …, steps the training's."""

    def __init__(self, out: Path) -> None:
        self._path = out / EVENTS

    def rewrite(self, history: Sequence[Mapping[str, float]], elapsed: float) -> None:
        """Makes the file hold exactly these epochs. `elapsed` is how many seconds the run has lasted."""
        began = time.time() - elapsed
        head = _field(1, 1, struct.pack("<d", began)) + _field(3, 2, b"brain.Event:2")
        with replace_file(self._path) as file:
            file.write(_record(head))
            for epoch in history:
                file.write(_epoch(epoch, began + epoch.get("seconds", 0.0)))

    def append(self, record: Mapping[str, float]) -> None:
        """Adds an epoch."""
        try:
            with open(self._path, "ab") as file:
                file.write(_epoch(record, time.time()))
        except OSError as error:
            raise write_fault(self._path, error) from error


def _epoch(record: Mapping[str, float], wall_time: float) -> bytes:
    values = b""
    for name, value in record.items():
        if name not in NOT_SHOWN:
            tag = name.replace(".", "/").encode()
            values += _field(1, 2, _field(1, 2, tag) + _field(2, 5, struct.pack("<f", value)))
    step = _field(2, 0, _varint(int(record["step"])))
    return _record(_field(1, 1, struct.pack("<d", wall_time)) + step + _field(5, 2, values))


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", _masked(length)) + data + struct.pack("<I", _masked(data))


def _field(number: int, kind: int, data: bytes) -> bytes:
    """A field of a protobuf message; `kind` 2 has its length in front."""
    return _varint(number << 3 | kind) + (_varint(len(data)) if kind == 2 else b"") + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def _masked(data: bytes) -> int:
    """TFRecord's masked CRC-32C (Castagnoli)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
