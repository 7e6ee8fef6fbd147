"""Exit codes out of packets, and out of a marker: what is cut off is never taken for an end."""

from __future__ import annotations

import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents.android import shell_v2
from device_agents.android.transport import Finished


def packet(kind: int, data: bytes) -> bytes:
    return struct.pack("<BI", kind, len(data)) + data


PACKETS = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8)


@given(PACKETS, st.integers(0, 255))
def test_packets_are_put_together_by_stream(packets: list[tuple[int, bytes]], code: int) -> None:
    stream = b"".join(packet(kind, data) for kind, data in packets) + packet(3, bytes([code]))
    expected = [b"".join(data for kind, data in packets if kind == wanted) for wanted in (1, 2)]
    assert shell_v2.finished(stream) == Finished(code, *expected)


@given(PACKETS, st.data())
def test_a_stream_that_was_cut_off_anywhere_has_no_end(packets: list[tuple[int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(packet(kind, content) for kind, content in packets) + packet(3, b"\0")
    assert shell_v2.finished(stream[: data.draw(st.integers(0, len(stream) - 1))]) is None


@given(st.binary(max_size=200))
def test_rubbish_is_no_error(stream: bytes) -> None:
    ended = shell_v2.finished(stream)
    assert ended is None or 0 <= ended.exit_code < 256


@pytest.mark.parametrize(
    ("script", "code", "stdout"),
    [
        ("echo a; exit 7", 7, b"a\n"),
        ("printf 'no end'", 0, b"no end"),
        ("echo 'it''s'; # a comment", 0, b"its\n"),
        ("if", 2, b""),
        ("exec false", 1, b""),
        ("printf 'end-0123:0\\n'; exit 4", 4, b"end-0123:0\n"),
    ],
)
def test_a_marked_script_tells_its_exit_code(script: str, code: int, stdout: bytes) -> None:
    marked = shell_v2.marked(script)
    ran = subprocess.run(["sh", "-c", marked.script], capture_output=True)
    ended = marked.finished(ran.stdout, ran.stderr)
    assert ended is not None
    assert (ended.exit_code, ended.stdout, ended.stderr) == (code, stdout, ran.stderr)
    for size in range(len(ran.stdout)):
        assert marked.finished(ran.stdout[:size]) is None


def test_what_a_terminal_does_to_line_ends_is_undone() -> None:
    marked = shell_v2.marked("true")
    ended = marked.finished(b"a\r\nb\r\n" + marked.marker + b"3\r\n")
    assert ended == Finished(3, b"a\nb\n", b"")


def test_each_script_has_a_marker_of_its_own() -> None:
    assert len({shell_v2.marked("true").marker for _ in range(100)}) == 100
