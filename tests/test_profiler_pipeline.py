"""The parts of a run that decide: what is skipped, which finalist wins, what the trust checks say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from luts.accuracies import AccuracyProtocol
from luts.condition import Condition
from luts.store import MeasurementStore, StoreError
from luts.table import LatencyTable
from profiler.files import FileKindError
from profiler.fitting import sampled_accuracies
from profiler.pipeline import Display, RunSettings, StageLog, digest
from profiler.reporting import _refuse_other_conditions, _subnet
from profiler.searching import NoneKeptError, best_kept, demoted, refuse_other_condition
from profiler.stages import run
from profiler.subnet import SubnetRecord, Verification, record_of
from profiler.trust import trust_checks
from supernets.folder_lock import FolderInUseError, hold
from supernets.space import Architecture
from supernets.spaces import space as search_space

SPACE = search_space("ofa-mobilenetv3-tiny")


def test_a_stage_is_finished_only_for_the_inputs_it_finished_with(tmp_path: Path) -> None:
    log = StageLog.of(tmp_path)
    log.finish("fit", digest("table", 1))
    again = StageLog.of(tmp_path)
    assert again.finished("fit", digest("table", 1))
    assert not again.finished("fit", digest("table", 2))
    assert not again.finished("search", digest("table", 1))


def test_a_stage_whose_output_is_gone_is_not_finished(tmp_path: Path) -> None:
    log, output = StageLog.of(tmp_path), tmp_path / "predictors"
    output.mkdir()
    log.finish("fit", "1")
    assert log.finished("fit", "1", output)
    output.rmdir()
    assert not log.finished("fit", "1", output)


def test_a_stage_that_begins_anew_takes_back_itself_and_all_after_it(tmp_path: Path) -> None:
    """Interrupted there and run with the old inputs again, the half-new files must not pass for the old ones."""
    log = StageLog.of(tmp_path)
    for stage in ("fit", "search", "choose", "export"):
        log.finish(stage, "1")
    log.begin("search")
    again = StageLog.of(tmp_path)
    assert [stage for stage in ("fit", "search", "choose", "export") if again.finished(stage, "1")] == ["fit"]


def test_a_folder_with_another_stages_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text('{"lunch": "1"}')
    with pytest.raises(FileKindError, match="is not a list of a run's stages"):
        StageLog.of(tmp_path)


def test_two_runs_cannot_share_a_folder_and_the_second_says_so_at_once(tmp_path: Path) -> None:
    settings = RunSettings(SPACE.name, tmp_path, device="simulated")
    with hold(tmp_path, "run"), pytest.raises(FolderInUseError, match=f"folder {str(tmp_path)!r} is in use by another run; wait for it"):
        run(settings, cast("Display", None))
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_settings_refuse_an_unknown_preset_and_no_runtime(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown preset 'huge'; known presets: demo, tiny, full, imagenet"):
        RunSettings(SPACE.name, tmp_path, preset="huge")
    with pytest.raises(ValueError, match="at least one runtime"):
        RunSettings(SPACE.name, tmp_path, runtimes=())


@pytest.mark.parametrize("budget_ms", [0.0, -1.0, float("nan")])
def test_a_budget_that_is_no_latency_is_refused_and_never_replaced(tmp_path: Path, budget_ms: float) -> None:
    with pytest.raises(ValueError, match="expected a positive number of milliseconds"):
        RunSettings(SPACE.name, tmp_path, max_latency_ms=budget_ms)


class Silent:
    """A display that shows nothing."""

    @contextmanager
    def stage(self, number: int, of: int, name: str) -> Iterator[Callable[[int, int, str], None]]:
        raise AssertionError(f"stage {name} began")
        yield lambda done, total, note: None

    def say(self, text: str) -> None:
        """Say nothing."""


@pytest.mark.torch
def test_what_a_later_stage_would_refuse_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    from profiler.stages import run
    from supernets.networks.checkpoint import save_supernet
    from supernets.networks.supernet import Supernet

    weights = tmp_path / "grey.safetensors"
    save_supernet(weights, Supernet(SPACE, True))
    colour = f"{SPACE.name}:image_channels=3"
    for settings, said in (
        ({"weights": weights, "images": "fashion-mnist-subset"}, f"are of space '{SPACE.name}', the run is of '{colour}'"),
        ({"weights": weights}, f"weights {weights} are judged on images, and no images come with the space"),
        ({"weights": weights, "train": True}, "give one of --weights and --train"),
        ({}, "no weights come with space"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            run(RunSettings(colour, tmp_path / "run", device="simulated", **settings), Silent())


def test_accuracies_come_in_one_order_however_they_arrived_and_protocols_are_told_apart(tmp_path: Path) -> None:
    architectures = SPACE.decode(SPACE.sample_different(20, np.random.default_rng(0)))
    rows = [(architecture, i / 100, b"") for i, architecture in enumerate(architectures)]
    protocol = AccuracyProtocol(SPACE.name, "0" * 64, "images", 100, 10, 0, "float32")
    for name, arrived in (("one", rows), ("other", rows[::-1])):
        with MeasurementStore(tmp_path / name) as store:
            store.add_accuracies(protocol, arrived)
            store.finish()
    (_, one), (_, other) = sampled_accuracies(tmp_path / "one"), sampled_accuracies(tmp_path / "other")
    np.testing.assert_array_equal(one.population, other.population)
    np.testing.assert_array_equal(one.accuracies, other.accuracies)
    assert sorted(one.accuracies) == sorted(top1 for _, top1, _ in rows)
    with MeasurementStore(tmp_path / "one") as store:
        store.add_accuracies(replace(protocol, calibration_images=20), rows[:5])
        store.finish()
    with pytest.raises(StoreError, match="accuracies of 2 protocols"):
        sampled_accuracies(tmp_path / "one")
    assert len(sampled_accuracies(tmp_path / "one", protocol)[1]) == 20


def test_a_report_refuses_a_subnet_of_another_condition_and_leads_with_the_tables_own(tmp_path: Path) -> None:
    own = Condition("local", "onnxruntime", "1", "cpu", 1, (0,), 1, "float32", "test")
    other = replace(own, runtime="litert")
    table = LatencyTable(own, "chain", [], source="cpu.lut")

    def verified(*conditions: Condition) -> SubnetRecord:
        found = tuple(Verification("onnx", c.to_dict(), None, 1.0 + i, None, None, 1, 10) for i, c in enumerate(conditions))
        return record_of(SPACE.smallest()).changed(verifications=found)

    for record in (verified(other), record_of(SPACE.smallest()).changed(condition=other.to_dict())):
        with pytest.raises(StoreError, match=r"cpu.lut was measured under another condition .* \(runtime 'onnxruntime' there, 'litert' here\)"):
            _refuse_other_conditions(record, table)
    _refuse_other_conditions(verified(other, own), table)
    assert [run.measured_latency_ms for run in _subnet(SPACE, verified(other, own), table).runs] == [2.0, 1.0]


def with_finalists(budget_ms: float, *figures: tuple[float, float, float]) -> SubnetRecord:
    """Return a record whose finalists have these (measured latency, predicted accuracy, measured accuracy)."""
    architectures = SPACE.decode(SPACE.sample_different(len(figures), np.random.default_rng(3)))
    finalists = tuple(
        {
            "architecture": a.to_dict(),
            "predicted_accuracy": predicted,
            "predicted_latency_ms": 1.0,
            "measured_latency_ms": ms,
            "measured_accuracy": measured,
        }
        for a, (ms, predicted, measured) in zip(architectures, figures, strict=True)
    )
    return record_of(architectures[0], max_latency_ms=budget_ms).changed(finalists=finalists)


def test_the_best_finalist_is_the_most_accurate_one_that_keeps_the_budget_by_measurement() -> None:
    record = with_finalists(1.0, (1.2, 0.9, 0.99), (0.9, 0.8, 0.70), (0.95, 0.7, 0.75))
    best = best_kept(record)
    assert best.architecture == Architecture.from_dict(record.finalists[2]["architecture"])
    assert (best.measured_latency_ms, best.predicted_accuracy, best.max_latency_ms) == (0.95, 0.7, 1.0)
    assert best.macs == record_of(best.architecture).macs


def test_no_finalist_within_the_budget_is_an_error_that_says_the_fastest() -> None:
    with pytest.raises(NoneKeptError, match=r"none of 2 finalists keeps the budget of 1 ms on the device, the fastest took 1.1 ms"):
        best_kept(with_finalists(1.0, (1.2, 0.9, 0.9), (1.1, 0.8, 0.8)))


def test_a_device_in_another_condition_is_refused_by_the_field_that_differs() -> None:
    from device_agents.simulated import SimulatedAgent
    from profiler.measuring.session import condition_of

    agent = SimulatedAgent("simulated")
    own = condition_of(agent.info()).to_dict()
    refuse_other_condition(agent, own)
    with pytest.raises(StoreError, match="threads 4 there, 1 here"):
        refuse_other_condition(agent, {**own, "threads": 4})


def test_trust_checks_tell_too_few_visits_from_enough(tmp_path: Path) -> None:
    block = SPACE.blocks(SPACE.smallest())[0]
    with MeasurementStore(tmp_path / "few.lut") as store:
        store.set_condition(Condition("local", "onnxruntime", "1", "cpu", 1, (0,), 1, "float32", "test"))
        store.add_subject(block.key, "block", block.to_dict())
        state = {"unix_time_ns": 1, "load_1m": None, "frequency_khz": None, "temperature_c": None, "throttled": None, "memory_available_kb": None}
        for visit in range(3):
            samples = np.full((1, 10), 1_000_000 + visit, dtype=np.int64)
            store.add_visit(f"plan-{visit}", "alone", 0, [block.key], samples, (state, state), "worker")
        checks = trust_checks(store)
    failed = [check.text for check in checks if not check.passed]
    assert failed == ["1 blocks measured alone: only 3 visits of some, expected 8; collect on with a larger --rounds"]
    assert any("two halves of the visits differ by 0.0% (median)" in check.text for check in checks if check.passed)


def test_a_finalist_that_missed_its_verification_gives_way_to_the_next_one() -> None:
    record = best_kept(with_finalists(1.0, (0.98, 0.9, 0.9), (0.9, 0.8, 0.8), (0.7, 0.7, 0.7)))
    assert record.measured_latency_ms == 0.98
    following = best_kept(demoted(record, 1.05))
    assert following.architecture == Architecture.from_dict(record.finalists[1]["architecture"])
    assert demoted(record, 0.5) == record  # a faster measurement takes nothing back


def test_networks_are_measured_over_seconds_whatever_their_size() -> None:
    from profiler.measuring.plan import NetworkItem
    from profiler.verifying import FEWEST_VISITS, settings_for

    def visits(name: str, copies: int = 1) -> int:
        space = search_space(name)
        blocks = tuple(space.blocks(space.largest()))
        return settings_for([NetworkItem(f"n{i}", blocks, None, "finalist") for i in range(copies)]).network_visits

    small, large = visits("ofa-mobilenetv3-tiny"), visits("ofa-mobilenetv3-w1.2")
    assert small > 10 * large >= 10 * FEWEST_VISITS
    assert small > visits("ofa-mobilenetv3-tiny", copies=10) >= FEWEST_VISITS


def test_a_model_outside_the_subnet_files_folder_is_refused() -> None:
    from profiler.subnet import ExportedModel, SubnetFileError

    for name in ("../../etc/passwd", "/etc/passwd", ""):
        with pytest.raises(SubnetFileError, match="is not a name in the subnet file's own folder"):
            ExportedModel("onnx", name, "0" * 64, 5, 8, 1e-7, 1.0)
