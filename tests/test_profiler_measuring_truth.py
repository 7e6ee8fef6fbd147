"""The protocol against a device whose truth is known: what it finds, where a burst of runs finds something else.

The truth is the cost at the fast speed, before the drift, in a block's primary mode.
"""

from __future__ import annotations

import numpy as np
import pytest

from device_agents.base import VisitPlan
from device_agents.simulated import SimulatedAgent
from luts.store import MeasurementStore
from luts.table import LatencyTable
from profiler.caution import Caution
from profiler.measuring.collect import collect
from profiler.measuring.models import default_model_maker
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from profiler.trust import trust_checks
from supernets.spaces import space

pytest.importorskip("onnx")

SPACE = space("ofa-mobilenetv3-tiny").restrict({"resolution": (20, 28)})
SETTINGS = ProtocolSettings(
    rounds=5, most_rounds=60, further_time_percent=400, alone_warmup=4, chain_visits=2, network_visits=1, calibration_networks=1, held_out_networks=1
)
DISTURBED = {
    "slow_factor": 1.28, "drift": 0.05, "drift_shape": "ramp", "drift_period_s": 60.0, "throttled_share": 0.02, "outlier_share": 0.01,
    "bimodal_share": 0.2, "timer_overhead_ns": 100.0, "timer_resolution_ns": 1000.0, "jitter": 0.003,
}  # fmt: skip
BURST_RUNS = 50


def test_the_truth_is_found_within_a_percent_where_the_mean_of_a_burst_misses_by_more_than_five(tmp_path):
    agent, maker = SimulatedAgent(**DISTURBED), default_model_maker("onnx")
    with MeasurementStore(tmp_path / "a.lut") as store:
        assert collect(SPACE, agent, store, make_plan(SPACE, SETTINGS), sleep=lambda _: None).complete
        warnings = {check.caution for check in trust_checks(store)}
    entries = LatencyTable.open(tmp_path / "a.lut", "alone").entries
    models = {key: maker([entry.block]) for key, entry in entries.items()}
    truth_ns = np.array([agent.true_ns([model])[0] for model in models.values()])
    found_ns = np.array([entry.latency_ms * 1e6 for entry in entries.values()])
    plans = [VisitPlan(f"burst {key}", (key,), BURST_RUNS, 10) for key in models]
    bursts_ns = np.array([visit.samples_ns.mean() for visit in SimulatedAgent(seed=1, **DISTURBED).measure(models, plans)])
    assert len(entries) == 118
    assert np.mean(np.abs(found_ns / truth_ns - 1) <= 0.01) >= 0.99
    assert np.mean(np.abs(bursts_ns / truth_ns - 1) > 0.05) >= 0.1
    assert {Caution.SIMULATED, Caution.DRIFT, Caution.BIMODAL, Caution.DISCARDED} <= warnings
