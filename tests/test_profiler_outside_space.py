"""A search space from another package, found through its entry point: the file is the one of docs/adding-a-space.md, word for word."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from supernets.spaces import UnknownSpaceError, names
from supernets.spaces import space as search_space

DOCUMENT = Path(__file__).parent.parent / "docs" / "adding-a-space.md"
NAME = "plain-tiny"


def quiet(done: int, total: int, note: str) -> None:
    """Show nothing."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a distribution with the document's file and entry point, and have it found."""
    text = DOCUMENT.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (entry,) = re.findall(r'```toml\n\[project\.entry-points\."elastic_latency\.spaces"\]\n(.*?)```', text, re.DOTALL)
    site = tmp_path / "site"
    information = site / "plain_space-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "plain_space.py").write_text(code)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plain-space\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[elastic_latency.spaces]\n" + entry.replace('"', ""))
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("plain_space", None)


def test_the_space_is_unknown_without_its_package() -> None:
    assert NAME not in names()
    with pytest.raises(UnknownSpaceError, match="unknown space 'plain-tiny'"):
        search_space(NAME)


@pytest.mark.usefixtures("installed")
def test_an_outside_space_is_listed_takes_options_and_lowers() -> None:
    assert NAME in names()
    space = search_space(f"{NAME}:classes=37")
    assert space.name == f"{NAME}:classes=37" and space.blocks(space.smallest())[-1].out_channels == 37
    assert space.size() == len(set(space.enumerate())) == 2 * (2 * (2 + 4)) ** 2
    assert np.array_equal(space.encode(space.decode(space.sample_population(50, np.random.default_rng(0)))) >= -1, np.ones((50, 9), dtype=bool))


@pytest.mark.usefixtures("installed")
@pytest.mark.torch
def test_an_outside_space_is_sampled_collected_searched_and_exported(tmp_path: Path) -> None:
    for package in ("torch", "onnxruntime", "sklearn"):
        pytest.importorskip(package)
    from device_agents.devices import connect
    from profiler.collecting import collect_table
    from profiler.exporting import export_from_files
    from profiler.fitting import fit_accuracy
    from profiler.sampling import sample_into
    from profiler.searching import open_predictors, search_subnet
    from profiler.subnet import write_subnet
    from search.settings import SearchSettings
    from supernets.networks.checkpoint import save_supernet
    from supernets.networks.supernet import Supernet

    space, weights = search_space(NAME), tmp_path / "supernet.safetensors"
    save_supernet(weights, Supernet(space))
    sample_into(tmp_path / "accuracies.db", weights, "fashion-mnist-subset", 20, 0, 1, 64, 64, None, quiet)
    fit_accuracy(tmp_path / "accuracies.db", tmp_path / "predictors", 0, quiet, ("ridge",))
    with connect("simulated") as agent:
        collected = collect_table(space, agent, tmp_path / "plain.lut", "quick", 0, quiet)
    assert collected.summary.complete and collected.networks == 20

    predictors = open_predictors(tmp_path / "plain.lut", None, tmp_path / "predictors" / "ridge")
    budget_ms = predictors.median_latency_ms(0)
    settings = SearchSettings(population_size=20, generations=10)
    for strategy, objective in (("evolution", "budget"), ("exhaustive", "budget"), ("coarse-to-fine", "budget"), ("random", "soft-product")):
        record, result = search_subnet(predictors, budget_ms, strategy, settings, 0, lambda point: None, objective=objective)
        assert record.architecture.space == NAME and len(result.front) >= 1
        assert objective != "budget" or (record.predicted_latency_ms is not None and record.predicted_latency_ms <= budget_ms)

    write_subnet(tmp_path / "subnet.json", record)
    exported = export_from_files(tmp_path / "subnet.json", weights, "fashion-mnist-subset", tmp_path / "exported", ("onnx",), 64, 16)
    assert exported.models[0].relative_difference < 1e-4 and (tmp_path / "exported" / "subnet.onnx").is_file()
