"""Files that are replaced as a whole: what they take the place of."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dlc.runtime.atomic import replace_file
from dlc.runtime.errors import RuntimeFault


def _write(path: Path, content: bytes) -> None:
    with replace_file(path) as file:
        file.write(content)


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"old")
    link.symlink_to("file")

    _write(link, b"new")

    assert link.is_symlink() and file.read_bytes() == b"new"


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(0o600)

    _write(file, b"new")

    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_pipe_is_refused_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(RuntimeFault, match="no regular file"):
        _write(pipe, b"new")

    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]
