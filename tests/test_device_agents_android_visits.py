from __future__ import annotations

from types import SimpleNamespace

import pytest

from device_agents.android import batch
from device_agents.android.runner import BENCHMARK_MODEL, Runner
from device_agents.android.state import Limits
from device_agents.android.visits import Protocol, Visits
from device_agents.base import VisitPlan, WorkerFailed

PROTOCOL = Protocol(
    runner=Runner(BENCHMARK_MODEL, None, "/data/local/tmp/benchmark_model"), runner_path="/data/local/tmp/benchmark_model", machine=None,
    delegate="none", full_delegation=False, threads=1, cores=(), flags=(), least_s=0.1, warmup_s=0.0, timeout_s=5.0, limits=Limits({}),
    least_battery_percent=0,
)  # fmt: skip


class DyingSession:
    """A session whose batches end before their first visit."""

    def __init__(self) -> None:
        self.started: list[int] = []

    def start(self, tasks, reading, mask):
        self.started.append(len(tasks))
        return f"b{len(self.started)}"

    def poll(self, folder, seen, reading):
        return batch.Polled((), alive=False, uptime_s=200.0)

    def stop(self, folder):
        pass

    def keep(self):
        pass


def test_each_batch_of_visits_notes_its_own_death_and_nothing_new_is_kept_then():
    moment = SimpleNamespace(thermal=SimpleNamespace(processor_c=40.0), battery=None)
    session, phone = DyingSession(), SimpleNamespace(moment=moment, allowed=(0, 1), zones=(), clock=(100.0, 0))
    visits, other = (Visits(session, phone, PROTOCOL, {"m": "/data/local/tmp/m.tflite"}, "phone", sleep=lambda s: None) for _ in range(2))
    kept = set(vars(visits))
    with pytest.raises(WorkerFailed, match="the batch of device 'phone' died twice in visit 'v0'"):
        list(visits.make([VisitPlan(f"v{number}", ("m",), 1, 0) for number in range(3)]))
    assert session.started == [3, 3]
    assert set(vars(visits)) == kept
    assert len(visits.incidents) == 2 and not other.incidents
