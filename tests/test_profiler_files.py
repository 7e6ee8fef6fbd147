"""Readers of files that anybody may have damaged: a right answer, or the reader's own error with the file's name in it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luts.condition import Condition
from predictors import folder, latency
from predictors.folder import PredictorFileError
from profiler.files import FileKindError, read_json
from profiler.subnet import ExportedModel, SubnetFileError, Verification, read_subnet, record_of, write_subnet
from supernets.spaces import UnknownSpaceError
from supernets.spaces import space as search_space

TINY = search_space("ofa-mobilenetv3-tiny")
CONDITION = Condition("local", "onnxruntime", "1.0", "CPUExecutionProvider", 1, (0,), 1, "float32", "a processor").to_dict()
STRANGE = ("abc", "", None, True, -1, -0.5, 1e300, 10**400, [], [1], {}, {"a": 1}, "\x00")
NOT_JSON = (b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\x00", b"\x80abc", b"", b"{", b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}',
            b"1" * 5000)  # fmt: skip


@pytest.fixture
def subnet(tmp_path: Path) -> Path:
    architecture = TINY.smallest()
    finalist = {"architecture": architecture.to_dict(), "predicted_accuracy": 0.7, "predicted_latency_ms": 1.0, "measured_latency_ms": 1.1}
    record = record_of(architecture, max_latency_ms=1.5, predicted_accuracy=0.7, condition=CONDITION, finalists=(finalist,)).changed(
        models=(ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0),),
        verifications=(Verification("onnx", CONDITION, 1.0, 1.1, 0.01, 1.5, 20, 200),),
        search={"random_networks_over_budget": 0.5, "lowest_latency_ms": 0.3},
    )
    write_subnet(tmp_path / "subnet.json", record)
    return tmp_path / "subnet.json"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    population = TINY.sample_population(10, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("predictor") / "line"
    latency.create("flops_line", TINY).fit(population, np.linspace(1, 2, 10)).save(path)
    return path


def damaged_bytes(content: bytes, trials: int) -> list[bytes]:
    """Return the content with some bytes changed, cut out or doubled, the same ones each time."""
    rng, found = np.random.default_rng(0), []
    for trial in range(trials):
        damaged = bytearray(content)
        place, length = int(rng.integers(len(content))), int(rng.integers(1, 9))
        if trial % 3 == 0:
            damaged[place : place + length] = rng.bytes(length)
        elif trial % 3 == 1:
            del damaged[place : place + length]
        else:
            damaged[place:place] = damaged[place : place + length]
        found.append(bytes(damaged))
    return found


def changed_values(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside JSON data."""
    found = [path] if path else []
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        found += changed_values(data[key], (*path, key))
    return found


def with_value(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(data))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.parametrize("content", NOT_JSON)
def test_what_is_no_json_of_finite_numbers_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(FileKindError, match=re.escape(str(path))):
        read_json(path)


def test_json_with_the_mark_of_some_editors_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa4"}')
    assert read_json(tmp_path / "file.json") == {"a": "ä"}


def read_or_refused(read: Callable[[], Any], name: str, *refusals: type[Exception]) -> Any:
    """Return what was read, or None where it was refused as it should be."""
    try:
        return read()
    except refusals as error:
        assert name in str(error), error
        return None


def test_subnet_files_with_damaged_bytes_are_refused_by_name_or_read(subnet: Path) -> None:
    for content in damaged_bytes(subnet.read_bytes(), 300):
        subnet.write_bytes(content)
        record = read_or_refused(lambda: read_subnet(subnet), str(subnet), SubnetFileError, FileKindError, UnknownSpaceError)
        if record is not None:
            assert record.space.blocks(record.architecture) and record.macs >= 0


def test_subnet_files_with_any_value_of_a_strange_type_are_refused_by_name_or_can_be_used(subnet: Path) -> None:
    data = json.loads(subnet.read_text())
    places = [path for path in changed_values(data) if path[0] != "architecture" or len(path) < 4]
    for place in places:
        for value in STRANGE:
            subnet.write_text(json.dumps(with_value(data, place, value)))
            record = read_or_refused(lambda: read_subnet(subnet), str(subnet), SubnetFileError, UnknownSpaceError)
            if record is not None:
                assert f"{record.macs / 1e6:.2f} {record.device_origin} {[v.kept for v in record.verifications]}"
                assert record.to_dict()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("macs",), "abc"), (("macs",), 1.5), (("max_latency_ms",), -1), (("predicted_accuracy",), "high"), (("measured_accuracy",), 1.5),
        (("verifications", 0, "measured_latency_ms"), None), (("models", 0, "bytes"), -5), (("finalists", 0, "measured_latency_ms"), "fast"),
        (("search", "random_networks_over_budget"), [1]), (("condition", "threads"), 0), (("weights_sha256",), 5),
    ],
)  # fmt: skip
def test_a_figure_that_is_none_is_refused_with_its_value(subnet: Path, place: tuple[Any, ...], value: Any) -> None:
    subnet.write_text(json.dumps(with_value(json.loads(subnet.read_text()), place, value)))
    with pytest.raises(SubnetFileError, match=f"{re.escape(str(subnet))} is damaged: {place[-1]} is {re.escape(repr(value))}"):
        read_subnet(subnet)


def opened(path: Path) -> Any:
    description = folder.read(path, "latency")
    folder.unpacked_arrays(folder.read_file(path, description, folder.ARRAYS_FILE))
    return folder.restored_space(description.space)


def test_predictors_with_damaged_descriptions_are_refused_by_name_or_read(predictor: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(predictor, tmp_path / "copy"))
    description, content = copy / "predictor.json", (copy / "predictor.json").read_bytes()
    for damaged in [*NOT_JSON, *damaged_bytes(content, 200)]:
        description.write_bytes(damaged)
        space = read_or_refused(lambda: opened(copy), "predictor", PredictorFileError, UnknownSpaceError)
        assert space is None or space.name == TINY.name
    data = json.loads(content)
    for place in [path for path in changed_values(data) if path[:2] != ("space", "choices") or path[2:3] == (2,)]:
        for value in STRANGE:
            description.write_text(json.dumps(with_value(data, place, value)))
            space = read_or_refused(lambda: opened(copy), "", PredictorFileError, UnknownSpaceError)
            assert space is None or space.name == TINY.name


def test_predictors_with_damaged_arrays_are_refused(predictor: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(predictor, tmp_path / "copy"))
    content = (copy / "arrays.npz").read_bytes()
    for damaged in damaged_bytes(content, 50):
        (copy / "arrays.npz").write_bytes(damaged)
        if damaged != content:
            assert read_or_refused(lambda: opened(copy), str(copy), PredictorFileError) is None
    for damaged in damaged_bytes(content, 200):
        arrays = read_or_refused(partial(folder.unpacked_arrays, damaged), "arrays.npz", PredictorFileError)
        assert arrays is None or all(isinstance(array, np.ndarray) for array in arrays.values())
