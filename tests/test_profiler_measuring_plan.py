from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from profiler.measuring.plan import NetworkItem, make_plan, network_plan
from profiler.measuring.settings import PRESETS, ProtocolSettings, preset
from supernets.counts import block_macs
from supernets.places import distinct_blocks
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
IMAGENET = space("ofa-mobilenetv3-w1.2")
SETTINGS = ProtocolSettings(rounds=3, alone_visits=2, chain_visits=1, network_visits=2, calibration_networks=4, held_out_networks=3)
ONE_NETWORK = {"resolution": (20,), "kernel_size": (3,), "expand_ratio": (3,), "depth": (2,)}


@pytest.fixture(scope="module")
def plan():
    return make_plan(TINY, SETTINGS, seed=5)


def test_the_same_space_settings_and_seed_give_the_same_plan(plan):
    again = make_plan(space("ofa-mobilenetv3-tiny"), SETTINGS, seed=5)
    assert again.rounds == plan.rounds
    assert again.networks == plan.networks
    assert again.identity == plan.identity


def test_another_seed_gives_another_order_and_other_networks(plan):
    other = make_plan(TINY, SETTINGS, seed=6)
    assert [visit.id for visit in other.rounds[0].visits] != [visit.id for visit in plan.rounds[0].visits]
    assert not set(other.networks) & set(plan.networks)
    assert set(other.blocks) == set(plan.blocks)


def test_every_block_of_the_space_is_visited_in_every_round_alone_and_in_chains(plan):
    wanted = {block.key for block in distinct_blocks(TINY)}
    assert set(plan.blocks) == wanted
    for number in range(SETTINGS.rounds):
        visits = [visit for part in plan.rounds if part.number == number for visit in part.visits]
        alone = Counter(visit.subjects for visit in visits if visit.mode == "alone")
        chained = Counter(key for visit in visits if visit.mode == "chain" for key in visit.subjects)
        assert alone == {(key,): SETTINGS.alone_visits for key in wanted}
        assert set(chained) == wanted
        networks = Counter(visit.subjects for visit in visits if visit.mode == "network")
        assert networks == {(key,): SETTINGS.network_visits for key in plan.networks}


def test_networks_have_workers_of_their_own_that_hold_a_few_of_them():
    plan = make_plan(TINY, replace(SETTINGS, networks_per_worker=3), seed=5)
    for part in plan.rounds:
        modes = {visit.mode for visit in part.visits} - {"anchor"}
        assert modes in ({"alone", "chain"}, {"network"})
        assert len({visit.subjects for visit in part.visits if visit.mode == "network"}) <= 3
    assert Counter(part.number for part in plan.rounds) == {0: 4, 1: 4, 2: 4}


def test_chains_are_networks_of_the_space_in_order_of_execution(plan):
    for part in plan.rounds:
        for visit in part.visits:
            if visit.mode == "chain":
                blocks = [plan.blocks[key] for key in visit.subjects]
                assert blocks[0].in_channels == 1 and blocks[-1].operator == "linear"
                assert all(after.in_channels == before.out_channels for before, after in itertools.pairwise(blocks))


def test_visits_have_ids_of_their_own_and_are_mixed(plan):
    ids = [visit.id for part in plan.rounds for visit in part.visits]
    assert len(set(ids)) == len(ids) == plan.visit_count
    for part in plan.rounds:
        half = len(part.visits) // 2
        first = Counter(visit.mode for visit in part.visits[:half])
        for mode, count in Counter(visit.mode for visit in part.visits).items():
            assert 0.3 <= first[mode] / count < 0.7, mode
    assert [visit.subjects for visit in plan.rounds[0].visits] != [visit.subjects for visit in plan.rounds[1].visits]


def test_the_anchor_is_an_elastic_block_of_middling_cost_visited_first_last_and_all_the_time(plan):
    costs = sorted(block_macs(block) for block in plan.blocks.values() if block.operator == "mbconv")
    assert plan.blocks[plan.anchor].operator == "mbconv"
    assert costs[len(costs) // 3] <= block_macs(plan.blocks[plan.anchor]) <= costs[2 * len(costs) // 3]
    for part in plan.rounds:
        at = [i for i, visit in enumerate(part.visits) if visit.mode == "anchor"]
        assert {part.visits[i].subjects for i in at} == {(plan.anchor,)}
        assert (at[0], at[-1]) == (0, len(part.visits) - 1)
        assert max(after - before for before, after in itertools.pairwise(at)) <= SETTINGS.anchor_every + 1


def test_a_round_of_some_has_their_visits_of_the_full_round_in_as_few_workers_as_hold_them():
    plan = make_plan(TINY, replace(SETTINGS, models_per_worker=40), seed=5)
    full = {visit.id for part in plan.rounds for visit in part.visits if part.number == 1}
    assert len([part for part in plan.rounds if part.number == 1]) > 4
    chosen = [repeated for repeated in plan.repeated if repeated.mode == "alone"][::6]
    parts = plan.round_of(1, chosen)
    visits = [visit for part in parts for visit in part.visits if visit.mode != "anchor"]
    assert {visit.subjects for visit in visits} == {repeated.subjects for repeated in chosen}
    assert {visit.id for visit in visits} <= full and len(visits) == SETTINGS.alone_visits * len(chosen)
    assert len(parts) == -(-len(chosen) // 40)
    assert plan.round_of(1, chosen) == parts


def test_more_rounds_keep_the_visits_there_were(plan):
    longer = make_plan(TINY, replace(SETTINGS, rounds=5), seed=5)
    assert longer.rounds[: len(plan.rounds)] == plan.rounds


def test_other_runs_are_other_visits(plan):
    other = make_plan(TINY, replace(SETTINGS, alone_runs=11), seed=5)
    mine, theirs = ({v.id for part in p.rounds for v in part.visits if v.mode == "alone"} for p in (plan, other))
    assert not mine & theirs


def test_networks_are_different_inside_the_space_and_spread_over_the_resolutions():
    plan = make_plan(IMAGENET, ProtocolSettings(rounds=1), seed=0)
    items = list(plan.networks.values())
    assert Counter(item.role for item in items) == {"calibration": 40, "held_out": 20}
    assert len({item.architecture for item in items}) == 60
    for item in items:
        assert IMAGENET.architecture(item.architecture) == item.architecture
        assert list(item.blocks) == IMAGENET.blocks(item.architecture)
    sides = [item.architecture["resolution"] for item in items if item.role == "calibration"]
    assert (min(sides), max(sides), len(set(sides))) == (128, 224, 25)
    assert len({item.architecture["resolution"] for item in items if item.role == "held_out"}) == 20


def test_a_space_of_few_networks_shares_them_out_between_the_roles():
    few = TINY.restrict({**ONE_NETWORK, "resolution": (20, 24, 28)})
    items = make_plan(few, SETTINGS).networks.values()
    assert Counter(item.role for item in items) == {"calibration": 2, "held_out": 1}
    assert len({item.architecture for item in items}) == 3


def test_a_space_of_one_network_can_be_planned():
    plan = make_plan(TINY.restrict(ONE_NETWORK), SETTINGS)
    assert len(plan.networks) == 1
    assert len([visit for visit in plan.rounds[0].visits if visit.mode == "chain"]) == 1


def test_no_networks_and_no_visits_of_a_mode_can_be_asked_for():
    plan = make_plan(TINY, replace(SETTINGS, alone_visits=0, calibration_networks=0, held_out_networks=0))
    assert {visit.mode for part in plan.rounds for visit in part.visits} == {"chain", "anchor"}
    without = make_plan(TINY, replace(SETTINGS, alone_visits=0, calibration_networks=0, held_out_networks=0, anchor_every=0))
    assert {visit.mode for part in without.rounds for visit in part.visits} == {"chain"}


def test_a_restricted_space_has_a_plan_of_its_own_under_its_own_identity(plan):
    restricted = make_plan(TINY.restrict({"resolution": (20, 28)}), SETTINGS, seed=5)
    assert restricted.identity["restrictions"] == {"resolution": [20, 28]}
    assert plan.identity["restrictions"] == {}
    assert set(restricted.blocks) < set(plan.blocks)


def test_rounds_of_many_models_are_shared_out_to_several_workers_that_hold_fewer_each(plan):
    assert Counter(part.number for part in plan.rounds) == {0: 2, 1: 2, 2: 2}
    divided = make_plan(TINY, replace(SETTINGS, models_per_worker=len(plan.blocks) // 3), seed=5)
    own, others = ({visit.id for part in p.rounds for visit in part.visits if visit.mode != "anchor"} for p in (plan, divided))
    assert own == others
    assert Counter(part.number for part in divided.rounds) == {0: 5, 1: 5, 2: 5}
    for part in divided.rounds:
        assert len({key for visit in part.visits for key in visit.subjects}) < len(plan.blocks) / 2


def test_a_worker_may_hold_as_little_as_one_chain():
    plan = make_plan(TINY.restrict(ONE_NETWORK), replace(SETTINGS, models_per_worker=1))
    assert len(plan.rounds) == 2 * SETTINGS.rounds


def test_counts_add_up_over_the_rounds(plan):
    counts = plan.counts()
    visits = [visit for part in plan.rounds for visit in part.visits]
    assert counts.visits == len(visits) == plan.visit_count
    assert (counts.models, counts.workers) == (len(plan.blocks) + len(plan.networks), 2 * SETTINGS.rounds)
    assert counts.loads == (counts.models + 1) * SETTINGS.rounds  # the anchor in both workers
    for modes, runs in ((("alone", "anchor"), counts.alone_runs), (("chain",), counts.chain_runs), (("network",), counts.network_runs)):
        assert runs == sum(len(v.subjects) * (v.cycles + v.warmup_cycles) for v in visits if v.mode in modes)


def test_seconds_are_the_counts_times_their_costs(plan):
    counts = plan.counts()
    free = dict.fromkeys(("make_ms", "start_ms", "load_ms", "visit_ms", "alone_ms", "chain_ms", "network_ms"), 0.0)
    assert counts.seconds(**free) == 0.0
    assert counts.seconds(**{**free, "visit_ms": 2.0}) == pytest.approx(counts.visits * 0.002)
    assert counts.seconds(**{**free, "network_ms": 5.0}) == pytest.approx(counts.network_runs * 0.005)


def test_the_whole_imagenet_space_is_measured_within_a_quarter_of_an_hour():
    plan = make_plan(IMAGENET, preset("full"))
    assert len(plan.blocks) == 1257
    assert plan.counts().seconds() < 15 * 60
    assert max(len({key for visit in part.visits for key in visit.subjects}) for part in plan.rounds) < 450
    fewest = PRESETS["full"]
    assert min(fewest.alone_visits, fewest.chain_visits, fewest.network_visits) * fewest.rounds >= 20


# --- networks given by hand --------------------------------------------------------------------------------------------


def item(**fields) -> NetworkItem:
    architecture = TINY.smallest()
    return NetworkItem(**{"name": "n", "blocks": tuple(TINY.blocks(architecture)), "architecture": architecture, "role": "verification", **fields})


def test_a_networks_key_follows_from_name_role_blocks_file_and_session():
    keys = {item().key(), item(name="m").key(), item(role="finalist").key(), item(model=b"1").key(), item(model=b"2").key(), item().key("second"),
            item(blocks=tuple(TINY.blocks(TINY.largest()))).key()}  # fmt: skip
    assert len(keys) == 7
    assert item().key() == item().key()


def test_a_plan_of_networks_visits_them_in_turn_and_nothing_else():
    plan = network_plan([item(), item(name="m")], SETTINGS)
    assert len(plan.rounds) == SETTINGS.rounds
    for part in plan.rounds:
        assert Counter(visit.subjects[0] for visit in part.visits) == dict.fromkeys(plan.networks, SETTINGS.network_visits)


def test_one_network_given_twice_is_refused():
    with pytest.raises(ValueError, match="network 'n' of role 'verification' is given twice"):
        network_plan([item(), item()], SETTINGS)


def test_a_network_without_blocks_name_or_role_is_refused():
    for fields in ({"blocks": ()}, {"name": ""}, {"role": ""}):
        with pytest.raises(ValueError, match="expected a name, a role and at least one block"):
            item(**fields)


# --- settings ----------------------------------------------------------------------------------------------------------


def test_settings_survive_a_dict_and_refuse_unknown_names():
    assert ProtocolSettings.from_dict(SETTINGS.to_dict()) == SETTINGS
    assert ProtocolSettings.from_dict({"rounds": 7}) == ProtocolSettings(rounds=7)
    with pytest.raises(ValueError, match="no setting 'speed'; its settings are rounds, "):
        ProtocolSettings.from_dict({"speed": 1})


@pytest.mark.parametrize("fields", [{"rounds": 0}, {"alone_runs": 0}, {"chain_visits": -1}, {"network_runs": 2.5}, {"rounds": True}])
def test_a_number_out_of_range_is_refused_naming_it(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))} is .*; expected a whole number of at least"):
        ProtocolSettings(**fields)


def test_an_unknown_preset_is_refused_naming_the_known_ones():
    with pytest.raises(ValueError, match="unknown preset 'slow'; known presets: full, quick"):
        preset("slow")
