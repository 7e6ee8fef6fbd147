"""The key of this computer: the user's own, or a new one that nobody else can read."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from adb_double import signed

from device_agents.android import keys
from device_agents.base import DeviceError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_key_is_readable_by_the_user_only_even_where_the_umask_is_wide(home: Path) -> None:
    before = os.umask(0)
    try:
        keys.signer()
    finally:
        os.umask(before)
    assert (mode(home / ".android"), mode(home / ".android" / "adbkey")) == (0o700, 0o600)
    assert sorted(path.name for path in (home / ".android").iterdir()) == ["adbkey", "adbkey.pub"]


def test_the_key_of_the_user_is_used_and_not_touched(home: Path) -> None:
    keys.make(home / ".android" / "adbkey")
    before = [(path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in sorted((home / ".android").iterdir())]
    token = b"t" * 20
    signature = keys.signer().Sign(token)
    assert signed(token, signature, before[1][1])
    keys.make(home / ".android" / "adbkey")
    assert [(path.name, path.read_bytes(), path.stat().st_mtime_ns) for path in sorted((home / ".android").iterdir())] == before


def test_the_public_half_is_that_of_the_private_one_whatever_lies_beside_it(tmp_path: Path) -> None:
    keys.make(tmp_path / "adbkey")
    own = (tmp_path / "adbkey.pub").read_bytes().split()[0]
    (tmp_path / "adbkey.pub").write_bytes(b"of another key")
    assert keys.signer(tmp_path / "adbkey").GetPublicKey().split()[0] == own
    (tmp_path / "adbkey.pub").unlink()
    assert keys.signer(tmp_path / "adbkey").GetPublicKey().split()[0] == own


def test_a_key_that_adb_wrote_is_read_alike(tmp_path: Path) -> None:
    if shutil.which("adb") is None:
        pytest.skip("no adb here (Debian: apt-get install adb)")
    subprocess.run(["adb", "keygen", tmp_path / "adbkey"], check=True, capture_output=True)
    (tmp_path / "adbkey").chmod(0o600)
    public = (tmp_path / "adbkey.pub").read_bytes()
    signer = keys.signer(tmp_path / "adbkey")
    assert signer.GetPublicKey().split()[0] == public.split()[0]
    assert signed(b"t" * 20, signer.Sign(b"t" * 20), public)


@pytest.mark.parametrize("wide", [0o644, 0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_is_refused_and_left_as_it_is(tmp_path: Path, wide: int) -> None:
    keys.make(tmp_path / "adbkey")
    (tmp_path / "adbkey").chmod(wide)
    with pytest.raises(DeviceError, match=f"has the mode {wide:04o}, so that others can read it .*; run chmod 600"):
        keys.signer(tmp_path / "adbkey")
    assert mode(tmp_path / "adbkey") == wide


def test_a_key_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="there is no ADB key '.*mistyped'"):
        keys.signer(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()


@pytest.mark.parametrize("content", [b"", b"ssh-rsa AAAA", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adbkey").write_bytes(content)
    (tmp_path / "adbkey").chmod(0o600)
    with pytest.raises(DeviceError, match="holds no ADB key; expected a private RSA key of 2048 bits"):
        keys.signer(tmp_path / "adbkey")


def test_an_encrypted_key_and_one_of_another_kind_are_no_adb_keys(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    locked = rsa.generate_private_key(65537, 2048), serialization.BestAvailableEncryption(b"secret")
    other = ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption()
    for key, encryption in (locked, other):
        (tmp_path / "adbkey").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        (tmp_path / "adbkey").chmod(0o600)
        with pytest.raises(DeviceError, match="holds no ADB key"):
            keys.signer(tmp_path / "adbkey")


def test_a_home_that_takes_no_key_is_said(home: Path) -> None:
    (home / ".android").write_text("a file where the folder should be")
    with pytest.raises(DeviceError, match="an ADB key cannot be written to"):
        keys.signer()


def test_importing_the_transports_reads_neither_the_home_folder_nor_optional_packages() -> None:
    script = (
        "import sys, pathlib\n"
        "def refuse(*_): raise AssertionError('the home folder was asked for')\n"
        "pathlib.Path.home = refuse\n"
        "pathlib.Path.expanduser = refuse\n"
        "import device_agents.android.discovery\n"
        "assert not {'adb_shell', 'cryptography', 'usb1'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parent.parent)
