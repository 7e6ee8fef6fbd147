"""Files are written whole or not at all, and errors speak of the user's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supernets.atomic_file import replacing, write_whole


def test_a_file_takes_the_place_of_the_one_before_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.json"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_leaves_the_old_file_alone_and_is_told_with_the_files_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.json"
    write_whole(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="cannot be written: No space left on device") as caught:
        write_whole(path, b"new")
    assert (caught.value.errno, caught.value.filename) == (28, str(path))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_writer_that_stops_halfway_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), replacing(tmp_path / "file") as file:
        file.write(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_hold_a_file_are_refused_by_the_path_given(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for place, why in (("folder", "a folder"), ("file/inside", "is a file, not a folder"), ("file/deep/inside", "Not a directory")):
        with pytest.raises(OSError, match=why) as caught:
            write_whole(tmp_path / place, b"")
        assert caught.value.filename == str(tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_name_as_long_as_file_systems_allow_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), b"content")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"content"
