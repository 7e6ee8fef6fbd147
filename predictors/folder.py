"""Saved predictors: a folder with `predictor.json` and its arrays (`arrays.npz`) or trees (`trees.ubj`); no pickle anywhere.

The JSON names the space and spells out its choices, so a folder is refused by a space whose codes mean something else,
and holds a SHA-256 of each file beside it, so halves of two savings are never read together.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from supernets import spaces, strict_json
from supernets.atomic_file import write_whole
from supernets.space import Choice, SearchSpace

Arrays = Mapping[str, np.ndarray[Any, Any]]

# 1: first version.
FORMAT_VERSION = 1
DESCRIPTION_FILE = "predictor.json"
ARRAYS_FILE = "arrays.npz"


# What each field of the description is in JSON.
KINDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,), "space": (dict,), "settings": (dict,), "quality": (dict, type(None)), "condition": (dict, type(None)), "files": (dict,),
}  # fmt: skip


class PredictorFileError(ValueError):
    """A folder that holds no predictor, a damaged one, or one of another kind, version or space."""


@dataclass(frozen=True)
class Description:
    """What `predictor.json` says; `settings` are the predictor's own, `files` the SHA-256 of each file beside it."""

    family: str  # latency or accuracy
    name: str
    space: Mapping[str, Any]
    settings: Mapping[str, Any]
    quality: Mapping[str, Any] | None = None
    condition: Mapping[str, Any] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def write(folder: str | Path, description: Description, files: Mapping[str, bytes]) -> None:
    """Write a predictor into a folder, made if needed; an older one there is replaced."""
    folder = Path(folder)
    for name, content in files.items():
        write_whole(folder / name, content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    text = json.dumps({**asdict(description), "files": digests}, indent=1, allow_nan=False, default=_plain)
    write_whole(folder / DESCRIPTION_FILE, text.encode() + b"\n")


def _plain(value: Any) -> Any:
    """Return numpy's numbers and arrays as JSON has them; settings found by a search over them are such."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{value!r} cannot be saved in {DESCRIPTION_FILE}; expected numbers, texts, or lists of them")


def read(folder: str | Path, family: str) -> Description:
    """Return what a folder says about its predictor.

    Raises:
        FileNotFoundError: the folder holds no `predictor.json`.
        PredictorFileError: that file is damaged, of another version, or of another family of predictors.
    """
    path = Path(folder) / DESCRIPTION_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no predictor: there is no {DESCRIPTION_FILE} in it; `profiler fit {family}` writes one")
    try:
        values = strict_json.parse(path.read_bytes())
    except ValueError as error:
        raise PredictorFileError(f"{path} is not JSON: {error}; fit the predictor again") from None
    if not isinstance(values, dict) or set(values) != {f.name for f in fields(Description)}:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise PredictorFileError(f"{path} holds {found}; expected {', '.join(f.name for f in fields(Description))}; fit the predictor again")
    if values["format_version"] != FORMAT_VERSION:
        raise PredictorFileError(f"{path} has format version {values['format_version']!r}; this version reads {FORMAT_VERSION}")
    if values["family"] != family:
        found = values["family"]
        raise PredictorFileError(f"{folder} holds a predictor of {found}, not of {family}; give a folder that `profiler fit {family}` wrote")
    for name, kinds in KINDS.items():
        if not isinstance(values[name], kinds):
            raise PredictorFileError(f"{path} is damaged: its {name!r} is a {type(values[name]).__name__}; fit the predictor again")
    return Description(**values)


def read_file(folder: str | Path, description: Description, name: str) -> bytes:
    """Return the content of one of the predictor's files.

    Raises:
        PredictorFileError: it is absent, or not the one saved with the description.
    """
    path = Path(folder) / name
    if name not in description.files or not path.is_file():
        raise PredictorFileError(f"{folder} lacks the file {name} of predictor {description.name!r}; fit the predictor again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != description.files[name]:
        raise PredictorFileError(f"{path} is not the file that {DESCRIPTION_FILE} was saved with; fit the predictor again")
    return content


def damaged(folder: str | Path, error: Exception) -> PredictorFileError:
    """Return the error for a predictor whose description or arrays lack something."""
    return PredictorFileError(f"the predictor in {folder} is damaged ({type(error).__name__}: {error}); fit it again")


def packed_arrays(arrays: Arrays) -> bytes:
    """Return arrays as the bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpacked_arrays(content: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays in the bytes of an npz file; objects inside are refused, never unpickled.

    Raises:
        PredictorFileError: it is no such file, or holds objects.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise PredictorFileError(f"{ARRAYS_FILE} of a predictor cannot be read: {error}; fit the predictor again") from error


def space_to_dict(space: SearchSpace) -> dict[str, Any]:
    """Return a space's name and all its choices as a JSON-serialisable mapping."""
    return {"name": space.name, "choices": [_choice_to_dict(choice) for choice in space.choices]}


def _choice_to_dict(choice: Choice) -> dict[str, Any]:
    return {
        "name": choice.name, "values": list(choice.values), "depends_on": choice.depends_on, "on_for": list(choice.on_for),
        "allowed": list(choice.allowed),
    }  # fmt: skip


def _choice_from_dict(saved: Mapping[str, Any]) -> Choice:
    try:
        return Choice(saved["name"], tuple(saved["values"]), saved["depends_on"], tuple(saved["on_for"]), tuple(saved["allowed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PredictorFileError(f"a choice in {DESCRIPTION_FILE} is damaged ({error}); fit the predictor again") from None


def _space_of(name: str) -> SearchSpace:
    try:
        return spaces.space(name)
    except ValueError as error:
        raise PredictorFileError(f"the space in {DESCRIPTION_FILE} is damaged ({error}); fit the predictor again") from None


def restored_space(saved: Mapping[str, Any], given: SearchSpace | None = None) -> SearchSpace:
    """Return the space a predictor was fitted for, restricted as it was: found by its name, or made from the one given.

    Raises:
        PredictorFileError: the space given has another name, or a choice of the space is not what it was.
        UnknownSpaceError: no space was given, and none has that name.
    """
    if set(saved) != {"name", "choices"} or not isinstance(saved["choices"], list) or not isinstance(saved["name"], str):
        raise PredictorFileError(f"the space in {DESCRIPTION_FILE} is damaged; fit the predictor again")
    if given is not None and given.name != saved["name"]:
        raise PredictorFileError(f"the predictor was fitted for space {saved['name']!r} but space {given.name!r} was given; use its own space")
    space = _space_of(saved["name"]) if given is None else given
    choices = tuple(_choice_from_dict(choice) for choice in saved["choices"])
    if len(space.choices) != len(choices):
        raise PredictorFileError(
            f"space {space.name!r} has {len(space.choices)} choices, but the predictor was fitted for {len(choices)}; fit it again"
        )
    for now, before in zip(space.choices, choices, strict=True):
        if replace(now, allowed=()) != replace(before, allowed=()):
            raise PredictorFileError(f"choice {now.name!r} of space {space.name!r} is not what the predictor was fitted for; fit it again")
    return replace(space, choices=choices)
