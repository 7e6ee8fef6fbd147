"""The RSA key by which Android devices know this computer: the user's own, which `adb` uses too, or a new one that only the user can read."""

from __future__ import annotations

import base64
import contextlib
import getpass
import os
import secrets
import socket
import stat
import sys
from pathlib import Path
from typing import Any

from device_agents.base import DeviceError, RuntimeMissing


def default_path() -> Path:
    """Return where `adb` has the user's private key."""
    return Path.home() / ".android" / "adbkey"


class Signer:
    """One private key in the shape that adb-shell asks for.

    Its public half is computed, not read from the file beside it, which may be missing or belong to another key.
    """

    def __init__(self, path: Path, key: Any) -> None:
        self.path = path
        self._key = key

    def Sign(self, data: bytes) -> bytes:
        """Return the signature of a device's token, which is used as a SHA-1 digest."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, utils

        signature: bytes = self._key.sign(data, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))
        return signature

    def GetPublicKey(self) -> bytes:
        """Return the public key as devices keep it, with the name that they show when they ask whether to trust it."""
        from adb_shell.auth.keygen import encode_pubkey

        return base64.b64encode(encode_pubkey(str(self.path))) + b" " + owner().encode()


def owner() -> str:
    """Return user@computer; a device shows it beside the key."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname() or 'unknown'}".replace(" ", "-")


def signer(path: Path | None = None) -> Signer:
    """Return the key at `path`, or the user's own, which is made if there is none.

    Raises:
        DeviceError: the key named is not there, is none, or can be read by other users.
        RuntimeMissing: adb-shell or cryptography cannot be imported.
    """
    _needs_packages()
    if path is not None and not path.exists():
        raise DeviceError(f"there is no ADB key {str(path)!r}; name a private key that exists, or leave it out to use {str(default_path())!r}")
    found = path or default_path()
    if not found.exists():
        make(found)
    return Signer(found, _load(found))


def make(path: Path) -> None:
    """Write a new private key, readable by the user only from its first byte on, and its public half beside it; one that is there stays.

    Raises:
        DeviceError: the folder does not take them.
    """
    _needs_packages()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
        with contextlib.suppress(FileExistsError):  # another process was quicker: its key counts
            os.link(unfinished, path)
            path.with_name(path.name + ".pub").write_bytes(Signer(path, private).GetPublicKey() + b"\n")
    except OSError as error:
        raise DeviceError(
            f"an ADB key cannot be written to {str(path)!r} ({error.strerror}); expected a folder that this user can write to"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _load(path: Path) -> Any:
    """Return the private key in a file.

    One that others can read is refused: whoever has it can pose as this computer to every phone that trusts it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(65536)
    except OSError as error:
        raise DeviceError(f"the ADB key {str(path)!r} cannot be read ({error.strerror}); expected a file that this user can read") from None
    if mode & 0o077 and os.name == "posix":
        raise DeviceError(
            f"the ADB key {str(path)!r} has the mode {mode:04o}, so that others can read it and pose as this computer to its phones; "
            f"run chmod 600 on it, and make a new one if others use this computer"
        )
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 2048:
        raise DeviceError(f"{str(path)!r} holds no ADB key; expected a private RSA key of 2048 bits, unencrypted, as `adb keygen` writes it")
    return key


def _needs_packages() -> None:
    """Raise the error that says what is missing where adb-shell or cryptography cannot be imported."""
    try:
        import adb_shell.auth.keygen  # noqa: F401
    except ImportError as error:
        raise not_installed(error) from None


def not_installed(error: ImportError, package: str = "adb-shell", extra: str = "adb") -> RuntimeMissing:
    """Return the error for a package of this computer that reaching a phone needs."""
    return RuntimeMissing(
        f"reaching an Android device needs the package {package!r}, which {sys.executable} cannot import ({error}); "
        f"install it with pip install 'elastic-latency[{extra}]', or go through the adb program with an address such as server:SERIAL"
    )
