"""SshAgent against an arm64 Debian under qemu, with its own sshd, Python and LiteRT. What works there is stated, and no time is."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("asyncssh")
from arm64_root import arm64_root
from real_sshd import one_sshd

from device_agents.base import DeviceError, RuntimeMissing
from device_agents.bootstrap import bootstrap
from device_agents.local import LocalAgent
from device_agents.ssh import SshAgent
from luts.store import MeasurementStore
from luts.table import LatencyTable
from profiler.measuring.collect import collect
from profiler.measuring.models import default_model_maker
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from supernets.places import distinct_blocks
from supernets.spaces import space

pytestmark = [pytest.mark.device_services, pytest.mark.timeout(900)]

ONE_NETWORK = space("ofa-mobilenetv3-tiny").restrict({"resolution": (20,), "kernel_size": (3,), "expand_ratio": (3,), "depth": (2,)})
FEW = ProtocolSettings(rounds=2, most_rounds=2, alone_visits=1, chain_visits=1, network_visits=1, alone_runs=2, chain_cycles=2, network_runs=2)


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Give the sshd of the arm64 root."""
    with arm64_root() as root:
        with one_sshd(tmp_path_factory.mktemp("arm64"), root=root) as server:
            yield server
        assert list((root / "tmp").iterdir()) == []
        assert not (root / "root/.elastic-latency/venv").exists()


@pytest.fixture
def agent(board):
    with SshAgent("raspberrypi4", **board.settings(runtime="litert")) as there:
        yield there


def test_every_step_is_proved_and_what_the_board_cannot_tell_is_not_claimed(agent):
    found = {check.name: check for check in agent.checks()}
    assert all(found[name].passed for name in ("reachable", "host key", "login", "python", "folder", "runtime", "cores"))
    assert all(found[name].passed is None for name in ("clock", "temperature", "throttling"))
    assert agent.connection().command(["uname", "-m"]).stdout == "aarch64\n"
    info = agent.info()
    assert (info.extra["machine"], info.runtime, info.delegate) == ("aarch64", "litert", "xnnpack")
    assert info.cpu_model == "Raspberry Pi 4 Model B Rev 1.4"
    assert info.governor is None and info.extra["preflight"]["state"]["temperature_c"] is None


def test_blocks_compute_there_what_they_compute_here(agent):
    pytest.importorskip("ai_edge_litert")
    maker, here = default_model_maker("tflite", 1), LocalAgent(runtime="litert")
    for number, block in enumerate(distinct_blocks(ONE_NETWORK)[:6]):
        side = block.input_side
        inputs = np.random.default_rng(number).normal(size=(1, side, side, block.in_channels)).astype(np.float32)
        model = maker([block])
        expected = here.run(model, inputs)
        np.testing.assert_allclose(agent.run(model, inputs), expected, atol=1e-5 * np.abs(expected).max(), err_msg=block.key)


def test_a_space_is_collected_into_the_same_table_as_from_any_device(agent, tmp_path):
    plan = make_plan(ONE_NETWORK, FEW, 0)
    with MeasurementStore(tmp_path / "board.lut") as store:
        summary = collect(ONE_NETWORK, agent, store, plan)
        condition = store.condition()
    assert summary.complete and summary.measured_visits == plan.visit_count
    assert (condition.device, condition.runtime, condition.cpu_model) == ("raspberrypi4", "litert", "Raspberry Pi 4 Model B Rev 1.4")
    for mode in ("alone", "chain"):
        table = LatencyTable.open(tmp_path / "board.lut", mode)
        assert set(table.entries) == {block.key for block in distinct_blocks(ONE_NETWORK)}
        assert all(entry.latency_ms > 0 and entry.origin == "measured" for entry in table.entries.values())


def test_a_runtime_that_is_not_there_and_a_python_without_venv_are_one_clear_line_each(board):
    with SshAgent("raspberrypi4", **board.settings(runtime="onnxruntime")) as agent:
        with pytest.raises(RuntimeMissing, match="'onnxruntime'.*profiler devices --bootstrap raspberrypi4") as missing:
            agent.info()
        with pytest.raises(DeviceError, match="without the module venv; install it there: sudo apt install python3-venv") as unfit:
            list(bootstrap(agent))
    assert all(len(str(caught.value).splitlines()) == 1 for caught in (missing, unfit))
