import pytest

from device_agents.android.clusters import clusters, cores_of, listed, mask, parse_list

PIXEL_1 = {0: 1593600, 1: 1593600, 2: 2150400, 3: 2150400}
PIXEL_4 = {core: 1785600 for core in range(4)} | {4: 2419200, 5: 2419200, 6: 2419200, 7: 2841600}
FOUR_GROUPS = {0: 1, 1: 2, 2: 2, 3: 3, 4: 4}
ALIKE = {0: 1000, 1: 1000}


def test_cores_are_grouped_by_their_highest_clock_slowest_first():
    assert clusters(PIXEL_1) == [(0, 1), (2, 3)]
    assert clusters(PIXEL_4) == [(0, 1, 2, 3), (4, 5, 6), (7,)]
    assert clusters({0: None, 1: None}) == []


@pytest.mark.parametrize(
    ("cluster", "maxima", "cores"),
    [
        ("big", PIXEL_1, (2, 3)), ("little", PIXEL_1, (0, 1)), ("big", PIXEL_4, (7,)), ("middle", PIXEL_4, (4, 5, 6)),
        ("little", PIXEL_4, (0, 1, 2, 3)),
        ("big", ALIKE, (0, 1)), ("middle", FOUR_GROUPS, (3,)), ("big", {**PIXEL_1, 4: None}, (2, 3)),
    ],
)  # fmt: skip
def test_cluster_is_told_by_the_devices_own_clocks(cluster, maxima, cores):
    assert cores_of(cluster, maxima) == cores


@pytest.mark.parametrize(
    ("cluster", "maxima", "message"),
    [
        ("middle", PIXEL_1, "has only cores 0, 1 at up to 1593600 kHz; cores 2, 3 at up to 2150400 kHz"),
        ("little", ALIKE, "has only cores 0, 1"),
        ("big", {0: None, 1: None}, "none of the 2 cores tells its highest clock; set `cores`"),
        ("biggest", PIXEL_1, "expected big, middle, little"),
    ],
)
def test_cluster_that_is_not_there_is_refused_saying_what_is(cluster, maxima, message):
    with pytest.raises(ValueError, match=message):
        cores_of(cluster, maxima)


def test_mask_is_hexadecimal_as_taskset_takes_it():
    assert [mask([4, 5, 6]), mask((7,)), mask(range(4, 8)), mask([0])] == ["70", "80", "f0", "1"]


def test_kernel_lists_are_read_and_rubbish_is_none():
    assert parse_list("0-3,6\n") == (0, 1, 2, 3, 6)
    assert parse_list("5") == (5,)
    assert [parse_list(text) for text in ("", "a", "3-1", "1-", "-1", "0-99999999", "1,,2")] == [None] * 7
    assert listed((6, 4, 5)) == "4, 5, 6"
