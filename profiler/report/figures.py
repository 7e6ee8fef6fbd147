"""The figures of networks and of a search: what each draws. Labels from data are never read as formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from profiler.report.data import AccuracyLatency, BlockRow, HeldOut, MacsLatency, SearchPoint
from profiler.report.drawing import NARROW, NARROW_LOW, NARROW_SQUARE, WIDE, WIDE_LOW, WIDE_SQUARE, dashes, diamond, dots, labels, ticks
from profiler.report.svg import COLOURS, FONT_PX, Size, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = 0.05  # relative error that the band around the identity line shows
BLOCK_ROW_PX = 23
LONGEST_LABEL = 22  # letters of a block's name on an axis: more would leave no room for the bars on a narrow page


def macs_latency_figure(data: MacsLatency, chosen: tuple[float, float] | None, origin: str, description: str) -> str:
    """Return MACs against latency of whole networks, the FLOPs line and the chosen (MACs, latency) on it."""
    macs = np.array(data.macs) / 1e6

    def draw(axes: Axes, size: Size) -> None:
        axes.scatter(macs, data.latencies_ms, **dots("first", size))
        if data.line is not None:
            ends = np.array([macs.min(), macs.max()])
            axes.plot(ends, data.line[0] * ends + data.line[1], **dashes("ink"))
        if chosen is not None:
            diamond(axes, chosen[0] / 1e6, chosen[1])
        labels(axes, "Million MACs", f"Latency in ms, {origin}")
        ticks(axes, size)

    return figure(draw, "macs-latency", "MACs against latency of whole networks", description, WIDE, NARROW)


def held_out_figure(data: HeldOut, origin: str, description: str) -> str:
    """Return predicted against measured latency with the identity line and a band of five percent."""
    measured, predicted = np.array(data.measured_ms), np.array(data.predicted_ms[data.chosen])
    line = np.array(data.predicted_ms[data.flops_line or data.chosen])

    def draw(axes: Axes, size: Size) -> None:
        low, high = min(measured.min(), predicted.min(), line.min()), max(measured.max(), predicted.max(), line.max())
        margin = 0.05 * (high - low) or 0.05 * high
        ends = np.array([max(0.0, low - margin), high + margin])
        axes.fill_between(ends, ends * (1 - BAND), ends * (1 + BAND), color=COLOURS["first"], alpha=0.14, linewidth=0)
        axes.plot(ends, ends, color=COLOURS["ink"], linewidth=1.25)
        if data.flops_line not in (None, data.chosen):
            axes.scatter(measured, line, **dots("faint", size))
        axes.scatter(measured, predicted, **dots("first", size))
        axes.set(xlim=ends, ylim=ends, aspect="equal", anchor="NW")
        labels(axes, f"Latency in ms, {origin}", "Latency in ms, predicted")
        ticks(axes, size, same=True)

    return figure(draw, "held-out", "Predicted against measured latency of held-out networks", description, WIDE_SQUARE, NARROW_SQUARE)


def blocks_figure(blocks: Sequence[BlockRow], description: str) -> str:
    """Return each block's share of the time beside its share of the MACs, in order of execution from the top."""
    latencies_ms = np.array([block.latency_ms or 0.0 for block in blocks])
    macs = np.array([block.macs for block in blocks], dtype=np.float64)
    time_share, macs_share = 100 * latencies_ms / latencies_ms.sum(), 100 * macs / max(macs.sum(), 1.0)
    rows = np.arange(len(blocks))

    def draw(axes: Axes, size: Size) -> None:
        axes.barh(rows - 0.14, time_share, height=0.42, color=COLOURS["first"])
        axes.barh(rows + 0.26, macs_share, height=0.26, color=COLOURS["faint"])
        for row, share in zip(rows, time_share, strict=True):
            axes.annotate(
                f"{share:.1f}", (share, row - 0.14), (5, 0), textcoords="offset points", va="center", fontsize=FONT_PX - 1, color=COLOURS["ink"]
            )
        axes.set_yticks(rows, [_shortened(block.block.name) for block in blocks], parse_math=False)
        axes.set(ylim=(len(blocks) - 0.4, -0.6), xlim=(0, 1.12 * max(time_share.max(), macs_share.max())))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Share of the network in %")
        axes.locator_params(axis="x", nbins=5)

    height = BLOCK_ROW_PX * len(blocks) + 60
    return figure(draw, "blocks", "Share of time and of MACs by block", description, Size(WIDE.width, height), Size(NARROW.width, height))


def accuracy_latency_figure(data: AccuracyLatency, description: str) -> str:
    """Return accuracy against latency as the search saw them: random networks, the front, the budget and the chosen subnet."""

    def draw(axes: Axes, size: Size) -> None:
        if data.random:
            latencies_ms, accuracies = np.array(data.random).T
            axes.scatter(latencies_ms, 100 * accuracies, **dots("faint", size))
        latencies_ms, accuracies = np.array(data.front).T
        axes.step(latencies_ms, 100 * accuracies, where="post", color=COLOURS["first"], linewidth=1.5)
        axes.scatter(latencies_ms, 100 * accuracies, **{**dots("first", size), "alpha": 1.0, "s": 12})
        if data.max_latency_ms is not None:
            axes.axvline(data.max_latency_ms, **dashes("second"))
        if data.chosen is not None:
            diamond(axes, data.chosen[0], 100 * data.chosen[1])
        labels(axes, f"Latency in ms, {data.latency_is}", f"Accuracy in %, {data.accuracy_is}")
        ticks(axes, size)

    return figure(draw, "accuracy-latency", "Accuracy against latency", description, WIDE, NARROW)


def history_figure(history: Sequence[SearchPoint], description: str, accuracy_is: str = "predicted") -> str:
    """Return the accuracy of the best network so far over the networks scored."""

    def draw(axes: Axes, size: Size) -> None:
        evaluations, accuracies = [point.evaluations for point in history], [100 * point.accuracy for point in history]
        axes.step(evaluations, accuracies, where="post", color=COLOURS["first"], linewidth=1.75)
        axes.set_xlim(0, max(evaluations) * 1.02)
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
        labels(axes, "Networks scored", f"Accuracy of the best so far in %, {accuracy_is}")
        ticks(axes, size)

    return figure(draw, "history", "Search history", description, WIDE_LOW, NARROW_LOW)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
