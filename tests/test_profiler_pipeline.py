"""The parts of a run that decide: what is skipped, which finalist wins, what the trust checks say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from luts.condition import Condition
from luts.store import MeasurementStore, StoreError
from profiler.files import FileKindError, write_bytes
from profiler.pipeline import RunSettings, StageLog, digest
from profiler.searching import NoneKeptError, best_kept, refuse_other_condition
from profiler.subnet import SubnetRecord, record_of
from profiler.trust import trust_checks
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


def test_a_folder_with_another_stages_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text('{"lunch": "1"}')
    with pytest.raises(FileKindError, match="is not a list of a run's stages"):
        StageLog.of(tmp_path)


def test_settings_refuse_an_unknown_preset_and_no_runtime(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown preset 'huge'; known presets: demo, full"):
        RunSettings(SPACE.name, tmp_path, preset="huge")
    with pytest.raises(ValueError, match="at least one runtime"):
        RunSettings(SPACE.name, tmp_path, runtimes=())


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
    assert failed == ["1 blocks measured alone: only 3 visits of some, expected 8; collect again with --preset full"]
    assert any("two halves of the visits differ by 0.0% (median)" in check.text for check in checks if check.passed)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "subnet.json"
    write_bytes(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(path, json.dumps({"new": True}).encode())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
