"""What every implementation of a plug-in point must do: one class a point, subclassed once an implementation in `test_*.py`."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from device_agents.base import DeviceError, DeviceInfo, DeviceState, VisitPlan
from luts.condition import Condition
from luts.table import Entry, LatencyTable, NetworkMeasurement
from predictors import accuracy, latency
from predictors.base import AccuracyPredictor, LatencyPredictor, NotFittedError
from predictors.folder import PredictorFileError
from predictors.quality import judge_latencies
from supernets import counts
from supernets.blocks import BlockSpec
from supernets.places import AdditiveCost, covering_architectures, distinct_blocks, places
from supernets.space import OFF, Architecture, ArchitectureError, Population, SearchSpace
from supernets.spaces import space as space_of_name


class SpaceContract:
    """A search space: give its `name`, and `small`, a restriction (name or kind → values) to at most some thousand networks."""

    name: str
    small: dict[str, tuple[int | float | str, ...]]

    @pytest.fixture
    def space(self) -> SearchSpace:
        return space_of_name(self.name)

    @pytest.fixture
    def small_space(self, space: SearchSpace) -> SearchSpace:
        return space.restrict(self.small)

    @pytest.fixture
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(20)

    @pytest.fixture
    def sampled(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        return space.decode(space.sample_population(40, rng))

    @staticmethod
    def assert_inside(space: SearchSpace, architecture: Architecture) -> None:
        """In the space, and in canonical form."""
        assert space.architecture(architecture) == architecture

    def test_space_goes_by_its_own_name(self, space: SearchSpace) -> None:
        assert space.name == self.name
        assert [choice.name for choice in space_of_name(space.name).choices] == [choice.name for choice in space.choices]

    def test_sampled_architectures_are_inside_and_canonical(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        for architecture in [*sampled, space.largest(), space.smallest(), space.sample(np.random.default_rng(1))]:
            self.assert_inside(space, architecture)

    def test_sampling_twice_with_one_seed_gives_one_result(self, space: SearchSpace) -> None:
        first, second = (space.sample_population(20, np.random.default_rng(3)) for _ in range(2))
        assert np.array_equal(first, second)

    def test_sampling_reaches_every_value_of_every_choice(self, space: SearchSpace, rng: np.random.Generator) -> None:
        population = space.sample_population(2000, rng)
        for column, choice in enumerate(space.choices):
            assert set(population[:, column]) - {OFF} == set(range(len(choice.values))), choice.name

    def test_different_samples_are_different(self, space: SearchSpace, rng: np.random.Generator) -> None:
        population = space.sample_different(300, rng)
        assert len(set(space.decode(population))) == 300

    def test_codes_and_architectures_round_trip(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        population = space.encode(sampled)
        assert population.dtype == np.int8
        assert population.shape == (len(sampled), len(space.choices))
        assert space.decode(population) == sampled
        assert np.array_equal(space.switched_off(population), population)

    def test_one_hot_has_one_column_a_slot_that_is_on(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        population = space.encode(sampled)
        features = space.one_hot(population)
        assert features.shape == (len(sampled), sum(len(choice.values) for choice in space.choices))
        assert np.array_equal(features.sum(axis=1), (population != OFF).sum(axis=1))
        assert len(np.unique(features, axis=0)) == len(set(sampled))

    def test_mutants_are_inside_and_canonical(self, space: SearchSpace, sampled: list[Architecture], rng: np.random.Generator) -> None:
        for architecture in sampled:
            self.assert_inside(space, space.mutate(architecture, rng, probability=0.3))
            assert space.mutate(architecture, rng, probability=0.0) == architecture

    def test_children_are_inside_and_take_each_slot_from_a_parent(
        self, space: SearchSpace, sampled: list[Architecture], rng: np.random.Generator
    ) -> None:
        for mother, father in zip(sampled[::2], sampled[1::2], strict=True):
            child = space.crossover(mother, father, rng)
            self.assert_inside(space, child)
            for name, value in child.values.items():
                assert value is None or value in (mother[name], father[name]), name

    def test_neighbours_are_inside_different_and_one_slot_away(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        for architecture in sampled[:5]:
            neighbours = space.neighbours(architecture)
            assert len(set(neighbours)) == len(neighbours)
            assert architecture not in neighbours
            for neighbour in neighbours:
                self.assert_inside(space, neighbour)
                changed = [
                    c.name
                    for c in space.choices
                    if None not in (architecture[c.name], neighbour[c.name]) and architecture[c.name] != neighbour[c.name]
                ]
                assert len(changed) == 1

    def test_enumeration_yields_as_many_networks_as_the_size_says_and_none_twice(self, small_space: SearchSpace) -> None:
        architectures = list(small_space.enumerate())
        assert len(architectures) == small_space.size() == len(set(architectures))
        for architecture in architectures[:: max(1, len(architectures) // 200)]:
            self.assert_inside(small_space, architecture)

    def test_different_architectures_are_different_networks(self, small_space: SearchSpace) -> None:
        networks = {tuple(block.key for block in small_space.blocks(architecture)) for architecture in small_space.enumerate()}
        assert len(networks) == small_space.size()

    def test_asking_for_more_different_samples_than_there_are_gives_all_of_them(self, small_space: SearchSpace, rng: np.random.Generator) -> None:
        found = small_space.decode(small_space.sample_different(small_space.size() + 1, rng))
        assert set(found) == set(small_space.enumerate())

    def test_restricted_space_stays_inside_its_restriction(self, small_space: SearchSpace, rng: np.random.Generator) -> None:
        population = small_space.sample_population(50, rng)
        for changed in (
            population,
            small_space.mutate_population(population, rng, 0.5),
            small_space.crossover_populations(population, population[::-1], rng),
        ):
            for architecture in small_space.decode(changed):
                self.assert_inside(small_space, architecture)

    def test_codes_mean_the_same_in_a_restricted_space(self, space: SearchSpace, small_space: SearchSpace, rng: np.random.Generator) -> None:
        population = small_space.sample_population(20, rng)
        assert small_space.decode(population) == space.decode(population)

    def test_value_outside_a_choice_is_refused_naming_the_slot(self, space: SearchSpace) -> None:
        for choice in space.choices:
            if choice.depends_on is None:
                with pytest.raises(ArchitectureError, match=choice.name.replace(".", r"\.")):
                    space.architecture({**space.largest().values, choice.name: 9999})

    def test_unknown_and_missing_slots_are_refused_naming_them(self, space: SearchSpace) -> None:
        with pytest.raises(ArchitectureError, match="no slot 'width_of_the_moon'"):
            space.architecture({**space.largest().values, "width_of_the_moon": 1})
        first = space.choices[0].name
        with pytest.raises(ArchitectureError, match=f"slot '{first}' has no value"):
            space.architecture({name: value for name, value in space.largest().values.items() if name != first})

    def test_architecture_of_another_space_is_refused(self, space: SearchSpace) -> None:
        stranger = Architecture("another-space", space.largest().values)
        for use in (space.blocks, space.architecture, lambda architecture: space.encode([architecture])):
            with pytest.raises(ArchitectureError, match="another-space"):
                use(stranger)

    def test_architecture_survives_json_copy_and_pickle(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        for architecture in sampled[:5]:
            assert space.architecture(Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))) == architecture
            assert copy.deepcopy(architecture) == architecture == pickle.loads(pickle.dumps(architecture))

    def test_each_block_takes_what_the_one_before_it_gives(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        for architecture in [*sampled, space.largest(), space.smallest()]:
            blocks = space.blocks(architecture)
            assert len({block.name for block in blocks}) == len(blocks)
            for before, after in itertools.pairwise(blocks):
                assert (after.input_side, after.in_channels) == (before.output_side, before.out_channels), after.name

    def test_places_hold_the_very_blocks_of_each_architecture(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        population = space.encode(sampled)
        rows = {place.name: (place, place.rows(population)) for place in places(space)}
        for number, architecture in enumerate(sampled):
            found: list[BlockSpec | None] = [place.blocks[row[number]] for place, row in rows.values() if row[number] < len(place.blocks)]
            assert found == space.blocks(architecture)

    def test_additive_cost_of_a_population_is_the_sum_over_blocks(self, space: SearchSpace, sampled: list[Architecture]) -> None:
        cost = AdditiveCost(space, counts.block_macs)
        assert cost(space.encode(sampled)).tolist() == [counts.macs(space.blocks(architecture)) for architecture in sampled]

    def test_covering_architectures_contain_every_block_of_the_small_space(self, small_space: SearchSpace) -> None:
        covered = {block for architecture in covering_architectures(small_space) for block in small_space.blocks(architecture)}
        assert covered == {block for architecture in small_space.enumerate() for block in small_space.blocks(architecture)}


# --- device agents --------------------------------------------------------------------------------------------------------


def pointwise_block(name: str) -> BlockSpec:
    """A 1x1 convolution whose result is a matrix product; the large one is several hundred times the work of the small one."""
    side, channels = {"small": (8, 8), "large": (56, 64)}[name]
    return BlockSpec("conv_bn", side, channels, channels, name=name)


def pointwise_weights(name: str) -> dict[str, np.ndarray]:
    channels = pointwise_block(name).in_channels
    rng = np.random.default_rng(channels)
    weight, bias = rng.normal(size=(channels, channels, 1, 1)), rng.normal(size=channels)
    return {f"{name}.conv.weight": weight.astype(np.float32), f"{name}.conv.bias": bias.astype(np.float32)}


class AgentContract:
    """What every DeviceAgent keeps. A subclass gives the fixtures `agent`, a fresh agent, and `models`: `small` and `large`
    of `pointwise_block` with `pointwise_weights`, in the agent's format."""

    def test_info_is_complete_and_survives_a_dict(self, agent):
        with agent:
            info = agent.info()
        assert info.device and info.runtime and info.runtime_version and info.delegate
        assert info.threads >= 1 and info.batch == 1 and info.precision == "float32"
        assert DeviceInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info

    def test_a_visit_has_one_row_a_model_and_one_column_a_cycle(self, agent, models):
        with agent:
            (visit,) = agent.measure(models, [VisitPlan("v", ("small", "large"), cycles=5, warmup_cycles=2)])
        assert visit.plan_id == "v"
        assert visit.samples_ns.dtype == np.int64
        assert visit.samples_ns.shape == (2, 5)
        assert (visit.samples_ns > 0).all()

    def test_rows_are_in_the_order_of_the_plan(self, agent, models):
        plans = [VisitPlan("up", ("small", "large", "small"), 9), VisitPlan("down", ("large", "small"), 9)]
        with agent:
            up, down = agent.measure(models, plans)
        small, large, again = np.median(up.samples_ns, axis=1)
        assert large > 3 * small and large > 3 * again
        large, small = np.median(down.samples_ns, axis=1)
        assert large > 3 * small

    def test_visits_come_one_by_one_in_order_from_one_worker(self, agent, models):
        plans = [VisitPlan(f"v{i}", (name,), 2) for i, name in enumerate(["large", "small", "large"])]
        with agent:
            iterator = agent.measure(models, plans)
            first = next(iterator)
            visits = [first, *iterator]
            (other,) = agent.measure(models, [VisitPlan("other", ("small",), 2)])
        assert [visit.plan_id for visit in visits] == ["v0", "v1", "v2"]
        assert {visit.worker for visit in visits} == {first.worker}
        assert other.worker != first.worker

    def test_states_surround_the_visit(self, agent, models):
        with agent:
            (visit,) = agent.measure(models, [VisitPlan("v", ("large",), 5)])
        before, after = visit.state_before, visit.state_after
        assert after.unix_time_ns - before.unix_time_ns >= 0.9 * visit.samples_ns.sum()
        assert DeviceState.from_dict(json.loads(json.dumps(before.to_dict()))) == before
        for state in (before, after):
            assert state.memory_available_kb is None or state.memory_available_kb > 0
            assert state.frequency_khz is None or state.frequency_khz > 0

    def test_models_that_no_plan_names_are_not_read(self, agent, models):
        class Recorded(dict):
            read: ClassVar[list[str]] = []

            def __getitem__(self, name):
                self.read.append(name)
                return super().__getitem__(name)

        with agent:
            list(agent.measure(Recorded(models), [VisitPlan("a", ("small",), 1), VisitPlan("b", ("small",), 1)]))
        assert Recorded.read == ["small"]

    def test_plans_are_checked_before_anything_starts(self, agent, models):
        with agent, pytest.raises(ValueError, match="visit plan 'v' names the model 'medium'"):
            agent.measure(models, [VisitPlan("v", ("small", "medium"), 1)])
        with agent, pytest.raises(ValueError, match="two visit plans have the id 'v'"):
            agent.measure(models, [VisitPlan("v", ("small",), 1), VisitPlan("v", ("large",), 1)])

    def test_a_model_that_is_none_is_an_error_that_names_it(self, agent):
        with agent, pytest.raises(DeviceError, match="'broken'"):
            list(agent.measure({"broken": b"no model at all"}, [VisitPlan("v", ("broken",), 1)]))

    def test_an_iterator_may_be_left_early(self, agent, models):
        plans = [VisitPlan("v0", ("small",), 2), VisitPlan("v1", ("large",), 2)]
        with agent:
            iterator = agent.measure(models, plans)
            next(iterator)
            iterator.close()
            assert len(list(agent.measure(models, plans))) == 2

    def test_outputs_are_those_of_the_model(self, agent, models):
        block, weights = pointwise_block("small"), pointwise_weights("small")
        inputs = np.random.default_rng(0).normal(size=(3, block.input_side, block.input_side, block.in_channels)).astype(np.float32)
        expected = inputs @ weights["small.conv.weight"][:, :, 0, 0].T + weights["small.conv.bias"]
        channels_first = agent.model_format != "tflite"
        with agent:
            outputs = agent.run(models["small"], np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)) if channels_first else inputs)
        np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1) if channels_first else outputs, expected, rtol=1e-4, atol=1e-5)

    def test_no_inputs_are_refused(self, agent, models):
        with agent, pytest.raises(ValueError, match="0 inputs were given"):
            agent.run(models["small"], np.zeros((0, 8, 8, 8), np.float32))


def tiny_table(space: SearchSpace, networks: Sequence[NetworkMeasurement] = ()) -> LatencyTable:
    """A table of invented latencies: 0.02 ms a block and 1 GMAC/s, a fourth of it for 7x7 kernels."""

    def latency_ms(block: BlockSpec) -> float:
        return 0.02 + counts.block_macs(block) / 1e6 * (4 if block.kernel_size == 7 else 1)

    condition = Condition("desk", "onnxruntime", "1.31.1", "cpu", 1, (0,), 1, "float32", "some CPU")
    entries = [Entry(block, latency_ms(block), "measured", 0.01, 3, 30) for block in distinct_blocks(space)]
    alone_ms = {entry.block.key: 0.9 * entry.latency_ms - 0.001 for entry in entries}
    return LatencyTable(condition, "chain", entries, networks, alone_ms=alone_ms)


class LatencyPredictorContract:
    """A latency predictor: give its `name`; it is created for the tiny space from a table of invented latencies."""

    name: str

    @pytest.fixture
    def space(self) -> SearchSpace:
        return space_of_name("ofa-mobilenetv3-tiny")

    @pytest.fixture
    def population(self, space: SearchSpace) -> Population:
        return space.sample_population(30, np.random.default_rng(5))

    @pytest.fixture
    def latencies_ms(self, space: SearchSpace, population: Population) -> np.ndarray:
        return 0.3 + 1.2 * AdditiveCost(space, counts.block_macs)(population) / 1e6

    @pytest.fixture
    def predictor(self, space: SearchSpace) -> LatencyPredictor:
        return latency.create(self.name, space, tiny_table(space))

    @pytest.fixture
    def fitted(self, predictor: LatencyPredictor, population: Population, latencies_ms: np.ndarray) -> LatencyPredictor:
        return predictor.fit(population, latencies_ms)

    def test_goes_by_its_name_and_knows_the_condition_of_its_table(self, predictor: LatencyPredictor) -> None:
        assert predictor.name == self.name
        assert predictor.condition.device == "desk"
        assert predictor.quality is None

    def test_fit_returns_the_predictor_and_forgets_an_older_quality(
        self, predictor: LatencyPredictor, population: Population, latencies_ms: np.ndarray
    ) -> None:
        predictor.quality = judge_latencies(latencies_ms, latencies_ms, 30)
        assert predictor.fit(population, latencies_ms) is predictor
        assert predictor.quality is None

    def test_predicts_one_positive_float64_for_each_architecture(self, fitted: LatencyPredictor, space: SearchSpace) -> None:
        predicted = fitted.predict(space.sample_population(50, np.random.default_rng(6)))
        assert predicted.shape == (50,)
        assert predicted.dtype == np.float64
        assert (predicted > 0).all()
        assert fitted.predict(space.encode([])).shape == (0,)

    def test_an_architecture_costs_the_same_alone_and_in_a_population(self, fitted: LatencyPredictor, population: Population) -> None:
        alone = [fitted.predict(population[i : i + 1])[0] for i in range(len(population))]
        np.testing.assert_allclose(alone, fitted.predict(population), rtol=1e-12)

    def test_wider_integers_mean_the_same(self, fitted: LatencyPredictor, population: Population) -> None:
        assert np.array_equal(fitted.predict(population.astype(np.int64)), fitted.predict(population))

    def test_intervals_widen_with_coverage_and_with_noise(
        self, predictor: LatencyPredictor, space: SearchSpace, population: Population, latencies_ms: np.ndarray
    ) -> None:
        fresh = space.sample_population(50, np.random.default_rng(6))
        widths = []
        for noise, coverage in ((0.02, 0.5), (0.02, 0.9), (0.2, 0.9)):
            noisy_ms = latencies_ms * np.random.default_rng(7).lognormal(0.0, noise, len(population))
            lower_ms, upper_ms = predictor.fit(population, noisy_ms).predict_interval(fresh, coverage)
            assert lower_ms.shape == upper_ms.shape == (50,)
            assert ((lower_ms > 0) & (lower_ms < upper_ms)).all()
            widths.append(float(np.log(upper_ms / lower_ms).mean()))
        assert widths == sorted(widths)
        with pytest.raises(ValueError, match="coverage is 1; expected a share between 0 and 1"):
            predictor.predict_interval(fresh, 1)

    def test_one_network_tells_nothing_of_errors(self, predictor: LatencyPredictor, population: Population) -> None:
        predictor.fit(population[:1], np.array([1.0]))
        assert predictor.predict(population[:1]) > 0
        with pytest.raises(NotFittedError, match="fit it to at least 2 networks"):
            predictor.predict_interval(population)

    def test_fitting_again_forgets_the_networks_before(
        self, predictor: LatencyPredictor, space: SearchSpace, population: Population, latencies_ms: np.ndarray
    ) -> None:
        again = predictor.fit(population, latencies_ms).fit(population[:12], 2 * latencies_ms[:12]).predict(population)
        new = latency.create(self.name, space, tiny_table(space)).fit(population[:12], 2 * latencies_ms[:12]).predict(population)
        assert np.array_equal(again, new)

    def test_saved_and_loaded_it_predicts_the_same(self, fitted: LatencyPredictor, population: Population, tmp_path: Path) -> None:
        fitted.quality = judge_latencies(np.array([1.0, 2.0]), np.array([1.1, 2.0]), 30)
        fitted.save(tmp_path / "predictor")
        loaded = latency.load(tmp_path / "predictor")
        assert type(loaded) is type(fitted)
        assert (loaded.condition, loaded.quality) == (fitted.condition, fitted.quality)
        assert np.array_equal(loaded.predict(population), fitted.predict(population))
        assert np.array_equal(loaded.predict_interval(population), fitted.predict_interval(population))

    def test_a_restriction_is_kept_by_saving(self, space: SearchSpace, tmp_path: Path) -> None:
        narrow = space.restrict({"resolution": [20, 28], "depth": [2]})
        inside = narrow.sample_population(20, np.random.default_rng(7))
        predictor = latency.create(self.name, narrow, tiny_table(narrow)).fit(inside, np.linspace(1, 2, 20))
        predictor.save(tmp_path)
        loaded = latency.load(tmp_path, space)
        assert np.array_equal(loaded.predict(inside), predictor.predict(inside))
        with pytest.raises(ValueError, match=r"architecture 0 .* slot 'resolution' has the value 32; expected one of \[20, 28\]"):
            loaded.predict(space.encode([space.largest()]))
        with pytest.raises(ValueError, match=r"slot 'stage1.depth' has the value 4"):
            loaded.predict(space.encode([space.architecture({**space.largest().values, "resolution": 20})]))

    def test_another_space_is_refused_by_its_name(self, fitted: LatencyPredictor, tmp_path: Path) -> None:
        fitted.save(tmp_path)
        with pytest.raises(PredictorFileError, match="'ofa-mobilenetv3-tiny' but space 'ofa-mobilenetv3-w1.0' was given"):
            latency.load(tmp_path, space_of_name("ofa-mobilenetv3-w1.0"))

    def test_populations_of_another_kind_are_refused(self, fitted: LatencyPredictor, population: Population, space: SearchSpace) -> None:
        assert_populations_of_another_kind_are_refused(fitted.predict, population, space)

    def test_latencies_that_cannot_be_are_refused(
        self, predictor: LatencyPredictor, population: Population, latencies_ms: np.ndarray, space: SearchSpace
    ) -> None:
        for wrong in (np.nan, np.inf, 0.0, -1.0):
            with pytest.raises(ValueError, match="number 3 of the latencies_ms"):
                predictor.fit(population, np.where(np.arange(30) == 3, wrong, latencies_ms))
        with pytest.raises(ValueError, match=r"latencies_ms have the shape \(29,\); expected \(30,\)"):
            predictor.fit(population, latencies_ms[:-1])
        with pytest.raises(ValueError, match="0 networks"):
            predictor.fit(space.encode([]), np.empty(0))


def assert_populations_of_another_kind_are_refused(predict: Callable[[Any], Any], population: Population, space: SearchSpace) -> None:
    """Shape, NaN, strings, codes that no value has, rows that are not canonical: each is a ValueError that says so."""
    with pytest.raises(ValueError, match="this array has"):
        predict(population[:, :-1])
    with pytest.raises(ValueError, match="this array has"):
        predict(population[0])
    with pytest.raises(ValueError, match="row 2, column 0 of the population is nan"):
        predict(np.where(np.arange(len(population))[:, None] == 2, np.nan, population))
    with pytest.raises(ValueError, match="holds integer codes"):
        predict(population.astype(str))
    strange = population.copy()
    strange[4, 0] = len(space.choices[0].values)
    with pytest.raises(ValueError, match="architecture 4 of the population"):
        predict(strange)
    shallow = space.encode([space.smallest()])
    shallow[0, space.position["stage1.block3.kernel_size"]] = 1
    with pytest.raises(ValueError, match="though 'stage1.depth' switches it off"):
        predict(shallow)


class AccuracyPredictorContract:
    """An accuracy predictor: give its `name`, small `settings` that learn in a second or so, and the `package` it learns with."""

    name: str
    settings: ClassVar[dict[str, Any]] = {}
    wrong_settings: ClassVar[dict[str, Any]] = {}  # setting → a value that `fit` refuses
    package: str
    loads_without: tuple[str, ...]  # packages that loading and predicting must not need
    space_name = "ofa-mobilenetv3-tiny"

    @pytest.fixture(autouse=True)
    def package_is_there(self) -> None:
        pytest.importorskip(self.package)

    @pytest.fixture
    def space(self) -> SearchSpace:
        return space_of_name(self.space_name)

    @pytest.fixture
    def population(self, space: SearchSpace) -> Population:
        return space.sample_different(240, np.random.default_rng(8))

    @pytest.fixture
    def accuracies(self, space: SearchSpace, population: Population) -> np.ndarray:
        """Larger is better, more so in resolution, with a little noise."""
        macs = AdditiveCost(space, counts.block_macs)(population)
        noise = np.random.default_rng(9).normal(0, 0.002, len(population))
        return 0.3 + 0.02 * np.log(macs) + 0.02 * population[:, 0] + noise

    @pytest.fixture
    def predictor(self) -> AccuracyPredictor:
        return accuracy.create(self.name, self.space_name, **self.settings)

    @pytest.fixture
    def fitted(self, predictor: AccuracyPredictor, population: Population, accuracies: np.ndarray) -> AccuracyPredictor:
        return predictor.fit(population[:180], accuracies[:180])

    def test_constructor_stores_its_arguments_and_nothing_else(self, predictor: AccuracyPredictor) -> None:
        assert predictor.get_params() == vars(predictor)
        assert predictor.get_params()["space_name"] == self.space_name
        assert set(self.settings) < set(predictor.get_params())

    def test_unknown_settings_are_refused_naming_the_known_ones(self, predictor: AccuracyPredictor) -> None:
        with pytest.raises(ValueError, match="has no setting 'depht'; its settings are space_name"):
            predictor.set_params(depht=3)

    def test_wrong_settings_are_refused_when_fitting(self, population: Population, accuracies: np.ndarray, predictor: AccuracyPredictor) -> None:
        for name, value in self.wrong_settings.items():
            with pytest.raises(ValueError, match=name):
                accuracy.create(self.name, self.space_name, **{name: value}).fit(population, accuracies)
        with pytest.raises(KeyError, match="unknown space 'nowhere'"):
            predictor.set_params(space_name="nowhere").fit(population, accuracies)

    def test_what_was_learned_ends_in_an_underscore(self, fitted: AccuracyPredictor, predictor: AccuracyPredictor) -> None:
        learned = set(vars(fitted)) - set(fitted.get_params())
        assert all(name.endswith("_") for name in learned), learned
        assert fitted is predictor
        assert fitted.n_features_in_ == len(fitted.space_.choices)
        assert fitted.quality_ is None

    def test_learns_more_than_the_mean(self, fitted: AccuracyPredictor, population: Population, accuracies: np.ndarray) -> None:
        predicted = fitted.predict(population[180:])
        assert predicted.shape == (60,)
        assert predicted.dtype == np.float64
        assert fitted.score(population[180:], accuracies[180:]) > 0.8

    def test_one_seed_gives_one_predictor(self, fitted: AccuracyPredictor, population: Population, accuracies: np.ndarray) -> None:
        again = accuracy.create(self.name, self.space_name, **self.settings).fit(population[:180], accuracies[:180])
        assert np.array_equal(again.predict(population), fitted.predict(population))

    def test_scikit_learn_clones_it_and_cross_validates_it(
        self, predictor: AccuracyPredictor, fitted: AccuracyPredictor, population: Population, accuracies: np.ndarray
    ) -> None:
        base = pytest.importorskip("sklearn.base")
        selection = pytest.importorskip("sklearn.model_selection")
        copied = base.clone(fitted)
        assert copied.get_params() == predictor.get_params()
        assert not hasattr(copied, "space_")
        assert base.is_regressor(fitted)
        scores = selection.cross_val_score(predictor, population, accuracies, cv=3)
        assert scores.shape == (3,)
        assert scores.min() > 0.6
        errors = selection.cross_val_score(predictor, population, accuracies, cv=3, scoring="neg_root_mean_squared_error")
        assert (errors > -0.01).all()

    def test_score_is_that_of_scikit_learn(self, fitted: AccuracyPredictor, population: Population, accuracies: np.ndarray) -> None:
        reference = pytest.importorskip("sklearn.metrics").r2_score(accuracies[180:], fitted.predict(population[180:]))
        assert fitted.score(population[180:], accuracies[180:]) == pytest.approx(reference, rel=1e-9)

    def test_saved_and_loaded_it_predicts_the_same(self, fitted: AccuracyPredictor, population: Population, tmp_path: Path) -> None:
        fitted.save(tmp_path / "saved")
        loaded = accuracy.load(tmp_path / "saved")
        assert type(loaded) is type(fitted)
        assert loaded.quality_ is None
        assert np.array_equal(loaded.predict(population), fitted.predict(population))
        loaded.save(tmp_path / "again")
        assert np.array_equal(accuracy.load(tmp_path / "again").predict(population), fitted.predict(population))

    def test_loads_and_predicts_where_the_learning_packages_are_absent(
        self, fitted: AccuracyPredictor, population: Population, tmp_path: Path
    ) -> None:
        fitted.save(tmp_path)
        np.save(tmp_path / "population.npy", population)
        command = [sys.executable, "-c", LOAD_AND_PREDICT, json.dumps(self.loads_without), str(tmp_path)]
        result = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout) == fitted.predict(population).tolist()

    def test_another_space_is_refused_by_its_name(self, fitted: AccuracyPredictor, tmp_path: Path) -> None:
        fitted.save(tmp_path)
        with pytest.raises(PredictorFileError, match="'ofa-mobilenetv3-tiny' but space 'ofa-mobilenetv3-w1.0' was given"):
            accuracy.load(tmp_path, space_of_name("ofa-mobilenetv3-w1.0"))

    def test_asked_before_fit_it_says_so(self, predictor: AccuracyPredictor, population: Population, tmp_path: Path) -> None:
        with pytest.raises(NotFittedError, match="was not fitted"):
            predictor.predict(population)
        with pytest.raises(NotFittedError, match="was not fitted"):
            predictor.save(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_populations_of_another_kind_are_refused(self, fitted: AccuracyPredictor, population: Population, space: SearchSpace) -> None:
        assert_populations_of_another_kind_are_refused(fitted.predict, population, space)
        assert_populations_of_another_kind_are_refused(lambda codes: fitted.fit(codes, np.full(len(codes), 0.5)), population, space)

    def test_accuracies_that_are_no_shares_are_refused(self, predictor: AccuracyPredictor, population: Population, accuracies: np.ndarray) -> None:
        with pytest.raises(ValueError, match="divide per cent by 100"):
            predictor.fit(population, 100 * accuracies)
        with pytest.raises(ValueError, match=r"number 1 of the accuracies .* is nan"):
            predictor.fit(population, np.where(np.arange(240) == 1, np.nan, accuracies))
        with pytest.raises(ValueError, match=r"shape \(239,\); expected \(240,\)"):
            predictor.fit(population, accuracies[1:])
        with pytest.raises(ValueError, match="1 architectures; expected at least 2"):
            predictor.fit(population[:1], accuracies[:1])

    def test_two_architectures_are_enough_to_say_something(
        self, predictor: AccuracyPredictor, population: Population, accuracies: np.ndarray
    ) -> None:
        predicted = predictor.fit(population[:2], accuracies[:2]).predict(population)
        assert np.isfinite(predicted).all()

    def test_a_missing_package_is_named_with_the_extra_that_brings_it(
        self, predictor: AccuracyPredictor, population: Population, accuracies: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.setitem(sys.modules, self.package, None)
        with pytest.raises(ImportError, match=r"fitting accuracy predictor .* needs the package .*; install it with pip install 'elastic-latency\["):
            predictor.fit(population, accuracies)

    def test_a_resolution_nobody_evaluated_lies_between_its_neighbours(
        self, predictor: AccuracyPredictor, space: SearchSpace, population: Population, accuracies: np.ndarray
    ) -> None:
        unseen = 2  # 28 pixels
        seen = population[:, 0] != unseen
        predictor.fit(population[seen], accuracies[seen])
        base = population[:40].copy()
        means = []
        for code in (1, unseen, 3):
            base[:, 0] = code
            means.append(predictor.predict(base).mean())
        assert means[0] - 0.005 < means[1] < means[2] + 0.005


LOAD_AND_PREDICT = """
import json, sys

blocked = set(json.loads(sys.argv[1]))

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import numpy as np
from predictors import accuracy
print(json.dumps(accuracy.load(sys.argv[2]).predict(np.load(sys.argv[2] + "/population.npy")).tolist()))
"""
