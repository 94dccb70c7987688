"""TensorBoard's event files, read back with protobuf's own parser and with checksums computed bit by bit."""

import struct

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dlc.runtime.training.events import EVENTS, Events

FIELD = descriptor_pb2.FieldDescriptorProto


def event_class():
    """`Event` of tensorflow/core/util/event.proto, as far as scalars need it."""
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="dlc_test", syntax="proto3")
    value = file.message_type.add(name="Value")
    value.field.add(name="tag", number=1, type=FIELD.TYPE_STRING, label=1)
    value.field.add(name="simple_value", number=2, type=FIELD.TYPE_FLOAT, label=1)
    summary = file.message_type.add(name="Summary")
    summary.field.add(name="value", number=1, type=FIELD.TYPE_MESSAGE, type_name=".dlc_test.Value", label=3)
    event = file.message_type.add(name="Event")
    event.field.add(name="wall_time", number=1, type=FIELD.TYPE_DOUBLE, label=1)
    event.field.add(name="step", number=2, type=FIELD.TYPE_INT64, label=1)
    event.field.add(name="file_version", number=3, type=FIELD.TYPE_STRING, label=1)
    event.field.add(name="summary", number=5, type=FIELD.TYPE_MESSAGE, type_name=".dlc_test.Summary", label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("dlc_test.Event"))


def masked(data):
    """CRC-32C by long division of the polynomial, masked as TFRecord has it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8 & 0xFFFFFFFF


def read(path):
    data, events, place = path.read_bytes(), [], 0
    event = event_class()
    while place < len(data):
        head = data[place : place + 8]
        (length,) = struct.unpack("<Q", head)
        check, body = data[place + 8 : place + 12], data[place + 12 : place + 12 + length]
        assert struct.unpack("<I", check)[0] == masked(head)
        assert struct.unpack("<I", data[place + 12 + length : place + 16 + length])[0] == masked(body)
        events.append(event.FromString(body))
        place += 16 + length
    return events


def test_events_are_tensorboards(tmp_path):
    events = Events(tmp_path)
    events.rewrite([{"epoch": 1, "step": 300, "train.loss": 1.5, "val.error": 0.25, "lr": 0.1, "seconds": 2.0}], 2.0)
    events.append({"epoch": 2, "step": 70_000, "train.loss": 0.5})

    first, one, two = read(tmp_path / EVENTS)
    assert first.file_version == "brain.Event:2"
    assert one.step == 300 and two.step == 70_000
    assert {v.tag: v.simple_value for v in one.summary.value} == {
        "train/loss": 1.5, "val/error": 0.25, "lr": pytest.approx(0.1), "seconds": 2.0,
    }  # fmt: skip
    assert one.wall_time == pytest.approx(first.wall_time + 2.0)
    assert "tfevents" in EVENTS


def test_the_checksum_is_castagnolis():
    assert masked(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_run_that_goes_on_has_each_epoch_once(linear, tmp_path):
    class Stops:
        def __getattr__(self, name):
            return lambda *given: None

        def step(self, done, loss, error):
            if done == 17:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        linear.trainer(tmp_path, progress=Stops()).run()
    linear.trainer(tmp_path).run(resume=True)

    assert [e.step for e in read(tmp_path / EVENTS)[1:]] == [7, 14, 21, 28, 35, 42]
