"""Matplotlib figures as SVG that belongs to its page: the page's colours and fonts, its own ids, a title and a description.

Sizes are CSS pixels at which the figure is meant to be shown, so that text in it has the size it says.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colour names of page.css, drawn as colours nobody uses and exchanged for custom properties: figures follow light, dark and print.
COLOURS = {name: f"#00000{number}" for number, name in enumerate(("ink", "muted", "rule", "first", "second", "faint", "paper"), start=1)}
FONT_PX = 12
PX_PER_INCH = 72  # of matplotlib's SVG files

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be read aloud, selected and searched
    "svg.hashsalt": "elastic-latency",  # the same data make the same file
    "font.size": FONT_PX,
    "axes.titlesize": FONT_PX,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.titlecolor": COLOURS["muted"],
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["rule"],
    "ytick.color": COLOURS["rule"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "grid.color": COLOURS["rule"],
    "path.simplify": False,
}


@dataclass(frozen=True)
class Size:
    """Width and height in CSS pixels."""

    width: int
    height: int


def figure(draw: Callable[[Axes, Size], None], identity: str, title: str, description: str, wide: Size, narrow: Size) -> str:
    """Return the figure twice, drawn for wide and for narrow pages; the page shows one of them. `identity` is unique on the page.

    Raises:
        ImportError: matplotlib is not installed.
    """
    drawings = [_drawing(draw, f"{identity}-{kind}", kind, title, description, size) for kind, size in (("wide", wide), ("narrow", narrow))]
    return "\n".join(drawings)


def _drawing(draw: Callable[[Axes, Size], None], identity: str, kind: str, title: str, description: str, size: Size) -> str:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the figures of a report need the package 'matplotlib'; install it with pip install 'elastic-latency[report]'") from error
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the page's font draws the text, not matplotlib's
        canvas = Figure(figsize=(size.width / PX_PER_INCH, size.height / PX_PER_INCH), layout="constrained")
        axes = canvas.subplots()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.grid(visible=True, linewidth=1)
        axes.set_axisbelow(True)
        draw(axes, size)
        text = io.StringIO()
        canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inlined(text.getvalue(), identity, kind, title, description, size)


def _inlined(text: str, identity: str, kind: str, title: str, description: str, size: Size) -> str:
    """Return a whole SVG file as an element: no prologue, no addresses, ids of its own, colours and fonts of the page."""
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<[^>]*>", lambda tag: _of_the_page(tag[0], identity), body)
    labels = f"{identity}-title", f"{identity}-description"
    head = (
        f'<svg class="drawing {kind}" role="img" aria-labelledby="{labels[0]} {labels[1]}" viewBox="0 0 {size.width} {size.height}" '
        f'preserveAspectRatio="xMinYMin meet" style="max-width: {size.width}px">'
        f'<title id="{labels[0]}">{escape(title)}</title><desc id="{labels[1]}">{escape(description)}</desc>'
    )
    return head + re.sub(r"\s*\n\s*", " ", body).strip() + "</svg>"


def _of_the_page(tag: str, identity: str) -> str:
    """Return a tag with ids of the figure's own, and the page's colours and font; text between tags stays as it is."""
    tag = tag.replace("xlink:href=", "href=")
    tag = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{identity}-", tag)
    tag = re.sub(r'font-family: [^;"]*; ?| transform="rotate\(-?0 [^"]*"', "", tag)
    for name, colour in COLOURS.items():
        tag = tag.replace(colour, f"var(--{name})")
    return tag
