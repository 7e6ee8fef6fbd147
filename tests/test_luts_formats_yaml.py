"""The YAML formats word by word: Once-for-All's keys, and entries of published tables."""

from __future__ import annotations

import pytest
import yaml

from luts.condition import Condition
from luts.formats import create
from luts.formats.base import TableFileError
from luts.formats.block_keys import block_of, key_of
from luts.table import Entry, LatencyTable
from supernets.blocks import BlockSpec
from supernets.places import distinct_blocks
from supernets.spaces import space

CONDITION = Condition("note10", "tflite", "unknown", "unknown", 1, (), 1, "float32", "unknown")
OFA = create("ofa-yaml")
PROXYLESS = create("proxyless-yaml")

# Entries of published tables: Once-for-All's for the Note 10 at 224 (standard deviations), ProxylessNAS's for mobile (variances).
NOTE10 = b"""\
Conv-input:224x224x3-output:112x112x24:
  count: 500
  mean: 0.994418
  std: 0.01726798413249215
expanded_conv-input:112x112x24-output:56x56x32-expand:144-kernel:3-stride:2-idskip:0-se:0-hs:0:
  count: 54
  mean: 4.812240740740741
  std: 0.08956353738593026
"""
MOBILE = b"""\
Conv-input:224x224x3-output:112x112x32: {count: 982, mean: 4.084, var: 0.0196}
Conv_1-input:7x7x320-output:7x7x1280: {count: 982, mean: 3.089, var: 0.01}
Logits-input:7x7x1280-output:1000: {count: 982, mean: 0.310, var: 0.0004}
expanded_conv-input:28x28x40-output:28x28x40-expand:6-kernel:5-stride:1-idskip:1: {count: 9, mean: 2.5, var: 0.25}
"""


def table_of(name: str, resolution: int) -> LatencyTable:
    blocks = distinct_blocks(space(name).restrict({"resolution": (resolution,)}))
    return LatencyTable(CONDITION, "chain", [Entry(block, 0.5 + i / 7, "measured", 0.02, 5, 100 + i) for i, block in enumerate(blocks)])


def keys_of_once_for_all(resolution: int) -> set[str]:
    """The 96 keys of the width-1.2 tables, written down from how those tables are described, by other code than ours."""
    side = (resolution + 1) // 2
    first, channels = side, 24
    keys = {
        f"Conv-input:{resolution}x{resolution}x3-output:{first}x{first}x24",
        f"expanded_conv-input:{first}x{first}x24-output:{first}x{first}x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0",
    }
    for width, stride, se, hs in ((32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1)):
        out = (side - 1) // stride + 1
        for place, (before, at, step) in enumerate(((channels, side, stride), (width, out, 1))):
            keys |= {
                f"expanded_conv-input:{at}x{at}x{before}-output:{out}x{out}x{width}-expand:{before * ratio}-kernel:{kernel}"
                f"-stride:{step}-idskip:{place}-se:{se}-hs:{hs}"
                for ratio in (3, 4, 6)
                for kernel in (3, 5, 7)
            }
        side, channels = out, width
    return keys | {
        f"Conv_1-input:{side}x{side}x192-output:{side}x{side}x1152",
        f"AvgPool2D-input:{side}x{side}x1152-output:1x1x1152",
        "Conv_2-input:1x1x1152-output:1x1x1536",
        "Logits-input:1x1x1536-output:1000",
    }


@pytest.mark.parametrize("resolution", [128, 160, 188, 224])
def test_a_table_of_once_for_all_has_its_96_keys_and_nothing_else(resolution):
    table = table_of("ofa-mobilenetv3-w1.2", resolution)
    found = yaml.safe_load(OFA.encode(table))
    assert len(found) == 96
    assert set(found) == keys_of_once_for_all(resolution)
    assert all(list(values) == ["count", "mean", "std"] for values in found.values())
    assert all(type(v["count"]) is int and type(v["mean"]) is float and type(v["std"]) is float for v in found.values())


def test_mean_is_the_figure_and_std_is_of_one_sample():
    block = BlockSpec("pool", 7, 1152, 1152)
    table = LatencyTable(CONDITION, "chain", [Entry(block, 2.0, "measured", 0.01, 5, 400)])
    values = {"count": 400, "mean": 2.0, "std": pytest.approx(0.4)}  # 1 % of 2 ms, times the root of 400
    assert yaml.safe_load(OFA.encode(table)) == {"AvgPool2D-input:7x7x1152-output:1x1x1152": values}
    assert yaml.safe_load(create("ofa-yaml", spread="var").encode(table))["AvgPool2D-input:7x7x1152-output:1x1x1152"]["var"] == pytest.approx(0.16)


@pytest.mark.parametrize("spread", ["std", "var"])
@pytest.mark.parametrize("expand", ["channels", "ratio"])
def test_every_variant_is_read_back_as_the_same_blocks_and_figures(spread, expand):
    table = table_of("ofa-mobilenetv3-w1.0", 176)
    found = OFA.decode(create("ofa-yaml", spread=spread, expand=expand).encode(table))
    assert {entry.block for entry in found.entries} == {entry.block for entry in table.entries.values()}
    for entry in found.entries:
        written = table.entry(entry.block)
        assert (entry.latency_ms, entry.samples, entry.visits, entry.origin) == (written.latency_ms, written.samples, 0, "imported")
        assert entry.relative_spread == pytest.approx(written.relative_spread)


def test_entries_of_once_for_all_load_and_sum_to_what_they_say():
    found = OFA.decode(NOTE10)
    table = LatencyTable(CONDITION, "chain", found.entries)
    stem = BlockSpec("conv_bn", 224, 3, 24, kernel_size=3, stride=2, activation="h_swish")
    block = BlockSpec("mbconv", 112, 24, 32, 144, kernel_size=3, stride=2, activation="relu")
    assert table.latency_ms([stem, block]) == pytest.approx(5.806658740740741, rel=1e-15)
    assert table.entry(stem).samples == 500
    assert table.entry(stem).relative_spread == pytest.approx(0.01726798413249215 / 0.994418 / 500**0.5)
    assert set(table.entries) <= {block.key for block in distinct_blocks(space("ofa-mobilenetv3-w1.2"))}


def test_entries_of_proxylessnas_load_and_sum_to_what_they_say():
    found = PROXYLESS.decode(MOBILE)
    assert sum(entry.latency_ms for entry in found.entries) == pytest.approx(4.084 + 3.089 + 0.310 + 2.5)
    stem, head, logits, block = (entry.block for entry in found.entries)
    assert stem == BlockSpec("conv_bn", 224, 3, 32, kernel_size=3, stride=2, activation="relu6")
    assert head == BlockSpec("conv_bn", 7, 320, 1280, activation="relu6")
    assert logits == BlockSpec("linear", 7, 1280, 1000)
    assert block == BlockSpec("mbconv", 28, 40, 40, 240, kernel_size=5, activation="relu6", residual=True)
    assert found.entries[3].relative_spread == pytest.approx(0.5 / 2.5 / 3)
    written = yaml.safe_load(PROXYLESS.encode(LatencyTable(CONDITION, "chain", found.entries)))
    read = yaml.safe_load(MOBILE)
    assert written == {key: {name: pytest.approx(value) for name, value in read[key].items()} for key in read}


def test_blocks_without_a_key_are_left_out_and_named():
    odd = BlockSpec("mbconv", 14, 96, 96, 288, kernel_size=5, se_channels=8, activation="relu", residual=True)  # another se width
    table = LatencyTable(CONDITION, "chain", [Entry(odd, 1.0, "measured", None, 1, 5), *OFA.decode(NOTE10).entries])
    assert len(yaml.safe_load(OFA.encode(table))) == 2
    assert f"1 blocks are left out, for which the format has no key: {odd.key}" in OFA.not_held(table)
    with pytest.raises(ValueError, match="no key for any of the 1 blocks; export the table as csv, parquet or json"):
        OFA.encode(LatencyTable(CONDITION, "chain", [Entry(odd, 1.0, "measured", None, 1, 5)]))


def test_what_is_lost_is_said():
    said = " ".join(OFA.not_held(table_of("ofa-mobilenetv3-w1.2", 224)))
    assert "condition" in said and "mode" in said and "low percentile" in said
    unmeasured = LatencyTable(CONDITION, "chain", [Entry(BlockSpec("pool", 7, 8, 8), 1.0, "interpolated", None, 0, 0)])
    assert any("count 0" in sentence for sentence in OFA.not_held(unmeasured))
    assert OFA.decode(OFA.encode(unmeasured)).entries[0].samples == 0


def test_a_ratio_and_channels_are_told_apart_by_the_inputs_width():
    channels = "expanded_conv-input:14x14x96-output:14x14x96-expand:384-kernel:3-stride:1-idskip:1-se:0-hs:1"
    block = block_of(channels, OFA.family)
    assert block == block_of(channels.replace("expand:384", "expand:4"), OFA.family)
    assert key_of(block, OFA.family, "channels") == channels
    assert key_of(block, OFA.family, "ratio") == channels.replace("384", "4")


KEY = "expanded_conv-input:14x14x96-output:14x14x96-expand:384-kernel:3-stride:1-idskip:1-se:0-hs:1"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("Conv_9-input:7x7x8-output:7x7x8", "is no block's key; expected one such as"),
        ("expanded_conv-input:14x14x96-output:14x14x96", "is no block's key"),
        ("Conv-input:224x224x3-output:112x112x24-expand:3-kernel:3-stride:1-idskip:0", "is no block's key"),
        (KEY.replace("input:14x14", "input:14x15"), "maps that are not square"),
        (KEY.replace("output:14x14", "output:13x13"), "says an output of side 13; expected 14"),
        (KEY.replace("kernel:3", "kernel:4"), "kernel_size of block 'block' is 4; expected an odd number"),
        (KEY.replace("output:14x14x96", "output:14x14x80"), "cannot be residual"),
        (KEY.replace("-se:0-hs:1", ""), "lacks se and hs; import the file in the other of the two YAML formats"),
        (KEY.replace("14x14x96", "0x0x96"), "output|input_side"),
        ("Conv-input:224x224x3-output:56x56x24", "says an output of side 56; expected 112"),
    ],
)
def test_a_key_that_contradicts_itself_is_refused(key, words):
    with pytest.raises(TableFileError, match=words):
        OFA.decode(f"{key}: {{count: 1, mean: 1.0, std: 0.0}}".encode())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("{count: 1, mean: 1.0}", "its values are count, mean; expected count, mean and one of std and var"),
        ("{mean: 1.0, std: 0.1}", "its values are mean, std"),
        ("{count: 1, mean: 1.0, std: 0, var: 0}", "its values are count, mean, std, var"),
        ("{count: 1, mean: -1.0, std: 0}", "mean is '-1.0'; expected a number from 0 on"),
        ("{count: 1, mean: 0, std: 0}", "expected more than 0"),
        ("{count: 1, mean: .nan, std: 0}", "mean is '.nan'"),
        ("{count: 1, mean: nan, std: 0}", "mean is 'nan'"),
        ("{count: 1, mean: 1e999, std: 0}", "mean is '1e999'"),
        ("{count: 1.5, mean: 1, std: 0}", "count is '1.5'; expected a whole number"),
        ("{count: 1, count: 2, mean: 1, std: 0}", "line 1 has 'count' for the second time"),
        ("{count: [1], mean: 1, std: 0}", "line 1 is not as expected"),
        ("3", "line 1 is not as expected"),
        ("&a {count: 1, mean: 1, std: 0}\nother: *a", "line 2 is not as expected"),
    ],
)
def test_a_wrong_value_is_refused_naming_it(values, words):
    with pytest.raises(TableFileError, match=words):
        OFA.decode(f"{KEY}: {values}\n".encode())


def test_a_bomb_of_aliases_and_deep_nesting_cost_nothing():
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 40))]
    for bomb in ("\n".join(lines), "a: " + "[" * 50_000, "a: " + "{b: " * 50_000):
        with pytest.raises(TableFileError):
            OFA.decode(bomb.encode())


def test_a_block_that_stands_twice_in_two_spellings_is_refused():
    two = f"{KEY}: {{count: 1, mean: 1.0, std: 0}}\n{KEY.replace('384', '4')}: {{count: 1, mean: 1.0, std: 0}}\n"
    with pytest.raises(TableFileError, match="is in it twice"):
        OFA.decode(two.encode())


def test_an_option_with_another_value_is_refused():
    with pytest.raises(ValueError, match="spread is 'iqr'; expected std or var"):
        create("ofa-yaml", spread="iqr")
    with pytest.raises(ValueError, match="expand is 'width'; expected channels or ratio"):
        create("ofa-yaml", expand="width")
