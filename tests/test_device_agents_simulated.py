"""SimulatedAgent: the contract, the formula it documents, and that its noise is what it says."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

from device_agents import simulated
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
        simulated.cost(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"seed": -1}, "seed is -1"), ({"seed": "x"}, "seed is 'x'"), ({"throttled_share": 2}, "throttled_share is 2")],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SimulatedAgent(**settings)
