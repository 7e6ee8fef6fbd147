"""`profiler import-ofa`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from profiler.cli.options import AsJson, BadOptionError, typed


def _known_space(name: str | None) -> str | None:
    from supernets.spaces import space

    if name is not None:
        with typed():
            space(name)
    return name


def _absent(path: Path) -> Path:
    if path.exists():
        raise BadOptionError(f"--out {path} is there already; give a name that is not")
    return path


def command(
    file: Annotated[Path, typer.Argument(help="Published file: a supernet's weights, an accuracy predictor, or a network's net.config.")],
    out: Annotated[Path, typer.Option("--out", callback=_absent, help="File to write, or folder of a predictor.")],
    space: Annotated[str | None, typer.Option("--space", callback=_known_space, help="Its space; found by its shapes by default.")] = None,
    resolution: Annotated[int | None, typer.Option("--resolution", min=1, help="Input side of a net.config, which does not say it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a file of Once-for-All's authors one of this program; every tensor is checked, and nothing in it is executed.

    \b
    Example: profiler import-ofa ofa_mbv3_d234_e346_k357_w1.2 --out supernet.safetensors
    """
    from profiler.cli.output import print_json, say
    from profiler.ofa_importing import import_ofa

    imported = import_ofa(file, out, space, resolution)
    if as_json:
        print_json(imported.to_dict())
    else:
        say(imported.sentence())
