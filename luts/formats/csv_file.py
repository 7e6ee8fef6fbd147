"""CSV: a header and one row a block, UTF-8; figures are written so that the same numbers come back."""

from __future__ import annotations

import csv
import io
from typing import ClassVar

from luts.formats.base import MOST_ROWS, TableContent, TableFileError, TableFormat, decoded_text
from luts.formats.rows import COLUMNS, content_of_rows, networks_not_held, rows
from luts.table import LatencyTable


class CsvFile(TableFormat):
    """One table in one CSV file."""

    suffix: ClassVar[str] = ".csv"

    def not_held(self, table: LatencyTable) -> list[str]:
        """Return what of the table the format cannot hold."""
        return networks_not_held(table)

    def encode(self, table: LatencyTable) -> bytes:
        """Return the table's file."""
        out = io.StringIO()
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(table))
        return out.getvalue().encode()

    def decode(self, content: bytes) -> TableContent:
        """Return what a file holds.

        Raises:
            TableFileError: it is no such file.
        """
        found: list[dict[str, str]] = []
        try:
            for row in csv.DictReader(io.StringIO(decoded_text(content), newline=""), strict=True):
                if None in row or None in row.values():
                    raise TableFileError(f"row {len(found) + 1} has not as many values as the header has names")
                found.append(row)
                if len(found) > MOST_ROWS:
                    raise TableFileError(f"it has more than {MOST_ROWS} rows")
        except csv.Error as error:
            raise TableFileError(f"row {len(found) + 1} is no CSV: {error}") from None
        return content_of_rows(found)
