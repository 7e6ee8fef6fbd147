"""What every format keeps: the same table comes back, and garbage ends in one sentence."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luts.condition import Condition
from luts.formats import FORMATS, UnknownFormatError, create
from luts.formats.base import TableContent, TableFileError
from luts.formats.pooling import pooled
from luts.formats.rows import COLUMNS
from luts.table import Entry, LatencyTable, NetworkMeasurement
from supernets.places import distinct_blocks
from supernets.spaces import space

CONDITION = Condition("phone, left", "onnxruntime", "1.31.1", "CPUExecutionProvider", 2, (4, 5), 1, "float32", 'AMD "EPYC"')
TINY = space("ofa-mobilenetv3-tiny").restrict({"resolution": (28,)})
BLOCKS = distinct_blocks(TINY)
ORIGINS = ("measured", "interpolated", "predicted", "simulated")
HOLD_ALL_OF_AN_ENTRY = ("csv", "parquet", "json")


def full_table() -> LatencyTable:
    """A table with every origin, known and unknown spreads, and figures that need all digits."""
    rng = np.random.default_rng(1)
    entries = [
        Entry(block, float(rng.uniform(1e-3, 9)), ORIGINS[i % 4], None if i % 3 == 0 else float(rng.uniform(0, 0.1)), i % 5, 7 * (i % 5))
        for i, block in enumerate(BLOCKS)
    ]
    networks = [
        NetworkMeasurement(TINY.smallest(), tuple(TINY.blocks(TINY.smallest())), 3.25, 0.01, 4, 24, "calibration", (3.2, 3.3), "smallest", "n1"),
        NetworkMeasurement(None, tuple(TINY.blocks(TINY.largest())), 9.5, None, 1, 6, "held_out", (math.nan, math.nan), "file", "n2"),
    ]
    return LatencyTable(CONDITION, "alone", entries, networks, space="ofa-mobilenetv3-tiny")


def without_nan(networks):
    return [replace(network, halves_ms=tuple(None if math.isnan(half) else half for half in network.halves_ms)) for network in networks]


@pytest.mark.parametrize("name", HOLD_ALL_OF_AN_ENTRY)
def test_a_round_trip_keeps_condition_mode_space_and_every_figure_to_the_last_digit(name):
    table, form = full_table(), create(name)
    found = form.decode(form.encode(table))
    assert (found.condition, found.mode, found.space) == (CONDITION, "alone", "ofa-mobilenetv3-tiny")
    assert found.entries == tuple(table.entries.values())


def test_json_keeps_whole_networks_too():
    table, form = full_table(), create("json")
    assert without_nan(form.decode(form.encode(table)).networks) == without_nan(table.networks())
    assert form.not_held(table) == []


@pytest.mark.parametrize("name", ["csv", "parquet", "ofa-yaml", "proxyless-yaml"])
def test_formats_without_networks_say_so(name):
    table = full_table()
    assert any("2 whole networks" in sentence for sentence in create(name).not_held(table))
    without = LatencyTable(table.condition, table.mode, table.entries.values())
    assert not any("networks" in sentence for sentence in create(name).not_held(without))


@pytest.mark.parametrize("name", HOLD_ALL_OF_AN_ENTRY)
def test_a_table_of_no_known_space_stays_so(name):
    table = full_table()
    form = create(name)
    assert form.decode(form.encode(LatencyTable(CONDITION, "chain", table.entries.values()))).space is None


def test_a_data_frame_has_the_columns_of_csv_and_writes_a_csv_that_can_be_read():
    table = full_table()
    frame = table.to_pandas()
    assert list(frame.columns) == COLUMNS
    assert frame["latency_ms"].tolist() == [entry.latency_ms for entry in table.entries.values()]
    assert frame["key"].tolist() == list(table.entries)
    assert create("csv").decode(frame.to_csv(index=False).encode()).entries == tuple(table.entries.values())
    out = io.BytesIO()
    frame.to_parquet(out)
    assert create("parquet").decode(out.getvalue()).entries == tuple(table.entries.values())


def test_csv_and_parquet_open_in_pandas_with_their_types():
    import pandas

    table = full_table()
    from_csv = pandas.read_csv(io.BytesIO(create("csv").encode(table)))
    from_parquet = pandas.read_parquet(io.BytesIO(create("parquet").encode(table)))
    for frame in (from_csv, from_parquet):
        assert frame["latency_ms"].tolist() == pytest.approx([entry.latency_ms for entry in table.entries.values()], rel=1e-12)
        assert frame["residual"].dtype == bool
        assert frame["input_side"].dtype == "int64"
        assert set(frame["device"]) == {"phone, left"}


def test_an_unknown_format_and_an_unknown_option_are_refused_naming_the_known_ones():
    with pytest.raises(UnknownFormatError, match="unknown format 'xls'; known formats: ofa-yaml, proxyless-yaml, csv, parquet, json"):
        create("xls")
    with pytest.raises(ValueError, match="format 'csv' has no option 'spread'; it has none"):
        create("csv", spread="std")
    with pytest.raises(ValueError, match="format 'ofa-yaml' has no option 'mood'; its options are spread, expand"):
        create("ofa-yaml", mood="std")


# --- content that is no table ----------------------------------------------------------------------------------------------


def changed_csv(**values: str) -> bytes:
    """The full table's CSV with other values in its second row."""
    rows = list(csv.DictReader(io.StringIO(create("csv").encode(full_table()).decode())))
    rows[1].update(values)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[1]))
    writer.writeheader()
    writer.writerows({name: row.get(name, "") for name in rows[1]} for row in rows)
    return out.getvalue().encode()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"latency_ms": "nan"}, "row 2: latency_ms is 'nan'; expected a number from 0 on"),
        ({"latency_ms": "inf"}, "row 2: latency_ms is 'inf'; expected a number from 0 on"),
        ({"latency_ms": "-1"}, "row 2: latency_ms is '-1'; expected a number from 0 on"),
        ({"latency_ms": "0"}, "row 2: latency_ms of block .* is 0.0; expected more than 0"),
        ({"latency_ms": "fast"}, "row 2: latency_ms is 'fast'"),
        ({"latency_ms": ""}, "row 2: latency_ms is ''"),
        ({"relative_spread": "-0.1"}, "row 2: relative_spread is '-0.1'"),
        ({"origin": "guessed"}, "row 2: origin of block .* is 'guessed'; expected one of measured"),
        ({"visits": "1.5"}, "row 2: visits is '1.5'; expected a whole number from 0"),
        ({"visits": "99999999999"}, "row 2: visits is '99999999999'; expected a whole number from 0 to 2147483647"),
        ({"residual": "perhaps"}, "row 2: residual is 'perhaps'; expected true or false"),
        ({"kernel_size": "4"}, "row 2: kernel_size of block 'block' is 4; expected an odd number"),
        ({"operator": "mamba"}, "row 2: operator 'mamba'"),
        ({"key": "stem"}, "row 2: key is 'stem'; expected mbconv-"),
        ({"device": "another"}, "row 2 has another device than row 1"),
        ({"mode": "chain"}, "row 2 has another mode than row 1"),
        ({"mood": "good"}, "'mood' is unknown; expected key, operator"),
    ],
)
def test_a_wrong_value_is_named_with_its_row_and_what_was_expected(values, words):
    with pytest.raises(TableFileError, match=words):
        create("csv").decode(changed_csv(**values))


def test_a_block_that_is_there_twice_is_refused():
    lines = create("csv").encode(full_table()).splitlines(keepends=True)
    with pytest.raises(TableFileError, match="is in it twice; expected each block once"):
        create("csv").decode(b"".join([*lines, lines[3]]))


def test_a_column_that_is_missing_is_named():
    frame = full_table().to_pandas()
    for name in ("key", "latency_ms", "threads", "mode"):
        with pytest.raises(TableFileError, match=name):
            create("csv").decode(frame.drop(columns=name).to_csv(index=False).encode())


def test_json_of_another_kind_version_or_shape_is_refused():
    form = create("json")
    known = json.loads(form.encode(full_table()))

    def refused(**values: object) -> str:
        with pytest.raises(TableFileError) as error:
            form.decode(json.dumps({**known, **values}).encode())
        return str(error.value)

    assert "kind is not 'elastic-latency table'" in refused(kind="recipe")
    assert "version is 2, expected 1; read it with the release that wrote it, or newer" in refused(version=2)
    assert "'mood' is unknown" in refused(mood=1)
    assert "expected a list" in refused(entries={})
    assert "an entry is 3; expected named values" in refused(entries=[3])
    assert "there is no block in it" in refused(entries=[])
    assert "threads is 0; expected at least 1" in refused(condition={**known["condition"], "threads": 0})
    assert "latency_ms is inf" in refused(entries=[{**known["entries"][0], "latency_ms": math.inf}])
    assert "latency_ms is True" in refused(entries=[{**known["entries"][0], "latency_ms": True}])
    network = known["networks"][0]
    assert "halves_ms has 1 values; expected 2" in refused(networks=[{**network, "halves_ms": [1.0]}])
    assert "networks have different keys" in refused(networks=[network, network])
    assert "has 0 blocks" in refused(networks=[{**network, "blocks": []}])
    assert "an architecture is {'space': NAME, 'values'" in refused(networks=[{**network, "architecture": {"values": {}}}])
    assert "resolution is [28]" in refused(networks=[{**network, "architecture": {"space": "x", "values": {"resolution": [28]}}}])


GARBAGE = [
    b"",
    b"\x00",
    b"\xff\xfe\x00garbage",
    b"just text",
    b"- 1\n- 2\n",
    b"[" * 100_000,
    b"{" * 100_000,
    b'{"a":' * 100_000,
    b"NaN",
    b"null",
    b"1" * 10_000,
    b'"\\ud800"',
    b"key,latency_ms\n" + b'"' * 1000,
    b"key\n" + b"x" * 200_000,
    b"PAR1" + b"\x00" * 100 + b"PAR1",
    b"!!python/object/apply:os.system ['true']",
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    b"a: &a {x: 1}\nb: {<<: *a}\n",
    b"Conv-input:224x224x3-output:112x112x24: {count: 1, mean: .nan, std: 0}",
    b"--- {}\n--- {}\n",
    b"{}",
]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("content", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_refused_in_one_short_sentence(name, content):
    with pytest.raises(TableFileError) as error:
        create(name).decode(content)
    assert len(str(error.value)) < 700


def simple_table() -> LatencyTable:
    """A table that every format holds something of."""
    blocks = [block for block in BLOCKS if block.operator in ("conv_bn", "pool", "linear")]
    plain = [replace(block, activation="relu6", se_channels=0) for block in BLOCKS if block.operator == "mbconv"][:3]
    return LatencyTable(CONDITION, "chain", [Entry(block, 1.5, "measured", 0.1, 2, 6) for block in (*blocks, *plain)])


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_a_file_with_some_bytes_changed_is_a_table_or_is_refused(name, data):
    content = bytearray(create(name).encode(simple_table()))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = create(name).decode(bytes(content))
    except TableFileError:
        return
    assert isinstance(found, TableContent)
    assert all(entry.latency_ms > 0 for entry in found.entries)


# --- pooling ---------------------------------------------------------------------------------------------------------------


def test_figures_of_one_block_are_pooled_as_if_their_samples_stood_together():
    rng = np.random.default_rng(0)
    parts = [rng.normal(5, 1, size=n) for n in (50, 200)]
    entries = [Entry(BLOCKS[0], float(x.mean()), "imported", float(x.std() / x.mean() / len(x) ** 0.5), 0, len(x)) for x in parts]
    other = Entry(BLOCKS[1], 2.0, "imported", None, 0, 0)
    both = np.concatenate(parts)
    first, second = pooled([entries[0], other, entries[1]])
    assert first.latency_ms == pytest.approx(both.mean())
    assert first.relative_spread == pytest.approx(both.std() / both.mean() / len(both) ** 0.5)
    assert first.samples == 250
    assert second == other


def test_files_of_before_blocks_had_details_are_read():
    """Without squeeze-and-excitation's activations and the shortcut, which were then always the usual ones."""
    table = full_table()
    later = ("se_activation", "se_gate", "shortcut")
    written = json.loads(create("json").encode(table))
    for values in [*written["entries"], *(block for network in written["networks"] for block in network["blocks"])]:
        for name in later:
            values.pop(name, None)
    assert create("json").decode(json.dumps(written).encode()).entries == tuple(table.entries.values())
    frame = table.to_pandas().drop(columns=list(later))
    assert create("csv").decode(frame.to_csv(index=False).encode()).entries == tuple(table.entries.values())
