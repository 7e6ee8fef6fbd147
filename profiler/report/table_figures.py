"""The figures of a latency table: what each draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from profiler.measuring.stopping import ACCEPTED, TARGET
from profiler.report.drawing import NARROW, NARROW_LOW, WIDE, WIDE_LOW, dashes, labels, ticks
from profiler.report.kinds import BlockKinds, Curve
from profiler.report.staircase import Staircase
from profiler.report.svg import COLOURS, FONT_PX, Size, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDELY = 4.0  # ratios that spread further than this are drawn on a scale of doublings
SMALL = Size(340, 200), Size(340, 200)
MARKS = {"ink": "D", "faint": "o", "first": "o", "second": "s"}  # of the curves of each colour: told apart by form too


def shown_curves(found: BlockKinds) -> list[tuple[str, Curve]]:
    """Return colour and curve of the kinds drawn: of many, those of the largest values."""
    curves = found.curves[-len(MARKS) :]
    return list(zip(list(MARKS)[-len(curves) :], curves, strict=True))


def kinds_figure(found: BlockKinds, origin: str, description: str) -> str:
    """Return the time a multiply-add takes over the input side, a curve for each value of the property that changes it the most."""

    def draw(axes: Axes, size: Size) -> None:
        for colour, curve in shown_curves(found):
            axes.plot(curve.sides, curve.ns_a_mac, **_curve(colour))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.set_ylim(bottom=0)
        labels(axes, "Input side of the block, pixels", f"Nanoseconds a MAC, median, {origin}")
        axes.locator_params(axis="y", nbins=6)

    return figure(draw, "kinds", "Time a multiply-add takes by kind of block", description, WIDE, NARROW)


def staircase_figure(found: Staircase, description: str) -> str:
    """Return the latency of fixed architectures over the resolution, as a share of that at the largest one, with the pixels' share."""
    sides = np.array(found.resolutions)

    def draw(axes: Axes, size: Size) -> None:
        axes.plot(sides, 100 * (sides / sides[-1]) ** 2, **dashes("ink"))
        for network, colour in zip(found.networks, ("faint", "second", "first"), strict=True):
            axes.plot(sides, 100 * np.array(network.latencies_ms) / network.latencies_ms[-1], **_curve(colour))
        labels(axes, "Resolution, pixels a side", f"Latency in % of that at {sides[-1]} pixels")
        ticks(axes, size)

    return figure(draw, "staircase", "Latency over the resolution", description, WIDE, NARROW)


def intervals_figure(intervals: Sequence[float], description: str) -> str:
    """Return the share of blocks that are known to each relative interval or better."""
    percents = 100 * np.array(intervals)

    def draw(axes: Axes, size: Size) -> None:
        axes.step(percents, 100 * np.arange(1, len(percents) + 1) / len(percents), where="post", color=COLOURS["first"], linewidth=1.75)
        for limit in (TARGET, ACCEPTED):
            axes.axvline(100 * limit, **dashes("ink"))
            axes.annotate(f"{limit:.0%}", (100 * limit, 0), (4, 4), textcoords="offset points", fontsize=FONT_PX, color=COLOURS["ink"])
        axes.set(xlim=(0, 1.05 * max(percents[-1], 100 * ACCEPTED)), ylim=(0, 102))
        labels(axes, "Half-width of the 95 % interval, ± %", "Blocks known to that or better, %")
        ticks(axes, size)

    return figure(draw, "intervals", "How well each block is known", description, WIDE_LOW, NARROW_LOW)


def anchor_figure(levels: Sequence[tuple[int, float]], description: str) -> str:
    """Return how much slower the anchor block was in each round than in the fastest."""
    rounds, slower = [number for number, _ in levels], [100 * (level - 1) for _, level in levels]

    def draw(axes: Axes, size: Size) -> None:
        axes.plot(rounds, slower, **_curve("first"))
        axes.set_ylim(bottom=0, top=max(1.0, 1.15 * max(slower)))
        labels(axes, "Round", "Anchor block, % slower than in its fastest round")
        axes.locator_params(axis="x", nbins=5, integer=True)
        axes.locator_params(axis="y", nbins=4)

    return figure(draw, "anchor", "Drift of the anchor block", description, *SMALL)


def calibration_figure(measured_ms: Sequence[float], before_ms: Sequence[float], after_ms: Sequence[float], origin: str, description: str) -> str:
    """Return how far the sum of blocks is off before and after calibration, over the latency of each held-out network."""
    measured = np.array(measured_ms)

    def draw(axes: Axes, size: Size) -> None:
        axes.axhline(0, color=COLOURS["ink"], linewidth=1.25)
        axes.scatter(measured, 100 * (np.array(before_ms) / measured - 1), s=24, marker="s", color=COLOURS["faint"], linewidths=0, zorder=3)
        axes.scatter(measured, 100 * (np.array(after_ms) / measured - 1), s=28, color=COLOURS["first"], alpha=0.8, linewidths=0, zorder=3)
        labels(axes, f"Latency in ms, {origin}", "Predicted − measured, %")
        ticks(axes, size)

    return figure(draw, "calibration", "Error of the sum of blocks before and after calibration", description, WIDE_LOW, NARROW_LOW)


def ratios_figure(ratios: Sequence[float], description: str) -> str:
    """Return the share of blocks whose ratio of latencies, in ascending order, is up to each value."""

    def draw(axes: Axes, size: Size) -> None:
        axes.step(ratios, 100 * np.arange(1, len(ratios) + 1) / len(ratios), where="post", color=COLOURS["first"], linewidth=1.75)
        axes.axvline(1, color=COLOURS["ink"], linewidth=1.25)
        axes.axvline(float(np.median(ratios)), **dashes("ink"))
        if ratios[-1] > WIDELY * ratios[0]:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.set_ylim(0, 102)
        labels(axes, "Latency of the second table by that of the first", "Blocks up to that ratio, %")

    return figure(draw, "ratios", "Ratios of the blocks' latencies", description, WIDE_LOW, NARROW_LOW)


def _curve(colour: str) -> dict[str, Any]:
    return {"color": COLOURS[colour], "marker": MARKS[colour], "markersize": 4, "linewidth": 1.25}
