"""Files that Once-for-All's authors published → files of this program: supernets, accuracy predictors, descriptions of networks.

Which of them a file is, its content says. Nothing in it is executed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.files import refuse_folder, sha256_of
from profiler.subnet import record_of, write_subnet
from supernets import strict_json

SUPERNET, PREDICTOR, SUBNET = "supernet", "accuracy predictor", "subnet"


@dataclass(frozen=True)
class Imported:
    """What a file was, of which space, and what was written."""

    kind: str
    space: str
    out: Path

    def sentence(self) -> str:
        """Return what can be done with it, for people."""
        then = {
            SUPERNET: f"`profiler sample --weights {self.out} --images FOLDER` measures the accuracies of its subnets",
            PREDICTOR: f"`predictors.accuracy.load({str(self.out)!r})` predicts with it",
            SUBNET: f"`profiler export --subnet {self.out} --weights SUPERNET` writes its models",
        }[self.kind]
        return f"{self.out} is the {self.kind} of space {self.space}; {then}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping."""
        return {"kind": self.kind, "space": self.space, "out": str(self.out)}


def import_ofa(file: Path, out: Path, space_name: str | None = None, resolution: int | None = None) -> Imported:
    """Write what a published file holds: weights into file `out`, a predictor into folder `out`, a subnet file `out`.

    The space is found by what the file holds unless one is given; `resolution` is needed for a network's description (`net.config`), which has none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of these, or a damaged one; the text names the tensor, or the block, that is not as it should be.
    """
    refuse_folder(file, "a file that Once-for-All's authors published")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; expected one that Once-for-All's authors published")
    if file.suffix == ".safetensors":
        raise ValueError(f"{file} is a .safetensors file, as this program writes its own, which need no import; expected one that torch wrote")
    description = _description(file)
    if description is not None:
        return _subnet(file, description, out, space_name, resolution)
    from supernets.networks.ofa_checkpoint import read_state_dict

    names = set(read_state_dict(file))
    if names & {"base_acc", "0.weight"}:
        from predictors.accuracy.ofa_mlp import OfaMlpAccuracy

        predictor = OfaMlpAccuracy.from_file(file, space_name)
        predictor.save(out)
        return Imported(PREDICTOR, predictor.space_name, out)
    return _supernet(file, out, space_name)


def _description(file: Path) -> Any:
    """Return what a JSON file says; None for a file that is none."""
    with file.open("rb") as opened:
        if opened.read(64).lstrip()[:1] != b"{":
            return None
    try:
        return strict_json.parse(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not a JSON file ({error}); expected a `net.config` that Once-for-All's authors published") from None


def _subnet(file: Path, description: Any, out: Path, space_name: str | None, resolution: int | None) -> Imported:
    from supernets.spaces import space
    from supernets.spaces.ofa_net_config import from_net_config

    if resolution is None:
        raise ValueError(f"{file} describes a network, and not its resolution; give it with --resolution (image_size in run.config beside it)")
    named = None if space_name is None else space(space_name)
    try:
        architecture = from_net_config(description, resolution, named)
    except ValueError as error:
        raise ValueError(f"file {str(file)!r} cannot be imported: {error}") from error
    write_subnet(out, record_of(architecture))
    return Imported(SUBNET, architecture.space, out)


def _supernet(file: Path, out: Path, space_name: str | None) -> Imported:
    from supernets.networks.checkpoint import save_supernet
    from supernets.networks.ofa_checkpoint import load_ofa_checkpoint
    from supernets.spaces import space

    found = load_ofa_checkpoint(file, None if space_name is None else space(space_name))
    provenance = {"published_by": "https://github.com/mit-han-lab/once-for-all", "file": file.name, "sha256": sha256_of(file)}
    scale = {} if found.weight_scale == 1.0 else {"weight_scale": found.weight_scale}
    save_supernet(out, found.supernet(), {"provenance": provenance, **scale})
    return Imported(SUPERNET, found.space.name, out)
