"""Packs `on_device` into one executable file, which is what runs on every device, this machine included.

The folder goes under a private package name, so that nothing of a device's own can be mistaken for it, and imports of
ours fail there as they must.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

ON_DEVICE = Path(__file__).parent / "on_device"
PACKAGE = "_elastic_latency_on_device"
MAIN = f"from {PACKAGE}.worker import main\nmain()\n"
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal sources are equal archives


def pack(folder: Path = ON_DEVICE) -> bytes:
    """Return an archive that `python -I` runs as a worker, made of the folder's modules."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", TIMESTAMP), MAIN)
        for source in sorted(folder.glob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"{PACKAGE}/{source.name}", TIMESTAMP), source.read_bytes())
    return packed.getvalue()
