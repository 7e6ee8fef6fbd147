from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from luts.table import Condition, Entry, LatencyTable
from predictors.quality import judge_latencies
from profiler.report import display, findings, staircase
from profiler.report.data import (
    AccuracyLatency,
    AccuracyPredictorRow,
    BlockRow,
    Check,
    Finalist,
    HeldOut,
    MacsLatency,
    Origin,
    ReportData,
    SearchPoint,
    Subnet,
)
from profiler.report.kinds import block_kinds
from profiler.report.page import SECTIONS, report_html, write_report
from profiler.report.session import Session, UncertainBlock
from profiler.report.svg import COLOURS
from profiler.report.system import BlockBranches, MergedTiming, SystemFacts
from profiler.subnet import ExportedModel, Verification
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import distinct_blocks
from supernets.spaces import space

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

TINY = space("ofa-mobilenetv3-tiny")
VOID = {"br", "hr", "img", "input", "link", "meta", "area", "base", "col", "embed", "source", "track", "wbr"}


CONDITION = Condition(device="local", runtime="onnxruntime", runtime_version="1.23.2", delegate="cpu", threads=1, cores=(0,), batch=1,
                      precision="float32", cpu_model="Intel Xeon Platinum 8488C")  # fmt: skip


def verified(format: str, runtime: str, version: str, measured: float, predicted: float, budget: float | None, spread: float) -> Verification:
    condition = replace(CONDITION, runtime=runtime, runtime_version=version).to_dict()
    return Verification(format, condition, predicted, measured, spread, budget, 32, 320)


def table_of(ns_a_mac: Callable[[BlockSpec], float]) -> LatencyTable:
    """Return a table of the tiny space in which blocks take this long a multiply-add, and a microsecond more."""
    entries = [
        Entry(b, 1e-3 + ns_a_mac(b) * block_macs(b) / 1e6, "measured", 0.004 + 0.0001 * (i % 90), 20, 300)
        for i, b in enumerate(distinct_blocks(TINY))
    ]
    return LatencyTable(CONDITION, "chain", entries, space=TINY.name)


def seven_times_slower_at_seven(block: BlockSpec) -> float:
    return 0.7 if block.kernel_size == 7 else 0.1


SESSION = Session(
    mode="chain", entries={"measured": 430, "interpolated": 2}, visits=12_000, workers=8, seconds=412.0, slow_shares={"chain": 0.31, "alone": 0.28},
    anchor=((0, 1.0), (1, 1.012), (2, 1.031), (3, 1.004)), slowest_workers={"chain": 0.031}, intervals=tuple(np.linspace(0.004, 0.031, 430)),
    worst=(UncertainBlock("mbconv-s7", 0.41, 0.031, 24), UncertainBlock("mbconv-s14", 0.12, 0.0309, 24)),
    rules={"target": {"chain": 300, "network": 24}, "accepted": {"chain": 100}, "time cap": {"chain": 32}},
)  # fmt: skip


def held_out(measured_ms: np.ndarray, predicted_ms: dict[str, np.ndarray], chosen: str, **named: str) -> HeldOut:
    """Return held-out networks, their predictors judged by the code that judges them elsewhere."""
    halves_ms = np.stack([measured_ms * 1.009, measured_ms * 0.991], axis=1)
    qualities = {
        name: judge_latencies(predicted, measured_ms, 12, halves_ms, (predicted * 0.96, predicted * 1.04)) for name, predicted in predicted_ms.items()
    }
    return HeldOut(tuple(measured_ms), {name: tuple(predicted) for name, predicted in predicted_ms.items()}, qualities, chosen, **named)


def subnet(rng: np.random.Generator) -> Subnet:
    blocks = TINY.blocks(TINY.sample(rng))
    rows = tuple(BlockRow(b, 0.01 + block_macs(b) / 3e7 * rng.uniform(0.6, 1.6) + b.mid_channels * 1e-4) for b in blocks)
    total = sum(row.latency_ms or 0 for row in rows)
    budget = round(total * 1.04, 2)
    return Subnet(
        resolution=blocks[0].input_side, blocks=rows, max_latency_ms=budget, predicted_latency_ms=total * 1.004, predicted_accuracy=0.8437,
        measured_accuracy=0.8412, accuracy_images=10_000, lowest_latency_ms=total * 0.4, random_over_budget=0.617,
        runs=(
            verified("onnx", "onnxruntime", "1.23.2", total * 1.013, total * 1.004, budget, 0.0042),
            verified("tflite", "litert", "2.1.0", total * 1.22, total * 1.19, budget, 0.0061),
        ),
        files=(
            ExportedModel("onnx", "subnet.onnx", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 1_834_201, 256, 3.1e-6, 1.0),
            ExportedModel("tflite", "subnet.tflite", "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752", 1_861_004, 256, 4.7e-6, 1.0),
        ),
    )  # fmt: skip


def full_data() -> ReportData:
    """Return a report with every section filled with invented numbers."""
    rng = np.random.default_rng(11)
    chosen = subnet(rng)
    macs = np.sort(rng.uniform(2e6, 17e6, 60))
    latencies_ms = 0.12 + macs / 2.4e7 * rng.lognormal(0, 0.12, 60)
    line = (0.0415, 0.131)
    held = slice(0, 60, 2)
    chosen_ms = chosen.predicted_latency_ms or 0.0
    front_ms = np.append(np.sort(rng.uniform(0.18, chosen_ms * 0.99, 24)), chosen_ms)
    front = 0.8437 - 0.03 * (np.exp(-(front_ms - 0.16) * 11) - np.exp(-(chosen_ms - 0.16) * 11))
    random_ms = rng.gamma(9, 0.05, 250) + 0.05
    random = 0.79 + 0.045 * (1 - np.exp(-random_ms * 3)) + rng.normal(0, 0.005, 250)
    return ReportData(
        space=TINY.name, device="local",
        condition={"cpu_model": "Intel Xeon Platinum 8488C", "runtime": "onnxruntime", "runtime_version": "1.23.2", "delegate": "cpu", "threads": "1",
                   "cores": "0", "batch": "1", "precision": "float32"},
        created="2025-11-22 14:03 UTC", version="0.3.0", subnet=chosen,
        macs_latency=MacsLatency(tuple(macs), tuple(latencies_ms), line),
        kinds=block_kinds(table_of(seven_times_slower_at_seven).entries.values()),
        staircase=staircase.staircase(TINY, table_of(seven_times_slower_at_seven)),
        session=SESSION,
        held_out=replace(
            held_out(
                latencies_ms[held],
                {
                    "calibrated": latencies_ms[held] * rng.normal(1.0, 0.021, 30),
                    "additive": latencies_ms[held] * rng.normal(0.94, 0.03, 30),
                    "flops_line": line[0] * macs[held] / 1e6 + line[1],
                },
                "calibrated", flops_line="flops_line", table_sum="additive", calibrated="calibrated",
            ),
            line=(0.012, 1.031),
        ),
        accuracy_latency=AccuracyLatency(
            tuple(zip(front_ms, front, strict=True)), tuple(zip(random_ms, random, strict=True)), (chosen_ms, 0.8437), chosen.max_latency_ms,
        ),
        finalists=tuple(
            Finalist(0.8437 - 0.0004 * rank, (chosen.predicted_latency_ms or 0) * (1 - 0.003 * rank), None if rank > 2 else 0.8412 - 0.0011 * rank,
                     (chosen.measured_latency_ms or 0) * (1 + 0.002 * rank), chosen.macs - 31_000 * rank, chosen=rank == 0)
            for rank in range(5)
        ),
        accuracy_predictors=(
            AccuracyPredictorRow("mlp", 14_000, 0.0057, 0.812, 0.944, 0.613, chosen=True),
            AccuracyPredictorRow("xgboost", 14_000, 0.0061, 0.795, 0.935, 0.588),
            AccuracyPredictorRow("ridge", 14_000, 0.0064, 0.781, 0.929, 0.571),
            AccuracyPredictorRow("MACs only", 14_000, None, 0.634, 0.811, 0.402),
        ),
        accuracy_reliability=0.94,
        system=SystemFacts(
            "RepNAS (Zhang et al., 2021)", (("Space", TINY.name), ("Recipe", "repnas-small")),
            (BlockBranches("stem", ("branch_kxk",), ("branch_1x1", "branch_kxk")), BlockBranches("stage1.block0", ("branch_kxk",), ("branch_kxk",))),
            tuple(MergedTiming(name, n, ms, 0.004, 600) for name, n, ms in (("kept", 2, 0.1), ("all", 3, 0.1004), ("again", 2, 0.0998))),
        ),
        history=tuple(SearchPoint(1 + 100 * g, 0.79 + 0.0537 * (1 - float(np.exp(-min(g // 6 * 6, 84) / 20)))) for g in range(120)),
        checks=(
            Check(True, "432 blocks measured in chains: at least 24 visits each"),
            Check(True, "432 blocks measured in chains: two halves of the visits differ by 0.9% (median)"),
            Check(False, "60 whole networks: 84% of the visits met the device in a slow state; stop other work on the device, collect again"),
        ),
        origins=(
            Origin("Latency of blocks and networks", "measured", "10th percentile of all samples of the condition shown here."),
            Origin("Latency in the search", "predicted", "Sum of the table's entries, calibrated on 30 whole networks."),
            Origin("Accuracy in the search", "predicted", "Multi-layer perceptron fitted on 14,000 sampled subnets."),
            Origin("MACs and parameters", "counted", "From the blocks' shapes; norm and activation are not counted."),
        ),
    )  # fmt: skip


BLOCKS = {"br", "dd", "div", "dt", "h1", "h2", "h3", "li", "p", "span", "td", "th", "text"}


class Page(HTMLParser):
    """Reads a page strictly: every element closed in order; collects what tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in BLOCKS:
            self.words.append(" ")
        if tag not in VOID:
            self.open.append(tag)
        self._collect(tag, attributes)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._collect(tag, attributes)

    def _collect(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attributes}) == len(attributes), f"an attribute of {tag} is given twice"
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        self.ids += [value or "" for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a reader reads, runs of blanks as one."""
        return " ".join("".join(self.words).split())

    def values(self, *names: str) -> list[str]:
        """Return the values of all attributes with these names."""
        return [value for _, name, value in self.attributes if name in names]


@pytest.fixture(scope="module")
def full() -> str:
    return report_html(full_data())


def test_a_full_report_is_well_formed_and_points_only_at_itself(full: str) -> None:
    page = Page(full)
    assert full.lstrip().startswith("<!DOCTYPE html>")
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    references = [value.removeprefix("#") for value in page.values("href")] + re.findall(r"url\(#([^)]+)\)", full)
    named = [name for value in page.values("aria-labelledby") for name in value.split()]
    assert references and set(references) | set(named) <= set(page.ids)


@pytest.mark.parametrize("data", [full_data(), replace(full_data(), simulated=True, subnet=None)])
def test_nothing_is_fetched_and_nothing_runs(data: ReportData) -> None:
    text = report_html(data)
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|javascript:|data:", text, re.IGNORECASE)
    assert not {"script", "link", "img", "iframe", "object", "embed", "foreignobject"} & set(page.tags)
    assert all(value.startswith("#") for value in page.values("href", "src"))
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


def test_every_section_with_data_is_there_once_and_reachable(full: str) -> None:
    page = Page(full)
    for name, (title, _) in SECTIONS.items():
        assert page.ids.count(name) == 1
        assert f"#{name}" in page.values("href")
        assert title in page.text
    assert "Not in this report" not in page.text


def test_sections_without_data_are_left_out_and_name_the_command_that_fills_them() -> None:
    data = ReportData("some-space", "rpi4", {"runtime": "litert"}, "2025-01-01", "0.3.0", commands={"checks": "profiler collect --out a.lut"})
    page = Page(report_html(data))
    assert not set(SECTIONS) & set(page.ids)
    for name, (title, command) in SECTIONS.items():
        assert f"“{title}” has no data yet; {data.commands.get(name, command)}" in page.text
    assert "No network has been chosen yet" in page.text
    assert "svg" not in page.tags


@pytest.mark.parametrize(
    ("field", "section"),
    [("macs_latency", "macs-latency"), ("kinds", "kinds"), ("staircase", "staircase"), ("session", "session"),
     ("held_out", "held-out"), ("accuracy_latency", "accuracy-latency"), ("subnet", "blocks"), ("system", "system"),
     ("accuracy_predictors", "accuracy-predictors"), ("history", "history"), ("checks", "checks")],
)  # fmt: skip
def test_one_missing_part_leaves_the_others(field: str, section: str) -> None:
    emptied = replace(full_data(), **{field: () if field in ("accuracy_predictors", "history", "checks") else None})
    page = Page(report_html(emptied))
    gone = {"subnet": {"subnet", "blocks"}, "held_out": {"held-out", "calibration"}}.get(field, {section})
    assert set(SECTIONS) - set(page.ids) == gone
    assert SECTIONS[section][1] in page.text


def test_sections_that_are_not_meant_to_be_there_are_not_called_missing() -> None:
    data = replace(full_data(), history=(), system=None, left_out=frozenset({"history"}))
    text = Page(report_html(data)).text
    assert SECTIONS["history"][0] not in text and f"“{SECTIONS['system'][0]}” has no data yet" in text


def test_a_search_that_measured_accuracies_does_not_call_them_predicted() -> None:
    data = full_data()
    assert data.accuracy_latency is not None
    found = replace(data.accuracy_latency, accuracy_is="measured after a short training", limit="target", random=())
    page = Page(report_html(replace(data, accuracy_latency=found, finalists=tuple(replace(f, predicted_accuracy=None) for f in data.finalists))))
    assert "Accuracy of the best, measured after a short training" in page.text
    assert "Random networks over the target" in page.text and "Accuracy in %, predicted" not in page.text


def test_the_numbers_of_the_chosen_subnet_are_shown_with_their_origin(full: str) -> None:
    data = full_data()
    assert data.subnet is not None
    text = Page(full).text.replace(display.NARROW_SPACE, " ")
    measured, predicted, budget = data.subnet.measured_latency_ms, data.subnet.predicted_latency_ms, data.subnet.max_latency_ms
    assert f"takes {measured:.3f} ms on local, measured: its budget of {budget:.3f} ms is kept with 3.1 % to spare" in text
    assert f"Latency {measured:.3f} ms measured" in text and f"{predicted:.3f} ms predicted" in text
    assert "84.12 % measured top-1 on 10,000 test images" in text and "84.37 % predicted" in text
    assert f"MACs {data.subnet.macs / 1e6:.2f} M counted" in text
    assert "✕ missed" in text and "✓ kept" in text
    for run in data.subnet.runs:
        assert f"{run.measured_latency_ms:.3f}" in text and data.subnet.file_of(run) in text
    for check in data.checks:
        assert check.text in text
    for origin in data.origins:
        assert f"{origin.quantity} {origin.origin} {origin.text}" in text


def test_the_errors_shown_are_those_of_the_points_drawn(full: str) -> None:
    shown = full_data().held_out
    assert shown is not None
    text = Page(full).text.replace(display.NARROW_SPACE, " ")
    for name in ("calibrated", "flops_line"):
        mape = 100 * np.mean([abs(p / m - 1) for p, m in zip(shown.predicted_ms[name], shown.measured_ms, strict=True)])
        assert f"{mape:.2f} %" in text
    ranked = [quality.mape_percent for _, quality in findings.ranked_predictors(shown)]
    assert ranked == sorted(ranked)
    assert "calibrated table sum used" in text and "FLOPs line, MACs only" in text and "flops_line" not in text


def test_the_noise_ceiling_and_the_coverage_stand_beside_each_predictor(full: str) -> None:
    shown = full_data().held_out
    assert shown is not None
    text = Page(full).text.replace(display.NARROW_SPACE, " ")
    assert "perfect predictor 0.90 % 1.0×" in text
    for quality in shown.qualities.values():
        covered = f"{100 * (quality.coverage_share or 0):.0f} % 8.0 %"
        assert f"{quality.mape_percent:.2f} % {quality.mape_percent / 0.9:.1f}× {covered}" in text
    unknown = replace(shown, qualities={name: replace(q, repeatability_percent=None, coverage_share=None) for name, q in shown.qualities.items()})
    assert "perfect predictor) unknown" in Page(report_html(replace(full_data(), held_out=unknown))).text


def test_correlations_stand_beside_macs_against_latency(full: str) -> None:
    data = full_data().macs_latency
    assert data is not None
    pearson = np.corrcoef(data.macs, data.latencies_ms)[0, 1]
    assert f"Pearson correlation {pearson:.3f}" in Page(full).text
    assert "Spearman rank correlation 0.9" in Page(full).text


def test_the_spread_at_equal_macs_compares_near_neighbours_only() -> None:
    assert findings.equal_macs_spread(MacsLatency((100, 104, 200, 300), (1.0, 1.5, 9.0, 9.0))) == pytest.approx(1.5)
    assert findings.equal_macs_spread(MacsLatency((100, 200, 300), (1.0, 2.0, 3.0))) is None


@pytest.mark.parametrize(
    ("measured", "budget", "state", "words"),
    [(2.0, 2.0, "kept", "is kept with 0.0 % to spare"), (2.1, 2.0, "missed", "is missed by 5.00 %"), (None, 2.0, "open", "has not confirmed it yet"),
     (2.0, None, "open", "no budget was given")],
)  # fmt: skip
def test_the_verdict_says_what_became_of_the_budget(measured: float | None, budget: float | None, state: str, words: str) -> None:
    runs = () if measured is None else (verified("onnx", "onnxruntime", "1", measured, 1.9, budget, 0.01),)
    chosen = Subnet(160, subnet(np.random.default_rng(0)).blocks, max_latency_ms=budget, predicted_latency_ms=1.9, runs=runs)
    found, sentence = findings.verdict(ReportData("s", "local", {}, "now", "1", subnet=chosen))
    assert found == state and words in sentence.replace(display.NARROW_SPACE, " ")


def test_on_a_simulated_device_no_latency_is_called_measured() -> None:
    data = replace(full_data(), simulated=True, device="simulated", origins=())
    page = Page(report_html(data))
    assert "were not measured on hardware" in page.text
    for phrase in ("on simulated, simulated", "Latency in ms, simulated", "share of time, simulated", "network, simulated"):
        assert phrase in page.text
    assert "ms, measured" not in page.text and "time, measured" not in page.text


HOSTILE = '<script>alert(1)</script>"\'><img src=x onerror=alert(2)> $\\frac{1}{0}$ {{ 7*7 }} &amp; #000001 id="x" 模型'


def test_hostile_strings_are_text_wherever_they_stand() -> None:
    data = full_data()
    assert data.subnet is not None and data.held_out is not None
    first = data.subnet.blocks[0]
    blocks = (replace(first, block=replace(first.block, name=HOSTILE)), *data.subnet.blocks[1:])
    run = verified(HOSTILE, HOSTILE, HOSTILE, 1.0, 1.0, 2.0, 0.01)
    chosen = replace(data.subnet, blocks=blocks, runs=(run,), files=(ExportedModel(HOSTILE, "a", HOSTILE, 1, 1, 0.0, 1.0),))
    networks = held_out(np.array(data.held_out.measured_ms), {HOSTILE: np.array(data.held_out.predicted_ms["calibrated"])}, HOSTILE)
    session = replace(SESSION, entries={HOSTILE: 1}, worst=(UncertainBlock(HOSTILE, 1.0, 0.1, 1),), rules={HOSTILE: {"chain": 1}})
    hostile = replace(
        data, space=HOSTILE, device=HOSTILE, condition={HOSTILE: HOSTILE}, created=HOSTILE, version=HOSTILE, subnet=chosen, held_out=networks,
        session=session, accuracy_predictors=(AccuracyPredictorRow(HOSTILE, 1, 0.1, 0.1, chosen=True),), checks=(Check(False, HOSTILE),),
        origins=(Origin(HOSTILE, "measured", HOSTILE),), commands={"history": HOSTILE}, history=(),
    )  # fmt: skip
    text = report_html(hostile)
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) > 15
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    ticks = re.findall(r"<text[^>]*>&lt;script&gt;alert[^<]*…</text>", text)
    assert len(ticks) == 2, "the block's name, shortened, stands on the axis of the wide and of the narrow figure"


def test_figures_have_titles_descriptions_and_only_the_page_s_colours(full: str) -> None:
    drawings = re.findall(r'<svg class="drawing.*?</svg>', full, re.DOTALL)
    assert len(drawings) == 2 * 10
    for drawing in drawings:
        assert re.match(r'<svg[^>]* role="img"[^>]*><title id="[^"]+">[^<]+</title><desc id="[^"]+">[^<]+</desc>', drawing)
        assert not re.search(r"#[0-9a-fA-F]{6}\b", drawing)
        assert set(re.findall(r"var\(--(\w+)\)", drawing)) <= set(COLOURS)
        assert "font-family" not in drawing and "xmlns" not in drawing


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_light_dark_and_print_each_define_every_colour_with_enough_contrast(full: str) -> None:
    palettes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block)) for block in re.findall(r":root \{(.*?)\}", full, re.DOTALL)]
    assert len(palettes) == 3
    for palette in palettes:
        assert set(COLOURS) <= set(palette)
        for name in ("ink", "muted", "first", "second"):
            assert contrast(palette[name], palette["paper"]) >= 4.5
            assert contrast(palette[name], palette["wash"]) >= 4.5
        assert contrast(palette["first"], palette["second"]) < 3, "told apart by hue and form, so neither may drown the other"


def test_tables_have_captions_and_headed_rows_and_columns(full: str) -> None:
    tables = re.findall(r"<table.*?</table>", full, re.DOTALL)
    assert len(tables) == 14
    for table in tables:
        assert "<caption>" in table and 'scope="col"' in table and 'scope="row"' in table
        body = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        widths = {sum(int(span or 1) for span in re.findall(r'<t[hd](?:[^>]*colspan="(\d+)")?[^>]*>', row)) for row in body}
        assert len(widths) == 1, "every row of a table has as many cells"


def test_the_same_data_make_the_same_page(full: str) -> None:
    assert report_html(full_data()) == full


def test_the_file_is_written_whole_with_its_folder(tmp_path: Path, full: str) -> None:
    path = write_report(full_data(), tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == full
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize(("package", "feature"), [("jinja2", "a report needs"), ("matplotlib", "the figures of a report need")])
def test_a_missing_package_is_named_with_its_extra(package: str, feature: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{feature} the package '{package}'; install it with pip install 'elastic-latency\[report\]'"):
        report_html(full_data())


def test_interpolated_blocks_are_told_from_measured_ones() -> None:
    data = full_data()
    assert data.subnet is not None
    blocks = (replace(data.subnet.blocks[0], latency_origin="interpolated"), *data.subnet.blocks[1:])
    page = Page(report_html(replace(data, subnet=replace(data.subnet, blocks=blocks))))
    assert "share of time, measured and interpolated" in page.text
    assert f"interpolated {blocks[0].latency_ms:.4f}" in page.text


def test_small_data_make_a_page_too() -> None:
    data = replace(
        full_data(), history=(SearchPoint(1, 0.5),), accuracy_latency=AccuracyLatency(((1.0, 0.5),)), finalists=(),
        macs_latency=MacsLatency((1e6, 1e6, 1e6), (1.0, 1.0, 1.0)), held_out=held_out(np.ones(3), {"only": np.ones(3)}, "only"),
    )  # fmt: skip
    page = Page(report_html(data))
    assert page.open == []
    assert f"Pearson correlation {display.NOTHING}" in page.text


def test_data_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="3 MACs and 2 latencies"):
        MacsLatency((1, 2, 3), (1.0, 2.0))
    with pytest.raises(ValueError, match="predictor 'a' has 2 predictions for 3 networks"):
        HeldOut((1.0, 2.0, 3.0), {"a": (1.0, 2.0)}, {}, "a")
    with pytest.raises(ValueError, match="predictor 'b' is named but has no predictions"):
        held_out(np.array([1.0, 2.0, 3.0]), {"a": np.ones(3)}, "b")
    with pytest.raises(ValueError, match="origin of 'x' is 'guessed'"):
        Origin("x", "guessed", "")
    with pytest.raises(ValueError, match="commands name the section 'verify'"):
        report_html(replace(full_data(), commands={"verify": "x"}))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (display.ms(1234.5), "1234.5"),
        (display.ms(12.346), "12.35"),
        (display.ms(1.23456), "1.235"),
        (display.ms(0.012345), "0.0123"),
        (display.ms(None), "–"),
        (display.ms(float("nan")), "–"),
        (display.with_ms(None), "–"),
        (display.percent(0.1234), "12.3\u202f%"),
        (display.accuracy(0.81714), "81.71\u202f%"),
        (display.signed_percent(-0.05), "\u22125.0\u202f%"),
        (display.signed_percent(-0.0004), "+0.0\u202f%"),
        (display.amount(255_502_624), "255.5\u202fM"),
        (display.amount(5_029_656), "5.03\u202fM"),
        (display.amount(17), "17"),
        (display.count(50_000), "50,000"),
        (display.points(0.0057), "0.57"),
        (display.file_size(1_834_201), "1.8\u202fMB"),
        (display.file_size(900), "900\u202fbytes"),
    ],
)
def test_numbers_are_written_with_few_digits_and_a_unit(written: str, expected: str) -> None:
    assert written == expected
