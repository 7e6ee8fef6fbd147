from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from test_profiler_report import HOSTILE, Page

from luts.table import Condition, Entry, LatencyTable
from profiler.report import comparison, display
from profiler.report.comparison import ComparisonData, comparison_data
from profiler.report.page import comparison_html
from profiler.table_comparing import compare_opened
from supernets.blocks import BlockSpec
from supernets.counts import block_macs
from supernets.places import distinct_blocks
from supernets.spaces import space

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

TINY = space("ofa-mobilenetv3-tiny").restrict({"resolution": (20, 28)})
CONDITION = Condition(device="local", runtime="onnxruntime", runtime_version="1", delegate="cpu", threads=1, cores=(0,), batch=1, precision="float32",
                      cpu_model="some")  # fmt: skip


def table(
    factor: Callable[[BlockSpec], float], runtime: str = "onnxruntime", name: str = "a.lut", space_name: str | None = TINY.name
) -> LatencyTable:
    entries = [Entry(block, (1 + block_macs(block) / 1e5) * factor(block), "measured", 0.01, 20, 300) for block in distinct_blocks(TINY)]
    return LatencyTable(replace(CONDITION, runtime=runtime), "chain", entries, source=f"/some/{name}", space=space_name)


def compared(one: LatencyTable, two: LatencyTable) -> ComparisonData:
    return comparison_data(one, two, compare_opened(one, two), "2025-11-22 14:03 UTC", "0.3.0")


def text_of(data: ComparisonData) -> str:
    return Page(comparison_html(data)).text.replace(display.NARROW_SPACE, " ")


def test_the_kind_that_differs_is_told_from_a_factor_common_to_all() -> None:
    data = compared(table(lambda block: 1.0), table(lambda block: 9.0 if block.kernel_size == 7 else 1.5, "litert", "b.lut"))
    assert data.kinds[0].grouped_by == "kernel" and data.kinds[0].value == "7×7" and data.kinds[0].differs
    assert data.kinds[0].median == pytest.approx(9) and data.kinds[0].apart == pytest.approx(6)
    text = text_of(data)
    assert "The median block takes 1.50 times as long in b.lut as in a.lut" in text
    assert "Kernel 7×7 stands out most: 9.00 times as long" in text
    assert "Runtime onnxruntime litert" in text


def test_a_common_factor_is_no_difference_of_kinds_and_ranks_stay() -> None:
    data = compared(table(lambda block: 1.0), table(lambda block: 2.0))
    assert not [kind for kind in data.kinds if kind.differs]
    assert (data.first, data.second) == ("/some/a.lut", "/some/a.lut"), "equal names are told whole"
    text = text_of(data)
    assert "No kind of block is over 10 % off what all blocks have in common" in text
    assert "Spearman's ρ 1.000" in text and "Both tables were measured under the same condition" in text


def test_tables_of_no_known_space_say_that_the_rank_is_unknown() -> None:
    data = compared(table(lambda block: 1.0, space_name=None), table(lambda block: 2.0, space_name=None))
    assert "Rank correlation unknown" in text_of(data)
    assert "Spearman" not in comparison.sentence(data)


def test_the_page_is_whole_and_takes_names_as_text() -> None:
    found = comparison_html(replace(compared(table(lambda block: 1.0), table(lambda block: 2.0 + block.kernel_size)), first=HOSTILE))
    page = Page(found)
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert not {"script", "link", "img"} & set(page.tags)
    assert not re.search(r"https?:|@import|javascript:|url\((?!#)", found)
    assert HOSTILE in page.text
    assert len(re.findall(r'<svg class="drawing', found)) == 2
