"""Latency tables in other tools' files, by name of the format: bytes in, bytes out.

A format says what of a table it cannot hold. Reading takes nothing on trust: whatever a file holds ends as a table or as
a `TableFileError`.
"""

from __future__ import annotations

import importlib
from dataclasses import fields

from luts.formats.base import TableFormat

FORMATS = {
    "ofa-yaml": "luts.formats.ofa_yaml:OfaYaml",
    "proxyless-yaml": "luts.formats.proxyless_yaml:ProxylessYaml",
    "csv": "luts.formats.csv_file:CsvFile",
    "parquet": "luts.formats.parquet_file:ParquetFile",
    "json": "luts.formats.json_file:JsonFile",
}


class UnknownFormatError(KeyError):
    """No format has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def create(name: str, **options: str) -> TableFormat:
    """Return the format of this name, with its options where it has some.

    Raises:
        UnknownFormatError: no format has that name.
        ValueError: the format has no such option, or the option no such value.
    """
    if name not in FORMATS:
        raise UnknownFormatError(f"unknown format {name!r}; known formats: {', '.join(FORMATS)}")
    module, _, attribute = FORMATS[name].partition(":")
    kind: type[TableFormat] = getattr(importlib.import_module(module), attribute)
    known = [field.name for field in fields(kind)]
    for option in options:
        if option not in known:
            raise ValueError(f"format {name!r} has no option {option!r}; {'its options are ' + ', '.join(known) if known else 'it has none'}")
    return kind(**options)
