# ruff: noqa: E402  (torch may be missing: the imports below it need it)
from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from luts.store import MeasurementStore
from profiler import proxy_training, proxy_worker
from profiler.proxy_training import AccuracyWorkerError, ProxyAccuracies, proxy_protocol
from profiler.proxy_worker import ProxyTask, Stopped, trained_hits
from search.driver import search
from search.settings import SearchSettings
from supernets import spaces
from supernets.networks.checkpoint import load_supernet
from supernets.places import AdditiveCost
from supernets.training.data import open_images
from supernets.training.data_files import write_npz
from supernets.training.static import small_proxy, train_network
from supernets.training.validation import accuracy

pytestmark = pytest.mark.torch

SPACE = spaces.space("mnasnet-tiny").restrict(
    {"convolution": ("sepconv", "mbconv3"), "se_ratio": (0,), "depth": (1,), "lone_skip": ("none",), "stage1.kernel_size": (3,)}
)
RECIPE = small_proxy(3)  # epochs of two steps
FEW = {"validation_images": 30, "calibration_images": 64}
SOME = SPACE.sample_different(3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A file of grey images, the higher the class the brighter."""
    rng, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 128), ("validation", 40), ("test", 20)):
        labels = np.arange(count) % 10
        arrays |= {f"{part}_labels": labels}
        arrays |= {f"{part}_images": (rng.integers(0, 20, (count, 28, 28, 1)) + 25 * labels[:, None, None, None]).astype(np.uint8)}
    path = tmp_path_factory.mktemp("images") / "greys.npz"
    write_npz(path, arrays, tuple("abcdefghij"))
    return str(path)


@pytest.fixture
def store(tmp_path):
    with MeasurementStore(tmp_path / "proxies.db") as store:
        yield store


class OneProcess:
    """Stands in for the pool of processes: trains here, at once, and notes what."""

    trainings: list[dict]
    fails_after = 10**9

    def __init__(self, workers, context, prepare, given):
        self.task, self.stop = given

    def submit(self, function, values):
        from concurrent.futures import Future

        future = Future()
        if len(self.trainings) >= self.fails_after:
            future.set_exception(proxy_training.BrokenProcessPool("killed"))
        else:
            self.trainings.append(values)
            future.set_result(trained_hits(self.task, values, self.stop.is_set))
        return future

    def shutdown(self, **how):
        pass


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(OneProcess, "trainings", [], raising=False)
    monkeypatch.setattr(OneProcess, "fails_after", 10**9)
    monkeypatch.setattr(proxy_training, "ProcessPoolExecutor", OneProcess)
    return OneProcess


def proxies(images, store, **others):
    return ProxyAccuracies(SPACE, images, store, RECIPE, **{**FEW, **others})


def test_an_accuracy_is_that_of_the_network_trained_from_scratch(images, store, here, tmp_path):
    with proxies(images, store) as accuracies:
        (found, *_) = accuracies(SOME)
    data, (architecture, *_) = open_images(images), SPACE.decode(SOME)
    network = load_supernet(train_network(SPACE, architecture, data, RECIPE, tmp_path / "alone").weights)
    judged = np.sort(np.random.default_rng([0, 40]).permutation(40)[:30])
    calibration = data.calibration_images(64)
    again = accuracy(network.space, network.tensors(), architecture, data.validation_images[judged], data.validation_labels[judged], calibration)
    assert found == again


def test_processes_give_what_one_gives_and_everything_is_kept_as_it_comes(images, store, tmp_path, here, monkeypatch):
    with MeasurementStore(tmp_path / "here.db") as other, proxies(images, other) as accuracies:
        expected = accuracies(SOME)
    monkeypatch.undo()
    told = []
    with proxies(images, store, progress=lambda known, asked: told.append((known, asked, len(store.accuracies())))) as accuracies:
        found = accuracies(SOME)
        assert accuracies.trained == 3
    assert np.array_equal(found, expected)
    assert told == [(0, 3, 0), (1, 3, 1), (2, 3, 2), (3, 3, 3)]


def test_nothing_is_trained_twice(images, store, here):
    twice = np.concatenate([SOME, SOME])
    with proxies(images, store) as accuracies:
        first = accuracies(twice)
        assert len(here.trainings) == 3 and np.array_equal(first[:3], first[3:])
    with proxies(images, store) as accuracies:
        assert np.array_equal(accuracies(twice), first)
        assert len(here.trainings) == 3 and accuracies.trained == 0


def test_another_training_is_another_protocol(images, store, here):
    data = open_images(images)
    protocols = {
        proxy_protocol(SPACE, data, RECIPE, 0, 30, 64), proxy_protocol(SPACE, data, RECIPE, 1, 30, 64),
        proxy_protocol(SPACE, data, small_proxy(4), 0, 30, 64), proxy_protocol(SPACE, data, RECIPE, 0, 40, 64),
    }  # fmt: skip
    assert len(protocols) == 4
    with proxies(images, store) as one, proxies(images, store, seed=1) as other:
        one(SOME)
        other(SOME)
    assert len(here.trainings) == 6 and len(store.accuracies(one.protocol)) == 3
    assert "6 epochs" not in one.protocol.precision and "3 epochs, seed 0" in one.protocol.precision


def test_what_a_gpu_trains_and_judges_is_a_protocol_of_its_own(images, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # one is said to be there; nothing is computed on it
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Test GPU behind {device}")
    own, other = (proxy_protocol(SPACE, open_images(images), RECIPE, 0, 30, 64, device) for device in ("cpu", "cuda"))
    assert "GPU" not in own.precision and "on Test GPU behind cuda; each trained from scratch" in other.precision
    assert replace(other, precision=own.precision) == own


def test_what_was_known_before_a_process_was_killed_is_kept(images, store, here, monkeypatch):
    monkeypatch.setattr(here, "fails_after", 2)
    with proxies(images, store) as accuracies, pytest.raises(AccuracyWorkerError, match="killed .* kept"):
        accuracies(SOME)
    assert len(store.accuracies()) == 2  # what two trainings came to, whichever was told first
    monkeypatch.setattr(here, "fails_after", 10**9)
    with proxies(images, store) as accuracies:
        accuracies(SOME)
    assert len(here.trainings) == 3


def test_a_process_killed_while_it_trains_is_told_of(images, store):
    def kill_one(known, asked):
        if known == 1:
            os.kill(next(iter(accuracies._pool._processes)), signal.SIGKILL)

    with proxies(images, store, workers=1, progress=kill_one) as accuracies, pytest.raises(AccuracyWorkerError, match="was killed"):
        accuracies(SOME)
    assert 1 <= len(store.accuracies()) < 3


def test_a_training_that_is_stopped_goes_on_in_its_folder(images, tmp_path):
    values = dict(SPACE.decode(SOME)[0].values)
    task = ProxyTask(SPACE.name, images, RECIPE.to_dict(), 0, 30, 64, str(tmp_path / "stopped"))
    steps = iter([False, False, True])
    with pytest.raises(Stopped):
        trained_hits(task, values, lambda: next(steps))
    (folder,) = (tmp_path / "stopped").iterdir()
    whole = trained_hits(task, values, lambda: False)
    assert whole.shape == (30,) and not folder.exists()
    elsewhere = proxy_worker.ProxyTask(**{**vars(task), "folder": str(tmp_path / "undisturbed")})
    assert np.array_equal(whole, trained_hits(elsewhere, values, lambda: False))


def test_too_few_images_are_refused_at_once(images, store):
    with pytest.raises(ValueError, match="41 validation images .* expected 1 to 40"):
        proxies(images, store, validation_images=41)
    with pytest.raises(ValueError, match="workers is 0"):
        proxies(images, store, workers=0)


def test_a_search_by_proxies_that_is_killed_goes_on_to_the_same_result(images, store, here, monkeypatch):
    latency = AdditiveCost(SPACE, lambda block: 0.01 + 1e-4 * block.in_channels * block.kernel_size)

    def found(accuracies):
        settings = SearchSettings(population_size=3, generations=2)
        return search(SPACE, accuracies, latency, 0.2, "rl-controller", settings, seed=1, objective="soft-product")

    monkeypatch.setattr(here, "fails_after", 4)
    with proxies(images, store) as accuracies, pytest.raises(AccuracyWorkerError):
        found(accuracies)
    monkeypatch.setattr(here, "fails_after", 10**9)
    with proxies(images, store) as accuracies:
        result = found(accuracies)
    assert result.evaluations == len(here.trainings) == len(store.accuracies()) == 7
