"""SimulatedAgent: the contract, the formula it documents, and that its noise is what it says."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

from device_agents import simulated_cost
from device_agents.base import DeviceError, VisitPlan
from device_agents.simulated import SimulatedAgent

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def convolution(channels: int, side: int, kernel_size: int = 1, groups: int = 1) -> bytes:
    """A convolution followed by a ReLU, with fixed shapes."""
    weight = np.zeros((channels, channels // groups, kernel_size, kernel_size), np.float32)
    shape = [1, channels, side, side]
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["middle"], pads=[kernel_size // 2] * 4, group=groups),
        helper.make_node("Relu", ["middle"], ["output"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("input", "output")]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7).SerializeToString()


class TestSimulated(AgentContract):
    @pytest.fixture
    def agent(self):
        return SimulatedAgent()

    @pytest.fixture
    def models(self):
        from supernets.export.onnx_graph import onnx_model

        return {name: onnx_model([pointwise_block(name)], pointwise_weights(name)) for name in ("small", "large")}


def test_it_says_simulated_wherever_a_device_says_what_it_is():
    info = SimulatedAgent("bench").info()
    assert {info.device, info.runtime, info.cpu_model, info.kernel} == {"simulated"}


@pytest.mark.parametrize(
    ("model", "macs", "rate"),
    [
        (convolution(32, 14), 32 * 32 * 14 * 14, 20.0),
        (convolution(32, 14, 5, groups=32), 32 * 25 * 14 * 14, 5.0),
        (convolution(1, 14, 3), 9 * 14 * 14, 20.0),
    ],
)
def test_cost_is_the_documented_formula(model, macs, rate):
    map_bytes = 4 * onnx.load_model_from_string(model).graph.initializer[0].dims[0] * 14 * 14
    expected = 2000 + 2 * map_bytes / 8 + 2 * 500 + macs / rate + 4 * map_bytes / 20
    assert SimulatedAgent().true_ns([model])[0] == pytest.approx(expected)


def test_cost_of_a_matrix_product_counts_its_weights_once():
    weight = numpy_helper.from_array(np.zeros((10, 64), np.float32), "weight")
    values = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 64]), helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 10])]
    graph = helper.make_graph([helper.make_node("Gemm", ["input", "weight"], ["output"], transB=1)], "graph", values[:1], values[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7).SerializeToString()
    assert SimulatedAgent().true_ns([model])[0] == pytest.approx(2000 + 4 * 74 / 8 + 500 + 640 / 20 + 4 * 74 / 20)


def test_weights_beyond_the_cache_cost_in_a_chain_and_not_alone():
    block = convolution(256, 7)  # 256 kB of weights, as much as the cache holds
    agent = SimulatedAgent()
    (alone,) = agent.true_ns([block])
    chain = agent.true_ns([block, block, block, block])
    assert chain == pytest.approx(np.full(4, alone + 4 * 256 * 256 * (3 / 4) / 5))


def test_equal_seeds_give_equal_visits_whatever_their_order():
    models = {"a": convolution(8, 14), "b": convolution(16, 28)}
    plans = [VisitPlan(f"v{i}", ("a", "b"), 10, 2) for i in range(6)]
    forwards = {visit.plan_id: visit for visit in SimulatedAgent(seed=3).measure(models, plans)}
    agent = SimulatedAgent(seed=3)
    backwards = {visit.plan_id: visit for plan in reversed(plans) for visit in agent.measure(models, [plan])}
    assert all(np.array_equal(forwards[name].samples_ns, backwards[name].samples_ns) for name in forwards)
    (other,) = SimulatedAgent(seed=4).measure(models, plans[:1])
    assert not np.array_equal(other.samples_ns, forwards["v0"].samples_ns)


def test_noise_has_two_levels_and_a_low_percentile_finds_the_true_cost():
    agent = SimulatedAgent(seed=1)
    model = convolution(64, 28)
    plans = [VisitPlan(f"v{i}", ("m",), 10) for i in range(40)]
    samples = np.concatenate([visit.samples_ns[0] for visit in agent.measure({"m": model}, plans)]) / agent.true_ns([model])[0]
    assert np.percentile(samples, 10) == pytest.approx(1.0, abs=0.01)
    fast, slow = np.mean(samples < 1.1), np.mean((samples > 1.27) & (samples < 1.4))
    assert fast > 0.2 and slow > 0.2 and fast + slow > 0.9
    assert np.median(samples) > 1.005


def test_one_long_visit_meets_both_levels():
    (visit,) = SimulatedAgent(seed=1).measure({"m": convolution(64, 56)}, [VisitPlan("long", ("m",), 4000)])
    samples = visit.samples_ns[0] / SimulatedAgent().true_ns([convolution(64, 56)])[0]
    slow = samples > 1.2
    assert 0.1 < slow.mean() < 0.9
    assert np.count_nonzero(slow[1:] != slow[:-1]) < 400, "levels last for many runs"


def test_throttled_visits_are_slower_and_say_so():
    model = convolution(16, 28)
    plans = [VisitPlan(f"v{i}", ("m",), 10) for i in range(40)]
    visits = list(SimulatedAgent(throttled_share=0.3).measure({"m": model}, plans))
    throttled = [visit for visit in visits if visit.state_after.throttled]
    assert 4 <= len(throttled) <= 22
    floor = SimulatedAgent().true_ns([model])[0]
    assert min(visit.samples_ns.min() for visit in throttled) >= 1.5 * floor - 1
    assert all(visit.state_after.throttled is False for visit in SimulatedAgent().measure({"m": model}, plans))


def test_the_clock_is_virtual():
    started = time.monotonic()
    plans = [VisitPlan(f"v{i}", ("m",), 1000) for i in range(20)]
    visits = list(SimulatedAgent().measure({"m": convolution(64, 112, 3)}, plans))
    assert sum(visit.samples_ns.sum() for visit in visits) > 100 * 10**9
    assert time.monotonic() - started < 20
    moments = [moment for visit in visits for moment in (visit.state_before.unix_time_ns, visit.state_after.unix_time_ns)]
    assert moments == sorted(moments)
    assert moments[-1] < 1_000_000_000 * 10**9, "no virtual moment may pass for a real one"


def test_shapes_that_are_not_fixed_are_refused():
    parsed = onnx.load_model_from_string(convolution(8, 14))
    parsed.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(DeviceError, match="'input' has no fixed shape"):
        SimulatedAgent().true_ns([parsed.SerializeToString()])


def test_missing_onnx_names_the_extra(monkeypatch):
    model = convolution(8, 14)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"the simulated device needs the package 'onnx'; install it with pip install 'elastic-latency\[onnx\]'"):
        simulated_cost.cost(model)
    with pytest.raises(ImportError, match="the simulated device needs the package 'onnx'"):
        SimulatedAgent().info()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"throttled_share": 2}, "throttled_share is 2; expected a number from 0 to 1"),
        ({"slow_factor": 0.5}, "slow_factor is 0.5"),
        ({"fast_dwell_ms": 0}, "fast_dwell_ms is 0"),
        ({"drift": "much"}, "drift is 'much'"),
        ({"drift_shape": "jump"}, "drift_shape is 'jump'; expected one of ramp, wave"),
        ({"mood": 1}, "has no setting 'mood'; its settings are seed, "),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SimulatedAgent(**settings)


QUIET = {"slow_factor": 1.0, "outlier_share": 0.0}


def median_factors(agent, model, visits=20, cycles=20, **plan):
    """How much slower than the truth the visits are, by their medians."""
    plans = [VisitPlan(f"v{i}", ("m",), cycles, **plan) for i in range(visits)]
    (truth_ns,) = agent.true_ns([model])
    return np.array([np.median(visit.samples_ns) / visit.repeats / truth_ns for visit in agent.measure({"m": model}, plans)])


def test_a_ramp_makes_the_device_slower_and_a_wave_lets_it_recover():
    ramp = median_factors(SimulatedAgent(drift=0.1, drift_period_s=1.1, **QUIET), convolution(64, 28))
    assert ramp[0] == pytest.approx(1.1, abs=0.02), "the worker's start took a second of virtual time"
    slow = SimulatedAgent(drift=0.1, drift_period_s=4.0, **QUIET)
    assert median_factors(slow, convolution(64, 28))[0] == pytest.approx(1.03, abs=0.01)
    wave = SimulatedAgent(drift=0.2, drift_shape="wave", drift_period_s=2.02, **QUIET)
    assert median_factors(wave, convolution(64, 28))[0] == pytest.approx(1.2, abs=0.02)
    assert median_factors(wave, convolution(64, 28))[0] == pytest.approx(1.0, abs=0.03)


def test_bimodal_models_are_slower_in_half_of_their_visits_and_others_never():
    agent = SimulatedAgent(bimodal_share=0.3, bimodal_factor=1.2, **QUIET)
    models = [convolution(8 + i, 28) for i in range(40)]
    bimodal = [model for model in models if agent.bimodal(model)]
    assert 5 <= len(bimodal) <= 20
    factors = median_factors(agent, bimodal[0], visits=60)
    assert 0.3 < np.mean(factors > 1.15) < 0.7
    other = next(model for model in models if not agent.bimodal(model))
    assert median_factors(agent, other).max() < 1.05


def test_a_coarse_timer_spoils_a_short_call_and_not_a_repeated_one():
    agent, model = SimulatedAgent(timer_overhead_ns=400, timer_resolution_ns=1000, **QUIET), convolution(8, 14)
    (truth_ns,) = agent.true_ns([model])
    assert truth_ns < 8_000
    single, repeated = median_factors(agent, model), median_factors(agent, model, min_call_ns=100_000)
    assert np.abs(single - 1).min() > 0.05
    assert np.abs(repeated - 1).max() < 0.03
    (visit,) = agent.measure({"m": model}, [VisitPlan("v", ("m",), 3, min_call_ns=100_000)])
    assert visit.repeats == -(-100_000 // round(truth_ns))
    assert (visit.samples_ns % 1000 == 0).all()


def test_outliers_are_as_frequent_as_asked():
    agent = SimulatedAgent(slow_factor=1.0, outlier_share=0.1)
    (visit,) = agent.measure({"m": convolution(64, 28)}, [VisitPlan("v", ("m",), 2000)])
    assert np.mean(visit.samples_ns > 1.1 * agent.true_ns([convolution(64, 28)])[0]) == pytest.approx(0.09, abs=0.03)
