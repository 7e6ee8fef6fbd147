"""Parquet: one row a block, with the columns of CSV in their own types."""

from __future__ import annotations

import io
from typing import Any, ClassVar

from luts.formats.base import MOST_ROWS, TableContent, TableFileError, TableFormat
from luts.formats.rows import COLUMNS, content_of_rows, networks_not_held, rows
from luts.table import LatencyTable

MOST_BYTES = 2**30  # unpacked: a small file may pack a very large one


class ParquetFile(TableFormat):
    """One table in one Parquet file."""

    suffix: ClassVar[str] = ".parquet"

    def not_held(self, table: LatencyTable) -> list[str]:
        """Return what of the table the format cannot hold."""
        return networks_not_held(table)

    def encode(self, table: LatencyTable) -> bytes:
        """Return the table's file."""
        arrow, parquet = _pyarrow()
        of_spread = arrow.array([entry.relative_spread for entry in table.entries.values()], arrow.float64())
        arrays = {name: [row[name] for row in rows(table)] for name in COLUMNS}
        out = io.BytesIO()
        parquet.write_table(arrow.table({**arrays, "relative_spread": of_spread}), out)
        return out.getvalue()

    def decode(self, content: bytes) -> TableContent:
        """Return what a file holds.

        Raises:
            TableFileError: it is no such file.
        """
        arrow, parquet = _pyarrow()
        try:
            file = parquet.ParquetFile(io.BytesIO(content))
            unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            if file.metadata.num_rows > MOST_ROWS or unpacked > MOST_BYTES:
                raise TableFileError(f"it has {file.metadata.num_rows} rows in {unpacked} bytes; expected at most {MOST_ROWS} in {MOST_BYTES}")
            found = file.read().to_pylist()
        except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise TableFileError(f"it is no Parquet file: {error}") from None
        return content_of_rows(found)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("Parquet files need the package 'pyarrow'; install it with pip install 'elastic-latency[tables]'") from error
    return pyarrow, parquet
