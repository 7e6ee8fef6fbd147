"""What the figures of a report have in common: their sizes, marks, labels and ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from profiler.report.svg import COLOURS, Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDE, NARROW = Size(640, 380), Size(340, 320)
WIDE_LOW, NARROW_LOW = Size(640, 300), Size(340, 260)
WIDE_SQUARE, NARROW_SQUARE = Size(540, 520), Size(340, 340)
DASHES = (0, (5, 3))


def dots(colour: str, size: Size) -> dict[str, Any]:
    """Return how points are drawn."""
    return {"s": 30 if size.width > NARROW.width else 20, "color": COLOURS[colour], "alpha": 0.7, "linewidths": 0, "zorder": 3}


def dashes(colour: str) -> dict[str, Any]:
    """Return how a line that something is held against is drawn."""
    return {"color": COLOURS[colour], "linestyle": DASHES, "linewidth": 1.25}


def diamond(axes: Axes, x: float, y: float) -> None:
    """Draw the mark of the chosen one."""
    axes.scatter([x], [y], s=90, marker="D", color=COLOURS["second"], edgecolors=COLOURS["paper"], linewidths=1.5, zorder=5)


def labels(axes: Axes, x: str, y: str) -> None:
    """Set the labels of both axes."""
    axes.set_xlabel(x, labelpad=6)
    axes.set_title(y, loc="left", pad=10)  # above the axis instead of turned by its side: easier to read, and narrower


def ticks(axes: Axes, size: Size, *, same: bool = False) -> None:
    """Set as many ticks as there is room for; `same` ones on both axes."""
    count = 6 if size.width > NARROW.width else 4
    axes.locator_params(nbins=count)
    if same:
        axes.set_yticks(axes.get_xticks())
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_xlim())
