"""Packs `on_device` into one executable file, which is what runs on every device, this machine included.

The folder keeps its name, in a package that holds nothing else: what is packed comes first on the device's path, so nothing
of a device's own can be mistaken for it, and imports of ours fail there as they must. A runtime of another package is one
more file in that folder: its module, under a name of its own, which may import from `device_agents.on_device`.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from device_agents.on_device.plug_ins import plug_ins

ON_DEVICE = Path(__file__).parent / "on_device"
PACKAGE = "device_agents.on_device"
MAIN = f"from {PACKAGE}.worker import main\nmain()\n"
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal sources are equal archives
PLUG_INS = "plug_ins.py"  # of the folder: what it says of this machine is replaced by what is shipped


def pack(folder: Path = ON_DEVICE) -> bytes:
    """Return an archive that `python -I` runs as a worker, made of the folder's modules and the runtimes of installed plug-ins."""
    home = PACKAGE.replace(".", "/")
    files = {f"{home}/{source.name}": source.read_bytes() for source in folder.glob("*.py")}
    shipped, modules = _shipped(plug_ins())
    files |= {f"{home}/{name}": content for name, content in modules.items()}
    files[f"{home}/{PLUG_INS}"] = f"def plug_ins():\n    return {shipped!r}\n".encode()
    files |= {"__main__.py": MAIN.encode(), "device_agents/__init__.py": b""}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, TIMESTAMP), files[name])
    return packed.getvalue()


def _shipped(found: Mapping[str, str]) -> tuple[dict[str, str], dict[str, bytes]]:
    """Return the plug-ins by name as the worker finds them, and their files by name; what has no file here is left out.

    Who asks for such a one is told so before anything is packed: its class cannot be imported here either.
    """
    targets: dict[str, str] = {}
    files: dict[str, bytes] = {}
    for name, target in sorted(found.items()):
        module, _, class_name = target.partition(":")
        source = source_of(module)
        if source is not None:
            stem = "plug_in_" + re.sub(r"\W", "_", module)
            files[f"{stem}.py"] = source.read_bytes()
            targets[name] = f".{stem}:{class_name}"
    return targets, files


def source_of(module: str) -> Path | None:
    """Return the file of a module, found without importing it or the packages it is in; None where it has none."""
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:
        return None
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    source = None if spec is None or spec.origin is None else Path(spec.origin)
    return source if source is not None and source.suffix == ".py" and source.is_file() else None
