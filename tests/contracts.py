"""What every implementation of a plug-in point must do: one class a point, subclassed once an implementation in `test_*.py`."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from typing import ClassVar

import numpy as np
import pytest

from device_agents.base import DeviceError, DeviceInfo, DeviceState, VisitPlan
from supernets import counts
from supernets.blocks import BlockSpec
from supernets.places import AdditiveCost, covering_architectures, places
from supernets.space import OFF, Architecture, ArchitectureError, SearchSpace
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
        channels_first = agent.model_format == "onnx"
        with agent:
            outputs = agent.run(models["small"], np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)) if channels_first else inputs)
        np.testing.assert_allclose(outputs.transpose(0, 2, 3, 1) if channels_first else outputs, expected, rtol=1e-4, atol=1e-5)

    def test_no_inputs_are_refused(self, agent, models):
        with agent, pytest.raises(ValueError, match="0 inputs were given"):
            agent.run(models["small"], np.zeros((0, 8, 8, 8), np.float32))
