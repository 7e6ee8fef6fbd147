"""Reading and writing small files: whole or not at all, with one sentence where a file is not what it should be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from supernets import strict_json
from supernets.atomic_file import write_whole


class FileKindError(ValueError):
    """A file of another kind than the command needs."""


def refuse_folder(path: Path, expected: str, suffix: str = "") -> None:
    """Do nothing where the path is no folder; the text names a file in there that ends as the expected one does.

    Raises:
        FileKindError: it is a folder.
    """
    if path.is_dir():
        inside = min(path.glob(f"*{suffix}"), default=None) if suffix else None
        raise FileKindError(f"{path} is a folder; expected {expected}{'' if inside is None else f', such as {inside}'}")


def read_json(path: Path) -> Any:
    """Return what the JSON file holds.

    Raises:
        FileNotFoundError: there is no such file.
        FileKindError: it is not JSON, or a folder.
    """
    refuse_folder(path, "a JSON file", ".json")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; expected a JSON file")
    try:
        return strict_json.parse(path.read_bytes())
    except ValueError as error:
        raise FileKindError(f"{path} is not a JSON file ({error}); expected one written by profiler") from None


def write_json(path: Path, data: Any) -> None:
    """Write `data` as indented JSON."""
    write_whole(path, (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read()).hexdigest()
