# ruff: noqa: E402  (torch may be missing: the imports below it need it)
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from luts.store import MeasurementStore
from profiler import accuracy, accuracy_workers
from profiler.accuracy import AccuracyWorkerError, evaluate_architectures, protocol_of, sample_accuracies
from profiler.accuracy_workers import ENVIRONMENT, EvaluationTask, environment, evaluate_in_workers
from supernets import spaces
from supernets.networks.checkpoint import save_supernet
from supernets.networks.supernet import Supernet
from supernets.space import ArchitectureError
from supernets.training import validation
from supernets.training.data import ImageData, drawn
from supernets.training.image_rows import ImageRows

pytestmark = pytest.mark.torch

SPACE = "ofa-mobilenetv3-tiny"
FEW = {"calibration_images": 24, "validation_images": 20}


def image_data(seed=0, classes=10):
    rng = np.random.default_rng(seed)
    parts = {}
    for part, count in (("train", 60), ("validation", 40), ("test", 30)):
        parts[f"{part}_labels"] = np.arange(count) % classes
        parts[f"{part}_images"] = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
    return ImageData("/somewhere/toy", tuple("abcdefghij"[:classes]), **parts)


@pytest.fixture(scope="module")
def images():
    return image_data()


@pytest.fixture(scope="module")
def space():
    return spaces.space(SPACE).restrict({"resolution": [20, 24]})


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "supernet.safetensors"
    save_supernet(path, Supernet(spaces.space(SPACE), seed=1))
    return path


@pytest.fixture
def store(tmp_path):
    with MeasurementStore(tmp_path / "accuracies.db") as store:
        yield store


@pytest.fixture
def in_process(monkeypatch):
    """Evaluate in this process, piece by piece as a worker would, and note the pieces' sizes."""
    sizes = []

    def evaluate(task, pieces, workers):
        space, evaluation = task.evaluation()
        for piece in pieces:
            sizes.append(len(piece))
            yield [(space.encode([architecture])[0].tolist(), hits) for architecture, hits in evaluation.hits(space.decode(piece))]

    monkeypatch.setattr(accuracy, "evaluate_in_workers", evaluate)
    return sizes


def contents(store, protocol=None):
    return {row.architecture: (row.top1, row.hits) for row in store.accuracies(protocol)}


@pytest.fixture(scope="module")
def sampled(space, weights, images, tmp_path_factory):
    """Ten subnets measured by two processes in one go."""
    with MeasurementStore(tmp_path_factory.mktemp("sampled") / "accuracies.db") as store:
        summary = sample_accuracies(space, weights, images, store, 10, seed=3, workers=2, **FEW)
        return summary, contents(store)


def test_each_sampled_subnet_is_measured_once(space, sampled):
    summary, rows = sampled
    assert set(rows) == set(space.decode(space.sample_different(10, np.random.default_rng(3))))
    assert (summary.measured, summary.present) == (10, 0)
    assert {architecture["resolution"] for architecture in rows} == {20, 24}


def test_accuracies_are_those_of_the_plain_way(space, weights, images, sampled):
    tensors = accuracy_workers.EvaluationTask(str(weights), *[np.zeros(0)] * 3).evaluation()[1]._tensors
    judged, calibration = drawn(40, 20, accuracy.JUDGED_SEED), images.calibration_images(24, 0)
    for architecture, (top1, hits) in list(sampled[1].items())[:4]:
        labels = images.validation_labels[judged]
        assert top1 == validation.accuracy(space, tensors, architecture, images.validation_images[judged], labels, calibration)
        assert np.unpackbits(np.frombuffer(hits, dtype=np.uint8))[:20].mean() == top1


def test_images_on_disk_stay_there_and_give_the_same_accuracies(space, weights, images, store, sampled, tmp_path):
    kept = {}
    for part in ("train", "validation", "test"):
        np.save(tmp_path / f"{part}.npy", getattr(images, f"{part}_images"))
        kept[f"{part}_images"] = ImageRows(np.load(tmp_path / f"{part}.npy", mmap_mode="r"), part)
    on_disk = replace(images, **kept)
    protocol = protocol_of(space, weights, on_disk, "validation", 20, 24)
    assert len(pickle.dumps(accuracy._task(weights, on_disk, "validation", protocol))) < on_disk.validation_images[:].nbytes / 4
    some = dict(list(sampled[1].items())[:3])
    rows = evaluate_architectures(space, weights, on_disk, list(some), store, "validation", 20, workers=1, calibration_images=24)
    assert {row.architecture: (row.top1, row.hits) for row in rows} == some


def test_workers_pieces_and_interruptions_do_not_change_results(space, weights, images, store, sampled, in_process):
    class Stop(Exception):
        pass

    def stop_after(count):
        def progress(done, total):
            if done >= count:
                raise Stop

        return progress

    for count in (2, 5):
        with pytest.raises(Stop):
            sample_accuracies(space, weights, images, store, 10, seed=3, workers=1, progress=stop_after(count), **FEW)
        assert count <= len(contents(store)) < 10
    before = len(contents(store))
    summary = sample_accuracies(space, weights, images, store, 10, seed=3, workers=3, **FEW)
    assert (summary.measured, summary.present) == (10 - before, before)
    assert contents(store) == sampled[1]


def test_what_is_there_is_not_measured_again(space, weights, images, store, in_process):
    sample_accuracies(space, weights, images, store, 4, seed=3, **FEW)
    in_process.clear()
    summary = sample_accuracies(space, weights, images, store, 4, seed=3, **FEW)
    assert (summary.measured, summary.present, in_process) == (0, 4, [])


def test_larger_count_extends_a_smaller_one(space, weights, images, store, in_process, sampled):
    sample_accuracies(space, weights, images, store, 4, seed=3, **FEW)
    summary = sample_accuracies(space, weights, images, store, 10, seed=3, **FEW)
    assert (summary.measured, summary.present) == (6, 4)
    assert contents(store) == sampled[1]


def test_space_smaller_than_the_count_is_measured_whole(weights, images, store, in_process):
    few = spaces.space(SPACE).restrict({"resolution": [20], "depth": [2], "kernel_size": [3], "expand_ratio": [3]})
    few = few.restrict({"stage1.block0.expand_ratio": [3]})
    assert few.size() == 1
    assert sample_accuracies(few, weights, images, store, 5, **FEW).measured == 1


def test_progress_counts_what_is_there(space, weights, images, store, in_process):
    seen = []
    sample_accuracies(space, weights, images, store, 2, seed=3, **FEW)
    sample_accuracies(space, weights, images, store, 5, seed=3, progress=lambda done, total: seen.append((done, total)), **FEW)
    assert seen[0] == (2, 5)
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_other_protocols_are_kept_apart(space, weights, images, store, in_process):
    for changes in ({}, {"calibration_seed": 1}, {"calibration_images": 25}, {"validation_images": 21}):
        summary = sample_accuracies(space, weights, images, store, 2, seed=3, **{**FEW, **changes})
        assert (summary.measured, summary.present) == (2, 0)
        assert len(contents(store, summary.protocol)) == 2
    assert len(store.accuracies()) == 8


def test_protocol_tells_weights_data_and_parts_apart_but_not_folders(space, weights, images, tmp_path):
    protocol = protocol_of(space, weights, images, "validation", 20, 24)
    other = tmp_path / "other.safetensors"
    save_supernet(other, Supernet(spaces.space(SPACE), seed=2))
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    assert protocol_of(space, copy, images, "validation", 20, 24) == protocol
    assert protocol_of(space, other, images, "validation", 20, 24).weights_sha256 != protocol.weights_sha256
    assert protocol_of(space, weights, image_data(seed=5), "validation", 20, 24).dataset != protocol.dataset
    assert protocol_of(space, weights, images, "test", 20, 24).dataset != protocol.dataset
    assert protocol.dataset.startswith("toy validation ")
    assert protocol_of(space, weights, images, "test", None, 24).validation_images == 30


def test_given_architectures_come_back_in_their_order_on_all_test_images(space, weights, images, in_process):
    largest, smallest = space.largest(), space.smallest()
    rows = evaluate_architectures(space, weights, images, [largest, smallest, largest], calibration_images=24)
    assert [row.architecture for row in rows] == [largest, smallest, largest]
    assert rows[0] is rows[2]
    assert rows[0].protocol.validation_images == len(images.test_labels)
    assert sum(in_process) == 2


def test_given_architectures_are_kept_where_there_is_a_store(space, weights, images, store, in_process):
    largest, smallest = space.largest(), space.smallest()
    first = evaluate_architectures(space, weights, images, [largest], store, calibration_images=24)
    in_process.clear()
    both = evaluate_architectures(space, weights, images, [smallest, largest], store, calibration_images=24)
    assert in_process == [1]
    assert both[1] == first[0]
    assert set(contents(store)) == {largest, smallest}


def test_given_and_sampled_architectures_of_one_part_share_the_store(space, weights, images, store, in_process):
    sample_accuracies(space, weights, images, store, 3, seed=3, **FEW)
    known = [row.architecture for row in store.accuracies()]
    in_process.clear()
    rows = evaluate_architectures(space, weights, images, known, store, part="validation", judged_images=20, calibration_images=24)
    assert in_process == []
    assert [row.top1 for row in rows] == [row.top1 for row in store.accuracies()]


def test_architecture_of_another_space_is_refused(space, weights, images):
    other = spaces.space("ofa-mobilenetv3-w1.0").smallest()
    with pytest.raises(ArchitectureError):
        evaluate_architectures(space, weights, images, [other], calibration_images=24)


def test_subnets_that_weights_of_one_network_do_not_hold_are_refused(images, store, in_process, tmp_path):
    whole, path = spaces.space(SPACE), tmp_path / "network.safetensors"
    network = whole.restrict({"resolution": [20]}).smallest()
    save_supernet(path, Supernet(whole.only(network), seed=1))
    (row,) = evaluate_architectures(whole, path, images, [network], calibration_images=24)
    assert 0 <= row.top1 <= 1
    other = whole.architecture({**whole.largest().values, "resolution": 20, "stage1.depth": 2, "stage2.depth": 2})
    said = r"network\.safetensors' are of one network alone, not of every subnet asked for: slot 'stage1\.\S+' has the value \d; expected one of"
    with pytest.raises(ArchitectureError, match=said):
        evaluate_architectures(whole, path, images, [network, other], calibration_images=24)
    with pytest.raises(ArchitectureError, match=r"are of one network alone"):
        sample_accuracies(whole, path, images, store, 2, **FEW)
    assert store.accuracies() == []


def test_what_does_not_fit_is_refused_by_name(space, weights, images, store):
    for changes, text in (
        ({"validation_images": 41}, "41 validation images of '/somewhere/toy' were asked for; expected 1 to 40"),
        ({"calibration_images": 61}, "61 train images of '/somewhere/toy' were asked for; expected 1 to 60"),
        ({"calibration_images": 0}, "expected 1 to 60"),
        ({"workers": 0}, "workers is 0; expected at least 1"),
    ):
        with pytest.raises(ValueError, match=text):
            sample_accuracies(space, weights, images, store, 2, **{**FEW, **changes})
    with pytest.raises(ValueError, match=r"of space 'ofa-mobilenetv3-tiny', not 'ofa-mobilenetv3-tiny:classes=5'"):
        sample_accuracies(spaces.space(f"{SPACE}:classes=5"), weights, images, store, 2, **FEW)
    with pytest.raises(ValueError, match="1 channels and 7 classes, but networks of space 'ofa-mobilenetv3-tiny' expect 1 and 10"):
        sample_accuracies(space, weights, image_data(classes=7), store, 2, **FEW)
    with pytest.raises(FileNotFoundError):
        sample_accuracies(space, "nowhere.safetensors", images, store, 2, **FEW)
    with pytest.raises(ValueError, match="'train'; expected one of validation, test"):
        protocol_of(space, weights, images, "train")
    assert store.accuracies() == []


def test_killed_worker_is_an_error_that_keeps_what_arrived(space, weights, images, store, sampled):
    def kill_one(done, total):
        if done:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGKILL)

    with pytest.raises(AccuracyWorkerError, match=r"ended with exit code -9 .* the same call goes on"):
        sample_accuracies(space, weights, images, store, 10, seed=3, workers=1, progress=kill_one, **FEW)
    kept = contents(store)
    assert 0 < len(kept) < 10
    assert kept.items() <= sampled[1].items()
    assert multiprocessing.active_children() == []


def test_worker_that_fails_says_why(space):
    task = EvaluationTask("nowhere.safetensors", *[np.zeros(0)] * 3)
    with pytest.raises(AccuracyWorkerError, match=r"FileNotFoundError: file 'nowhere.safetensors' was not found"):
        next(evaluate_in_workers(task, [space.encode([space.smallest()])], 1))
    assert multiprocessing.active_children() == []


@pytest.mark.timeout(60)
def test_worker_that_ends_before_it_reads_its_task_is_an_error_and_no_wait(space):
    task = EvaluationTask("weights.safetensors", *[np.zeros(10**6, dtype=np.uint8)] * 3)  # far more than a pipe holds
    python = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable("/bin/false")
    try:
        with pytest.raises(AccuracyWorkerError, match="ended with exit code 1"):
            next(evaluate_in_workers(task, [space.encode([space.smallest()])], 1))
    finally:
        multiprocessing.set_executable(python)


def test_worker_ends_by_itself_when_its_caller_is_gone(weights, images, space, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    threads = torch.get_num_threads()
    task = EvaluationTask(str(weights), images.train_images, images.test_images, images.test_labels)
    for pieces in ([], [space.encode([space.smallest()])]):
        ours, theirs = multiprocessing.Pipe()
        worker = threading.Thread(target=accuracy_workers._work, args=(theirs,), daemon=True)
        worker.start()
        for message in (task, *pieces):
            ours.send(message)
        ours.close()
        worker.join(timeout=60)
        assert not worker.is_alive()
    torch.set_num_threads(threads)


def test_environment_of_workers_is_theirs_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with environment(ENVIRONMENT):
        assert os.environ["OMP_NUM_THREADS"] == "1"
        assert os.environ["MALLOC_TRIM_THRESHOLD_"] == ENVIRONMENT["MALLOC_TRIM_THRESHOLD_"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


SCRIPT = """
import sys
from test_profiler_accuracy import FEW, SPACE, image_data
from luts.store import MeasurementStore
from profiler.accuracy import sample_accuracies
from supernets import spaces

if __name__ == "__main__":
    space = spaces.space(SPACE).restrict({"resolution": [20, 24]})
    with MeasurementStore(sys.argv[2]) as store:
        progress = lambda done, total: print(done, flush=True)
        sample_accuracies(space, sys.argv[1], image_data(), store, int(sys.argv[3]), seed=3, workers=2, progress=progress, **FEW)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_the_same_call_goes_on_and_ends_with_the_same_bits(weights, tmp_path):
    tests = Path(__file__).parent
    script = tmp_path / "sample.py"
    script.write_text(SCRIPT)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}

    def begun(path, count):
        """Return a process that has begun to measure."""
        process = subprocess.Popen([sys.executable, str(script), str(weights), str(path), str(count)], env=variables, stdout=subprocess.PIPE)
        assert process.stdout.readline()
        return process

    with begun(tmp_path / "whole.db", 400) as process:
        start = time.monotonic()
        process.stdout.read()
        whole_s = time.monotonic() - start
    moments = random.Random(0)
    sizes = []
    for attempt in range(20):
        with begun(tmp_path / "killed.db", 20 * (attempt + 1)) as process:
            time.sleep(moments.uniform(0, whole_s))
            process.kill()
        with MeasurementStore(tmp_path / "killed.db") as store:
            sizes.append(len(store.accuracies()))
    assert sizes == sorted(sizes), "nothing that was stored is lost"
    assert sizes[-1] > 0
    with begun(tmp_path / "killed.db", 400) as process:
        process.stdout.read()
    with MeasurementStore(tmp_path / "whole.db", read_only=True) as whole, MeasurementStore(tmp_path / "killed.db", read_only=True) as killed:
        assert len(contents(whole)) == len(whole.accuracies()) == 400
        assert len(killed.accuracies()) == 400
        assert contents(killed) == contents(whole)
