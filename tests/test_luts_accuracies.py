from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luts.store import AccuracyProtocol, MeasurementStore, StoreError
from supernets.spaces import space

TINY = space("ofa-mobilenetv3-tiny")
PROTOCOL = AccuracyProtocol(TINY.name, "ab" * 32, "digits", validation_images=20, calibration_images=64, calibration_seed=1, precision="float32")


def rows(count: int, seed: int = 0) -> list[tuple]:
    rng = np.random.default_rng(seed)
    found = []
    for architecture in TINY.decode(TINY.sample_different(count, rng)):
        hits = rng.random(PROTOCOL.validation_images) < 0.7
        found.append((architecture, float(hits.mean()), np.packbits(hits).tobytes()))
    return found


def test_accuracies_come_back_as_given_and_in_order(tmp_path):
    given = rows(5)
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_accuracies(PROTOCOL, given[:2])
        store.add_accuracies(PROTOCOL, given[2:])
        store.finish()
    with MeasurementStore(tmp_path / "a.lut", read_only=True) as store:
        found = store.accuracies(PROTOCOL)
    assert [(row.architecture, row.top1, row.hits) for row in found] == given
    assert {row.protocol for row in found} == {PROTOCOL}


def test_an_architecture_is_stored_once_a_protocol_and_a_refused_batch_leaves_nothing(tmp_path):
    given = rows(4)
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_accuracies(PROTOCOL, given[:1])
        with pytest.raises(StoreError, match="already"):
            store.add_accuracies(PROTOCOL, given[1:] + given[:1])
        assert len(store.accuracies()) == 1
        store.add_accuracies(replace(PROTOCOL, calibration_seed=2), given[:1])
        assert len(store.accuracies()) == 2
        assert len(store.accuracies(PROTOCOL)) == 1


def test_the_order_of_an_architectures_slots_makes_no_second_one(tmp_path):
    architecture, top1, hits = rows(1)[0]
    turned = type(architecture)(architecture.space, dict(reversed(list(architecture.values.items()))))
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_accuracies(PROTOCOL, [(architecture, top1, hits)])
        with pytest.raises(StoreError, match="already"):
            store.add_accuracies(PROTOCOL, [(turned, top1, hits)])


def test_accuracies_and_latencies_share_a_file(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_subject("b", "block", {})
        store.add_visit("v", "alone", 0, ["b"], np.array([[5]]))
        store.add_accuracies(PROTOCOL, rows(2))
        assert store.finished_plans() == {"v"}
        assert len(store.accuracies(PROTOCOL)) == 2


def test_nothing_is_stored_for_no_rows(tmp_path):
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_accuracies(PROTOCOL, [])
        assert store.accuracies() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"top1": 1.2}, "top1 is 1.2; expected a share from 0 to 1"),
        ({"hits": b"\xff"}, "hits are 1 bytes; expected 3 for 20 images"),
        ({"hits": b"\xff\xff\xff"}, "hits count 24 of 20 images"),
        ({"hits": b"\x00\x00\x00"}, "hits count 0 of 20 images"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(tmp_path, change, words):
    architecture, top1, hits = rows(1)[0]
    given = {"top1": top1, "hits": hits, **change}
    with MeasurementStore(tmp_path / "a.lut") as store, pytest.raises(ValueError, match=words):
        store.add_accuracies(PROTOCOL, [(architecture, given["top1"], given["hits"])])


def test_a_share_without_hits_and_one_rounded_to_float32_are_fine(tmp_path):
    (first, _, _), (second, _, _) = rows(2)
    third_right = np.zeros(20, dtype=bool)
    third_right[:7] = True
    with MeasurementStore(tmp_path / "a.lut") as store:
        store.add_accuracies(PROTOCOL, [(first, 0.123, b""), (second, np.float32(0.35), np.packbits(third_right).tobytes())])
        assert [row.top1 for row in store.accuracies()] == [0.123, pytest.approx(0.35)]


def test_an_architecture_of_another_space_is_refused(tmp_path):
    other = replace(PROTOCOL, space="ofa-mobilenetv3-w1.0")
    with MeasurementStore(tmp_path / "a.lut") as store, pytest.raises(ValueError, match=r"ofa-mobilenetv3-tiny.*ofa-mobilenetv3-w1\.0"):
        store.add_accuracies(other, rows(1))


def test_a_protocol_without_images_is_refused():
    with pytest.raises(ValueError, match="validation_images is 0"):
        replace(PROTOCOL, validation_images=0)
