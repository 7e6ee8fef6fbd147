"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Sequence

from profiler.cli.output import print_table
from profiler.subnet import Verification


def print_verifications(verifications: Sequence[Verification]) -> None:
    """Print predicted against measured latency, the budget, and whether it is kept."""
    kept = {True: "kept", False: "MISSED", None: "no budget"}
    print_table(
        "Verification on the device (latency of one image, milliseconds)",
        ("model", "runtime", "predicted", "measured", "off by", "budget", "verdict"),
        [(v.format, f"{v.condition.get('runtime')} {v.condition.get('runtime_version')}", _ms(v.predicted_latency_ms), _ms(v.measured_latency_ms),
          _off(v), _ms(v.max_latency_ms), kept[v.kept]) for v in verifications],
    )  # fmt: skip


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _off(verification: Verification) -> str:
    if verification.predicted_latency_ms is None:
        return "-"
    return f"{verification.predicted_latency_ms / verification.measured_latency_ms - 1:+.1%}"
