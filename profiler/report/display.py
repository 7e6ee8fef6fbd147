"""How numbers are written on a report: four digits at most, a unit beside each, a dash where there is none."""

from __future__ import annotations

import math

NARROW_SPACE = "\u202f"  # between a number and its unit: no line break comes between them
MINUS = "\u2212"
NOTHING = "\u2013"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _signed(text: str) -> str:
    return text.replace("-", MINUS)


def decimals(value: float | None, digits: int = 3) -> str:
    """Return a plain number with this many decimals."""
    return _signed(f"{value:.{digits}f}") if value is not None and math.isfinite(value) else NOTHING


def ms(value: float | None) -> str:
    """Return milliseconds with four digits, no unit."""
    if value is None or not math.isfinite(value):
        return NOTHING
    size = abs(value)
    return decimals(value, 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4)


def with_ms(value: float | None) -> str:
    """Return milliseconds with their unit."""
    return f"{ms(value)}{NARROW_SPACE}ms" if _known(value) else NOTHING


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share of one in per cent."""
    return f"{decimals(100 * share, digits)}{NARROW_SPACE}%" if share is not None and math.isfinite(share) else NOTHING


def signed_percent(share: float | None, digits: int = 1) -> str:
    """Return a difference in per cent, its sign always written; what rounds to zero has no minus."""
    return _signed(f"{round(100 * share, digits) + 0.0:+.{digits}f}{NARROW_SPACE}%") if share is not None and math.isfinite(share) else NOTHING


def accuracy(share: float | None) -> str:
    """Return an accuracy in per cent with two decimals."""
    return percent(share, 2)


def points(share: float | None) -> str:
    """Return a difference of accuracies in percentage points, no unit."""
    return decimals(100 * share, 2) if share is not None else NOTHING


def count(value: float | None) -> str:
    """Return a whole number, thousands apart."""
    return f"{value:,.0f}" if value is not None and math.isfinite(value) else NOTHING


def amount(value: float | None) -> str:
    """Return a large count with four digits and k, M, G or T."""
    if value is None or not math.isfinite(value):
        return NOTHING
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:.{1 if scaled >= 100 else 2}f}{NARROW_SPACE}{letter}"
    return f"{value:g}"


def file_size(size_bytes: float | None) -> str:
    """Return a size in bytes, kB or MB (powers of ten)."""
    if size_bytes is None:
        return NOTHING
    for factor, unit in ((1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f}{NARROW_SPACE}{unit}"
    return f"{size_bytes:.0f}{NARROW_SPACE}bytes"
