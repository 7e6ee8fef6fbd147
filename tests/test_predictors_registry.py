"""Predictors of other packages: they take part as the built-in ones do, and a broken one is told of."""

from __future__ import annotations

import importlib.metadata
import sys
from types import ModuleType

import numpy as np
import pytest
from contracts import tiny_table

from luts.table import NetworkMeasurement
from predictors import accuracy, latency, registry
from predictors.base import MissingPackageError, missing_package
from predictors.latency import LATENCY_PREDICTORS
from predictors.latency.choosing import choose
from predictors.latency.flops_line import FlopsLine
from predictors.latency.judging import fit_and_judge
from predictors.latency.terms import Terms
from predictors.registry import PlugInError
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")


class Elsewhere(Terms):
    name = "elsewhere"


class Needy(FlopsLine):
    name = "needy"

    @classmethod
    def create(cls, space, table):
        raise missing_package("predicting by 'needy'", "needed", "needy")


class Faulty(FlopsLine):
    name = "faulty"

    @classmethod
    def create(cls, space, table):
        from numpy import no_such_name

        return no_such_name


@pytest.fixture
def offered(monkeypatch):
    """Give a function that makes entry points of these names and targets the only ones."""
    module = ModuleType("plug_in_of_another_package")
    module.Elsewhere, module.Needy, module.Faulty, module.Text = Elsewhere, Needy, Faulty, str
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def offer(**targets: str) -> None:
        made = [
            importlib.metadata.EntryPoint(name, f"{module.__name__}:{target}", group)
            for name, target in targets.items()
            for group in (latency.ENTRY_POINT_GROUP, accuracy.ENTRY_POINT_GROUP)
        ]
        points = importlib.metadata.EntryPoints(made)
        monkeypatch.setattr(registry.metadata, "entry_points", lambda **wanted: points.select(**wanted))

    return offer


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    blocks_only, networks = tiny_table(TINY), []
    for i, architecture in enumerate(TINY.decode(TINY.sample_different(14, rng))):
        latency_ms = (0.5 + blocks_only.latency_ms(TINY.blocks(architecture))) * rng.normal(1, 0.002)
        blocks = tuple(TINY.blocks(architecture))
        networks.append(NetworkMeasurement(architecture, blocks, latency_ms, 0.01, 5, 50, "calibration" if i < 10 else "held_out", (np.nan, np.nan)))
    return tiny_table(TINY, networks)


def test_a_predictor_of_another_package_is_fitted_judged_and_may_be_chosen(offered, table):
    offered(elsewhere="Elsewhere")
    fitted = fit_and_judge(TINY, table)
    assert list(fitted) == [*LATENCY_PREDICTORS, "elsewhere"]
    assert fitted["elsewhere"].quality.held_out_count == 4
    assert choose({name: fitted[name] for name in ("flops_line", "elsewhere")}) == "elsewhere"


def test_it_is_saved_and_loaded_by_its_name(offered, table, tmp_path):
    offered(elsewhere="Elsewhere")
    predictor = fit_and_judge(TINY, table, ("elsewhere",))["elsewhere"]
    predictor.save(tmp_path)
    loaded = latency.load(tmp_path)
    population = TINY.sample_population(5, np.random.default_rng(1))
    assert type(loaded) is Elsewhere
    np.testing.assert_array_equal(loaded.predict(population), predictor.predict(population))


def test_it_takes_no_built_in_name(offered):
    offered(terms="Elsewhere")
    assert latency.ladder() == list(LATENCY_PREDICTORS)
    assert type(latency.create("terms", TINY, tiny_table(TINY))) is Terms


def test_one_whose_package_is_missing_is_left_out_and_one_with_a_fault_is_not(offered, table):
    offered(needy="Needy")
    assert list(fit_and_judge(TINY, table, ("flops_line", "needy"))) == ["flops_line"]
    with pytest.raises(MissingPackageError, match="predicting by 'needy' needs the package 'needed'"):
        latency.create("needy", TINY)
    offered(faulty="Faulty")
    with pytest.raises(ImportError, match="no_such_name"):
        fit_and_judge(TINY, table, ("flops_line", "faulty"))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Nothing", r"that cannot be imported: AttributeError: .*; mend it, or uninstall the package"),
        ("Text", r"and not a subclass of LatencyPredictor whose name is 'broken'; mend it"),
        ("Elsewhere", r"and not a subclass of LatencyPredictor whose name is 'broken'; mend it"),
    ],
)
def test_one_that_cannot_be_imported_is_told_of_by_whatever_fits_all(offered, table, target, message):
    offered(broken=target)
    with pytest.raises(PlugInError, match=r"^latency predictor 'broken' is a plug-in \(plug_in_of_another_package:\w+\)," + f"? ?{message}"):
        fit_and_judge(TINY, table)


def test_accuracy_predictors_of_other_packages_are_told_of_too(offered):
    offered(broken="Nothing")
    assert "broken" in accuracy.names()
    with pytest.raises(PlugInError, match="accuracy predictor 'broken' is a plug-in"):
        accuracy.create("broken", TINY.name)
