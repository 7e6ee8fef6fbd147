"""Devices that hang on hosts of a Ray cluster: a real one of three nodes on this machine, with simulated devices."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights

from device_agents.base import DeviceUnreachable, VisitPlan
from device_agents.devices import find_device
from luts.store import MeasurementStore
from profiler import ray_agent
from profiler.cli.main import run
from profiler.ray_agent import HostLost, RayAgent

pytest.importorskip("onnx")
pytest.importorskip("ray", reason="farms over several hosts need the package ray")
from supernets.export.onnx_graph import onnx_model

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ROUNDS = 2
SIZES = ["--space", "ofa-mobilenetv3-tiny", "--resolutions", "20", "--preset", "quick", "--rounds", str(ROUNDS)]
DEVICES = '[slow]\nbased_on = "simulated"\n[fast]\nbased_on = "simulated"\nseed = 4\n[broken]\nbased_on = "simulated"\nseed = -1\n'


@pytest.fixture(autouse=True)
def own_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "devices.toml").write_text(DEVICES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the device measures without a cluster."""
    table = tmp_path_factory.mktemp("alone") / "slow.lut"
    assert run(["collect", "--device", "simulated", *SIZES, "--out", str(table)]) == 0
    return visits_of(table)


def visits_of(place: Path) -> dict[str, bytes]:
    """Return plan id and subject → samples of the rounds that hold everything; what later ones hold is a matter of time spent."""
    found = {}
    with MeasurementStore(place, read_only=True) as store:
        for kind in ("block", "network"):
            for subject, visit, samples in store.samples(kind):
                if visit.round < ROUNDS:
                    found[f"{visit.plan_id}/{subject.key}"] = samples.tobytes()
    return found


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster whose first node has no device."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield made
    finally:
        made.shutdown()


def started(cluster: Any, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "profiler", "collect", *SIZES, "--ray", cluster.address, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_visits(table: Path, count: int) -> set[str]:
    """Return the workers of the visits, once there are so many."""
    end_s = time.monotonic() + 90
    while time.monotonic() < end_s:
        try:
            with MeasurementStore(table, read_only=True) as store:
                if len(store.finished_plans()) >= count:
                    return {session["collector"] for session in store.provenance()["sessions"]}
        except (OSError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


def test_a_host_that_is_lost_midway_loses_no_visit_and_another_finishes_its_work(cluster: Any, alone: dict[str, bytes], tmp_path: Path) -> None:
    first, _ = [cluster.add_node(num_cpus=1, resources={"device:slow": 1}) for _ in range(2)]
    table = tmp_path / "shared.lut"
    process = started(cluster, "--device", "slow", "--out", str(table))
    collectors = wait_for_visits(table, 200)
    cluster.remove_node(first, allow_graceful=False)
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0 and "Traceback" not in error, error
    assert len(collectors) == 2
    assert visits_of(table) == alone


def test_the_work_of_the_only_host_waits_for_the_next_one_with_the_device(cluster: Any, alone: dict[str, bytes], tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, resources={"device:slow": 1})
    table = tmp_path / "waiting.lut"
    process = started(cluster, "--device", "slow", "--out", str(table))
    wait_for_visits(table, 200)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1, resources={"device:slow": 1})
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0 and "Traceback" not in error, error
    assert visits_of(table) == alone


def test_stopping_frees_the_device_and_the_same_command_goes_on(cluster: Any, alone: dict[str, bytes], tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1, resources={"device:slow": 1})
    table = tmp_path / "stopped.lut"
    process = started(cluster, "--device", "slow", "--out", str(table))
    wait_for_visits(table, 50)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.count("\n")) == (130, 1) and "stopped" in error
    again = started(cluster, "--device", "slow", "--out", str(table))
    _, error = again.communicate(timeout=200)
    assert again.returncode == 0 and "were there before" in error, error
    assert visits_of(table) == alone


def test_devices_of_several_hosts_are_measured_by_one_command_and_each_failure_is_one_line(
    cluster: Any, alone: dict[str, bytes], tmp_path: Path
) -> None:
    for device in ("slow", "broken"):
        cluster.add_node(num_cpus=1, resources={f"device:{device}": 1})
    process = started(cluster, "--device", "slow,broken,fast", "--out", str(tmp_path / "lab"))
    output, error = process.communicate(timeout=200)
    assert process.returncode == 1 and output == ""
    assert [line for line in error.splitlines() if line.startswith("profiler: ")] == [
        "profiler: device 'broken' failed: seed is -1; expected a whole number of at least 0",
        f"profiler: device 'fast' failed: no host of the Ray cluster at {cluster.address} offers it; start Ray on the host that it hangs on with "
        "ray start --address=HEAD:6379 --resources='{\"device:fast\": 1}'",
    ]
    assert visits_of(tmp_path / "lab" / "slow.lut") == alone


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", r"no Ray cluster answers at 127\.0\.0\.1:9 \(Connection refused\); start one with ray start --head"),
        ("127.0.0.1:many", r"no Ray cluster answers at 127\.0\.0\.1:many \("),
        ("ray://127.0.0.1:10001", r"--ray ray://127\.0\.0\.1:10001 is the address of Ray's client; run the command on a host of the cluster"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once_in_one_line(address: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["collect", *SIZES, "--device", "slow", "--ray", address, "--out", str(tmp_path / "a.lut")]) == 1
    error = capsys.readouterr().err
    assert re.search(said, error) and error.count("\n") == 1


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[Any]:
    """Ray, connected to a cluster of this machine with one device."""
    import ray

    ray.init(address="local", num_cpus=1, resources={"device:simulated": 1}, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.usefixtures("own_cluster")
class TestRayAgent(AgentContract):
    @pytest.fixture
    def agent(self, own_cluster: Any) -> RayAgent:
        return RayAgent(own_cluster, find_device("simulated"))

    @pytest.fixture
    def models(self) -> dict[str, bytes]:
        return {name: onnx_model([pointwise_block(name)], pointwise_weights(name)) for name in ("small", "large")}


def test_visits_are_made_one_ahead_of_who_takes_them_and_no_more(own_cluster: Any) -> None:
    model = onnx_model([pointwise_block("small")], pointwise_weights("small"))
    plans = [VisitPlan(f"v{i}", ("m",), 1) for i in range(50)]
    with RayAgent(own_cluster, find_device("simulated")) as agent:
        visits = agent.measure({"m": model}, plans)
        first = next(visits)
        time.sleep(1)
        visits.close()
        (later,) = agent.measure({"m": model}, [VisitPlan("later", ("m",), 1)])
    start_ns, visit_ns = 1_010_000_000, first.state_after.unix_time_ns - first.state_before.unix_time_ns
    assert later.state_before.unix_time_ns - first.state_before.unix_time_ns < start_ns + 5 * (visit_ns + 1_000_000)  # the device's own clock


def test_an_error_on_the_host_keeps_its_class(own_cluster: Any) -> None:
    with pytest.raises(ValueError, match="seed is -5; expected a whole number of at least 0"):
        RayAgent(own_cluster, find_device("simulated", {"seed": -5}))


def test_a_device_that_another_collection_uses_is_told(own_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = find_device("simulated")
    with RayAgent(own_cluster, device), monkeypatch.context() as context:
        context.setattr(ray_agent, "PLACED_S", 2.0)
        with pytest.raises(HostLost, match="no host with device 'simulated' was free within 2 s: another collection"):
            RayAgent(own_cluster, device)
    with RayAgent(own_cluster, device) as again:
        assert again.info().device == "simulated"


def test_a_host_without_this_package_or_with_another_version_of_it_is_told(own_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutPackage:
        def __init__(self, device: object) -> None:
            raise ModuleNotFoundError("No module named 'profiler'")

        def version(self) -> str:
            return ""

    class Older:
        def __init__(self, device: object) -> None:
            pass

        def version(self) -> str:
            return "0.0.9"

    device = find_device("simulated")
    for hosted, said in (
        (WithoutPackage, r"device 'simulated' cannot start its agent \(ModuleNotFoundError: No module named 'profiler'\); install the same version"),
        (Older, r"device 'simulated' has version 0\.0\.9 of elastic-latency; install the same version there as here, "),
    ):
        monkeypatch.setattr(ray_agent, "_HostedAgent", hosted)
        with pytest.raises(DeviceUnreachable, match=said) as error:
            RayAgent(own_cluster, device)
        assert not isinstance(error.value, HostLost)
