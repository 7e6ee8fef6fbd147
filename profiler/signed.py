"""Shares with their sign, as text for terminals; what rounds to zero has no minus."""

from __future__ import annotations


def signed_percent(share: float) -> str:
    """Return a share such as 0.051 as `+5.1%`."""
    return f"{round(share, 3) + 0.0:+.1%}"
