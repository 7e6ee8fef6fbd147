"""Making a table file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_table_file(out: Path) -> Iterator[Path]:
    """Yield a path to write to, beside `out`, which becomes `out` once all is well.

    Raises:
        FileExistsError: there is a file already.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already; give another file with --out, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem[:40]}.") as folder:
        path = Path(folder, "table.lut")
        yield path
        os.replace(path, out)
