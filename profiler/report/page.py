"""Writing the report: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profiler.report import comparison, display, figures, findings, kinds, session, staircase, system, table_figures
from profiler.report.comparison import ComparisonData
from profiler.report.data import ReportData
from supernets.atomic_file import write_whole

# Section -> its heading, and the command that fills it.
SECTIONS = {
    "subnet": ("The chosen subnet", "profiler search"),
    "system": ("How it was found", "profiler run"),
    "macs-latency": ("MACs against latency", "profiler collect"),
    "kinds": ("Where FLOPs mislead", "profiler collect"),
    "held-out": ("Predicted against measured", "profiler fit latency"),
    "calibration": ("From blocks to networks", "profiler collect"),
    "blocks": ("Where the time goes", "profiler collect"),
    "staircase": ("Latency over the resolution", "profiler collect"),
    "accuracy-latency": ("Accuracy against latency", "profiler search"),
    "accuracy-predictors": ("Accuracy predictors", "profiler fit accuracy"),
    "history": ("Search history", "profiler search"),
    "session": ("How well the blocks are known", "profiler collect"),
    "checks": ("Trust checks", "profiler collect"),
}


@dataclass(frozen=True)
class Missing:
    """A section that has no data, and the command that would fill it."""

    title: str
    command: str


def write_report(data: ReportData, path: Path) -> Path:
    """Write the report to `path`, whole or not at all, and return the path.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
        ValueError: `commands` names a section that is none.
        OSError: it cannot be written.
    """
    write_whole(path, report_html(data).encode("utf-8"))
    return Path(path)


def report_html(data: ReportData) -> str:
    """Return the report as the text of an HTML file.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
        ValueError: `commands` names a section that is none.
    """
    unknown = sorted(set(data.commands) - set(SECTIONS))
    if unknown:
        raise ValueError(f"commands name the section {unknown[0]!r}; the sections are {', '.join(SECTIONS)}")
    return _rendered("page.html", **_context(data))


def write_comparison(data: ComparisonData, path: Path) -> Path:
    """Write the page of two compared tables to `path`, whole or not at all, and return the path.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
        OSError: it cannot be written.
    """
    write_whole(path, comparison_html(data).encode("utf-8"))
    return Path(path)


def comparison_html(data: ComparisonData) -> str:
    """Return the page of two compared tables as the text of an HTML file.

    Raises:
        ImportError: jinja2 or matplotlib is not installed.
    """
    return _rendered("comparison.html", data=data, drawings={"ratios": table_figures.ratios_figure(data.ratios, comparison.sentence(data))})


def _rendered(template: str, drawings: Mapping[str, str], **context: Any) -> str:
    """Return a page; the figures' own texts are escaped already, everything else is escaped here."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ImportError("a report needs the package 'jinja2'; install it with pip install 'elastic-latency[report]'") from error
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    subjects = {"display": display, "findings": findings, "kinds": kinds, "session": session, "staircase": staircase, "system": system}
    subjects["comparison"] = comparison
    marked = {name: Markup(drawing) for name, drawing in drawings.items()}
    return environment.get_template(template).render(drawings=marked, **subjects, **context)


def _context(data: ReportData) -> dict[str, Any]:
    present = _present(data)
    state, verdict = findings.verdict(data)
    return {
        "data": data,
        "state": state,
        "verdict": verdict,
        "present": [(name, title) for name, (title, _) in SECTIONS.items() if name in present],
        "missing": [
            Missing(title, data.commands.get(name, command)) for name, (title, command) in SECTIONS.items() if name not in present | data.left_out
        ],
        "titles": {name: title for name, (title, _) in SECTIONS.items()},
        "drawings": _drawings(data, present),
        "kind_curves": [(f"curve-{colour}", curve.value) for colour, curve in table_figures.shown_curves(data.kinds)] if data.kinds else [],
    }


def _present(data: ReportData) -> set[str]:
    timed = data.subnet is not None and any(block.latency_ms for block in data.subnet.blocks)
    found = {
        "subnet": data.subnet, "system": data.system, "macs-latency": data.macs_latency, "kinds": data.kinds, "held-out": data.held_out,
        "calibration": data.held_out is not None and data.held_out.table_sum and data.held_out.calibrated, "blocks": timed,
        "staircase": data.staircase, "accuracy-latency": data.accuracy_latency, "accuracy-predictors": data.accuracy_predictors,
        "history": data.history, "session": data.session, "checks": data.checks,
    }  # fmt: skip
    return {name for name, value in found.items() if value}


def _drawings(data: ReportData, present: set[str]) -> dict[str, str]:
    """Return the figures by name."""
    return {**_network_drawings(data, present), **_table_drawings(data, present)}


def _network_drawings(data: ReportData, present: set[str]) -> dict[str, str]:
    subnet, origin = data.subnet, data.device_origin
    found: dict[str, str] = {}
    if data.macs_latency is not None:
        chosen = (float(subnet.macs), subnet.measured_latency_ms) if subnet is not None and subnet.measured_latency_ms is not None else None
        description = findings.macs_latency_sentence(data.macs_latency, origin)
        found["macs-latency"] = figures.macs_latency_figure(data.macs_latency, chosen, origin, description)
    if data.held_out is not None:
        found["held-out"] = figures.held_out_figure(data.held_out, origin, findings.held_out_sentence(data.held_out))
    if "blocks" in present and subnet is not None:
        timed = [block for block in subnet.blocks if block.latency_ms is not None]
        found["blocks"] = figures.blocks_figure(timed, findings.blocks_sentence(subnet.blocks))
    if data.accuracy_latency is not None:
        description = findings.accuracy_latency_sentence(data.accuracy_latency)
        found["accuracy-latency"] = figures.accuracy_latency_figure(data.accuracy_latency, description)
    if data.history:
        accuracy_is = "predicted" if data.accuracy_latency is None else data.accuracy_latency.accuracy_is
        found["history"] = figures.history_figure(data.history, findings.history_sentence(data.history), accuracy_is)
    return found


def _table_drawings(data: ReportData, present: set[str]) -> dict[str, str]:
    origin, held_out = data.device_origin, data.held_out
    found: dict[str, str] = {}
    if data.kinds is not None:
        found["kinds"] = table_figures.kinds_figure(data.kinds, origin, kinds.sentence(data.kinds, origin))
    if "calibration" in present and held_out is not None:
        before, after = (held_out.predicted_ms[str(name)] for name in (held_out.table_sum, held_out.calibrated))
        description = findings.calibration_sentence(held_out)
        found["calibration"] = table_figures.calibration_figure(held_out.measured_ms, before, after, origin, description)
    if data.staircase is not None:
        found["staircase"] = table_figures.staircase_figure(data.staircase, staircase.sentence(data.staircase))
    if data.session is not None and data.session.intervals:
        found["intervals"] = table_figures.intervals_figure(data.session.intervals, session.sentence(data.session))
    if data.session is not None and data.session.anchor:
        found["anchor"] = table_figures.anchor_figure(data.session.anchor, session.anchor_sentence(data.session))
    return found
