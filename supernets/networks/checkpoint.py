"""Files of trained supernets: safetensors with the metadata that says what they are; written whole or not at all.

Metadata is one JSON mapping in the file's header, under the key `supernets`. `kind`, `space`, `kernel_transform` and, where the
tensors are one network's alone, `network` are this file's; the rest is what the writer adds (seed, recipe, data, command …).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supernets import spaces, strict_json
from supernets.atomic_file import write_whole
from supernets.networks.branched import BranchedSupernet
from supernets.networks.branches import has_branches
from supernets.networks.supernet import Supernet
from supernets.space import Architecture, ArchitectureError, SearchSpace

KIND = "elastic-latency supernet"
HEADER_KEY = "supernets"
LEAST_SCALE = 1e-6  # of weights before norms; its square divides learning rates


class CheckpointError(ValueError):
    """A file of weights that is not what it should be; the text names the file and the first thing that differs."""


def save_supernet(path: str | Path, supernet: Supernet, metadata: Mapping[str, Any] | None = None) -> None:
    """Write the supernet's tensors and metadata; of a space restricted to one network, the file says which one.

    Raises:
        ValueError: the metadata gives a key that this function sets; or the supernet is of a restricted space of several networks and lacks
            tensors of the whole one, which the file's space would promise.
        OSError: the file cannot be written.
    """
    network = _only_network(supernet.space)
    if network is None:
        _refuse_restricted(supernet.space)
    own = {"kind": KIND, "space": supernet.space.name, "kernel_transform": supernet.kernel_transform}
    own |= {} if network is None else {"network": network.to_dict()}
    taken = sorted({*own, "network"} & set(metadata or {}))
    if taken:
        raise ValueError(f"metadata of a supernet cannot set {taken[0]!r}; it is taken from the supernet itself")
    write_tensors(path, {name: tensor.detach() for name, tensor in supernet.tensors().items()}, {**own, **(metadata or {})})


def _only_network(space: SearchSpace) -> Architecture | None:
    restricted = any(choice.allowed != choice.values for choice in space.choices)
    return space.largest() if restricted and space.size() == 1 else None


def _refuse_restricted(space: SearchSpace) -> None:
    for choice in space.choices:
        shaping = {"resolution": (), "kernel_size": (choice.values[0], choice.values[-1])}.get(choice.kind, choice.values[-1:])
        if not set(shaping) <= set(choice.allowed):
            raise ValueError(
                f"a supernet restricted to {choice.name!r} of {list(choice.allowed)} cannot be saved: its file would be taken for space "
                f"{space.name!r} as a whole; save a supernet of that"
            )


def load_supernet(path: str | Path) -> Supernet:
    """Return the supernet of a file that `save_supernet` wrote, ready to slice; one network's alone is of a space restricted to it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is of another kind, or a tensor is missing, too much, or of another shape.
        UnknownSpaceError: its space is not known here.
    """
    tensors, metadata = read_tensors(path, KIND)
    for key, kind in (("space", str), ("kernel_transform", bool)):
        if not isinstance(metadata.get(key), kind):
            raise CheckpointError(f"metadata {key!r} of file {str(path)!r} is {metadata.get(key)!r}; expected a value of type {kind.__name__}")
    _refuse_facts(path, metadata)
    supernet = _empty(_space_of(path, metadata), metadata)
    check_tensors(path, tensors, supernet.tensors())
    with torch.no_grad():
        for name, tensor in supernet.tensors().items():
            tensor.copy_(tensors[name])
    return supernet


def _refuse_facts(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Check what only some files say: the scale of weights before norms, and whether branches have weights of their own."""
    scale, own = metadata.get("weight_scale", 1.0), metadata.get("own_branch_weights", False)
    if not (isinstance(scale, (int, float)) and not isinstance(scale, bool) and LEAST_SCALE <= scale <= 1 / LEAST_SCALE):
        raise CheckpointError(f"metadata 'weight_scale' of file {str(path)!r} is {scale!r}; expected a number above 0, such as 1")
    if not isinstance(own, bool):
        raise CheckpointError(f"metadata 'own_branch_weights' of file {str(path)!r} is {own!r}; expected true or false")


def _empty(space: SearchSpace, metadata: Mapping[str, Any]) -> Supernet:
    if not has_branches(space):
        return Supernet(space, metadata["kernel_transform"])
    return BranchedSupernet(space, metadata.get("own_branch_weights") is True, metadata["kernel_transform"])


def _space_of(path: str | Path, metadata: Mapping[str, Any]) -> SearchSpace:
    try:
        space = spaces.space(metadata["space"])
        return space.only(Architecture.from_dict(metadata["network"])) if "network" in metadata else space
    except ArchitectureError as error:
        raise CheckpointError(f"file {str(path)!r} is of a network that is none: {error}") from None
    except spaces.UnknownSpaceError as error:
        raise spaces.UnknownSpaceError(f"file {str(path)!r} is of a space that is not known here: {error}") from None
    except ValueError as error:
        raise CheckpointError(f"file {str(path)!r} is of a space that is none: {error}") from None


def supernet_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a supernet's file without reading its tensors.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is of another kind.
    """
    return read_metadata(path, KIND)


def supernet_space(path: str | Path) -> SearchSpace:
    """Return the space of a supernet's file, restricted to one network if it holds that one's tensors alone; raises what `load_supernet` does."""
    return _space_of(path, supernet_metadata(path))


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and metadata (with its `kind`) as safetensors.

    Raises:
        OSError: the file cannot be written.
    """
    save = _safetensors().torch.save
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {HEADER_KEY: json.dumps(metadata, sort_keys=True)})
    write_whole(path, data)


def read_metadata(path: str | Path, kind: str) -> dict[str, Any]:
    """Return the metadata of a file that `write_tensors` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is no safetensors file, or of another kind.
    """
    return _open(path, kind, lambda file: None)[1]


def read_tensors(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a file that `write_tensors` wrote; raises what `read_metadata` does."""
    return _open(path, kind, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def check_tensors(path: str | Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check names, shapes and numbers.

    Raises:
        CheckpointError: a tensor is missing, too much, of another shape or type, or holds what is no finite number.
    """
    missing, strange = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or strange:
        what = f"lacks the tensor {missing[0]!r}" if missing else f"holds the tensor {strange[0]!r}, which its space does not have"
        raise CheckpointError(f"file {str(path)!r} {what} ({len(missing)} missing, {len(strange)} too many); expected exactly its space's tensors")
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            have, need = (f"{str(t.dtype).removeprefix('torch.')} of shape {tuple(t.shape)}" for t in (tensors[name], tensor))
            raise CheckpointError(f"tensor {name!r} of file {str(path)!r} is {have}; expected {need}")
        if not tensors[name].isfinite().all():
            raise CheckpointError(f"tensor {name!r} of file {str(path)!r} holds infinity or NaN; expected finite numbers, so fetch or train it again")


def _open(path: str | Path, kind: str, read: Any) -> tuple[Any, dict[str, Any]]:
    safetensors = _safetensors()
    if not Path(path).is_file():
        raise FileNotFoundError(f"file {str(path)!r} was not found; expected a file of kind {kind!r}")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = strict_json.parse((file.metadata() or {}).get(HEADER_KEY, "{}").encode())
            found = metadata.get("kind") if isinstance(metadata, dict) else None
            if found != kind:
                raise CheckpointError(f"file {str(path)!r} is of kind {found!r}; expected {kind!r}")
            return read(file), metadata
    except CheckpointError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"file {str(path)!r} cannot be read ({error}); expected safetensors of kind {kind!r}") from error


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError("files of weights need the package 'safetensors'; install it with pip install 'elastic-latency[train]'") from error
    return safetensors
