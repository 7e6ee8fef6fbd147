"""What the daemon says while a file is sent to it, in the pieces it may come in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("adb_shell")

from adb_shell import constants, exceptions

from device_agents.android import adb_shell_device

REASON = b"couldn't create file: No space left on device"
REFUSAL = adb_shell_device.FAIL_HEADER.pack(constants.FAIL, len(REASON)) + REASON


def flushed(monkeypatch: pytest.MonkeyPatch, answers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Send what waits, answered so; returns the answers that were not read."""
    device = adb_shell_device.Device(adb_shell_device.tcp("127.0.0.1", 1))  # which is not connected
    monkeypatch.setattr(device, "_io_manager", SimpleNamespace(send=lambda message, info: None))
    monkeypatch.setattr(device, "_read_until", lambda commands, info: answers.pop(0))
    transfer = SimpleNamespace(send_buffer=bytearray(b"data"), send_idx=4, recv_buffer=bytearray())
    device._filesync_flush(SimpleNamespace(local_id=1, remote_id=2), transfer)
    return answers


@pytest.mark.parametrize("cut", [0, 4, 8, 20])
@pytest.mark.parametrize("between", [[], [(constants.OKAY, b"")]])
def test_a_refusal_is_told_with_its_reason_however_it_comes(monkeypatch: pytest.MonkeyPatch, cut: int, between: list[tuple[bytes, bytes]]) -> None:
    pieces = [piece for piece in (REFUSAL[:cut], REFUSAL[cut:]) if piece]
    answers = [(constants.WRTE, pieces[0]), *between, *((constants.WRTE, piece) for piece in pieces[1:])]
    with pytest.raises(exceptions.PushFailedError) as error:
        flushed(monkeypatch, answers)
    assert error.value.args[0] == REASON


def test_a_refusal_that_is_cut_off_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(exceptions.PushFailedError) as error:
        flushed(monkeypatch, [(constants.WRTE, REFUSAL[:12]), (constants.CLSE, b"")])
    assert error.value.args[0] == REASON[:4]


def test_what_was_taken_is_sent_and_nothing_more_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    later = (constants.OKAY, b"")
    assert flushed(monkeypatch, [(constants.OKAY, b""), later]) == [later]
    with pytest.raises(ConnectionResetError, match="ended the transfer"):
        flushed(monkeypatch, [(constants.CLSE, b"")])
