"""LocalAgent: real runtimes under the contract, and every way a worker can go wrong."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import echo_workers
import numpy as np
import pytest
from contracts import AgentContract, pointwise_block, pointwise_weights
from echo_workers import ALONE, altered_archive, visits, worker_pid

from device_agents import archive, private_folder
from device_agents.base import DeviceError, DeviceUnreachable, RuntimeMissing, VisitPlan, WorkerFailed
from device_agents.local import LocalAgent, default_cores


class TestOnnxRuntime(AgentContract):
    @pytest.fixture
    def agent(self):
        pytest.importorskip("onnxruntime")
        return LocalAgent()

    @pytest.fixture
    def models(self):
        pytest.importorskip("onnx")
        from supernets.export.onnx_graph import onnx_model

        return {name: onnx_model([pointwise_block(name)], pointwise_weights(name)) for name in ("small", "large")}


class TestLiteRt(AgentContract):
    @pytest.fixture
    def agent(self):
        pytest.importorskip("ai_edge_litert")
        return LocalAgent(runtime="litert")

    @pytest.fixture
    def models(self):
        pytest.importorskip("ai_edge_litert")
        from supernets.export.tflite_graph import tflite_model

        return {name: tflite_model([pointwise_block(name)], pointwise_weights(name)) for name in ("small", "large")}


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Make tempfile use a folder of the test's own, and check that nothing stays in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.fixture
def no_orphans():
    """Check that the test leaves no child process, not even a dead one that nobody waited for."""
    before = children()
    yield
    gc.collect()
    assert children() - before == set()


@pytest.fixture
def misbehaving(tmp_path):
    """Give a maker of agents whose models do something else when run."""

    def make(body: str, **settings) -> LocalAgent:
        return LocalAgent(runtime="echo", worker_archive=echo_workers.misbehaving(tmp_path / "altered", body), **settings)

    return make


def children() -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.add(int(stat.parent.name))
    return found


def test_every_measure_has_a_worker_process_of_its_own_and_leaves_none(temporary, no_orphans):
    agent = LocalAgent(runtime="echo")
    first, second = visits(agent), visits(agent)
    assert worker_pid(first[0]) != worker_pid(second[0])
    assert os.getpid() not in (worker_pid(first[0]), worker_pid(second[0]))


def test_worker_and_all_its_threads_are_on_the_asked_core():
    pytest.importorskip("onnxruntime")
    from supernets.export.onnx_graph import onnx_model

    core = min(os.sched_getaffinity(0))
    with LocalAgent(cores=[core]) as agent:
        iterator = agent.measure({"m": onnx_model([pointwise_block("small")], pointwise_weights("small"))}, [*ALONE, VisitPlan("q", ("m",), 1)])
        statuses = list(Path(f"/proc/{worker_pid(next(iterator))}/task").glob("*/status"))
        allowed = {line for status in statuses for line in status.read_text().splitlines() if line.startswith("Cpus_allowed_list")}
    assert agent.info().cores == (core,)
    assert allowed == {f"Cpus_allowed_list:\t{core}"}


def test_the_last_allowed_cores_are_the_default():
    allowed = sorted(os.sched_getaffinity(0))
    assert LocalAgent(runtime="echo").cores == (allowed[-1],)
    assert default_cores(len(allowed)) == tuple(allowed)
    with pytest.raises(ValueError, match=f"threads is {len(allowed) + 1}, but this process may use only"):
        LocalAgent(runtime="echo", threads=len(allowed) + 1)


def test_the_preflight_is_in_the_info_with_the_runtime_s_build():
    pytest.importorskip("onnxruntime")
    preflight = LocalAgent().info().extra["preflight"]
    assert preflight["timer_floor_ns"] > 0 and len(preflight["build_sha256"]) == 64
    assert preflight["state"]["unix_time_ns"] > 0


def test_a_short_model_alone_is_repeated_and_says_so():
    (visit,) = visits(LocalAgent(runtime="echo"), [VisitPlan("p", ("m",), cycles=3, warmup_cycles=1, min_call_ns=100_000)])
    assert visit.repeats > 10
    assert visit.samples_ns.min() > 10_000


def test_folders_that_killed_hosts_left_are_removed_by_the_next_worker_and_used_ones_stay(temporary):
    def left_behind(name):
        folder = temporary / f"{private_folder.PREFIX}{name}"
        folder.mkdir()
        (folder / "worker.pyz").write_bytes(b"x")
        (folder / private_folder.LOCK).touch()
        os.utime(folder, (1, 1))
        return folder

    dead, alive = left_behind("dead"), left_behind("alive")
    with (alive / private_folder.LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        visits(LocalAgent(runtime="echo"))
        assert alive.is_dir() and not dead.exists()
    visits(LocalAgent(runtime="echo"))
    assert not alive.exists()


def test_cores_that_the_kernel_refuses_are_an_error(temporary, no_orphans):
    with pytest.raises(DeviceError, match=r"device 'local': the kernel refused the cores \[4095\]"):
        LocalAgent(runtime="echo", cores=[4095]).info()


def test_no_cores_means_not_pinned_and_says_so():
    agent = LocalAgent(runtime="echo", cores=[])
    (visit,) = visits(agent)
    assert agent.info().cores == ()
    assert visit.samples_ns.shape == (1, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads is 0"),
        ({"threads": True}, "threads is True"),
        ({"threads": 2, "cores": [0]}, r"threads is 2, but cores are \[0\]"),
        ({"cores": [-1]}, "cores is -1"),
        ({"batch": 1.5}, "batch is 1.5"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"runtime": "tensorrt"}, "unknown runtime 'tensorrt'; known runtimes: onnxruntime, litert, "),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        LocalAgent(**{"runtime": "echo", **settings})


def test_worker_killed_during_a_visit_is_one_clear_error(misbehaving, temporary, no_orphans):
    agent = misbehaving("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(WorkerFailed, match=r"worker of device 'local' was killed by SIGKILL while running visit 'p'; its stderr was empty"):
        visits(agent)


def test_worker_that_ends_tells_its_status_and_last_words(misbehaving, temporary, no_orphans):
    agent = misbehaving("os.write(2, b'first\\n' * 50 + b'assertion failed in kernel\\n')\nos._exit(3)")
    with pytest.raises(
        WorkerFailed, match="ended with exit status 3 while running visit 'p'; its stderr ended: .*assertion failed in kernel"
    ) as caught:
        visits(agent)
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).count("first") == 4


def test_visits_before_the_worker_died_stand(misbehaving, tmp_path):
    marker = tmp_path / "marker"
    agent = misbehaving(f"if os.path.exists({str(marker)!r}):\n    os.kill(os.getpid(), signal.SIGKILL)")
    iterator = agent.measure({"m": b"x"}, [*ALONE, VisitPlan("q", ("m",), 1)])
    assert next(iterator).plan_id == "p"
    marker.touch()
    with pytest.raises(WorkerFailed, match="'q'"):
        next(iterator)


def test_worker_that_hangs_is_ended_after_the_time_out(misbehaving, temporary, no_orphans):
    agent = misbehaving("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)", timeout_s=1.5)
    started = time.monotonic()
    with pytest.raises(WorkerFailed, match=r"did not answer within 1.5 s while running visit 'p'; raise timeout_s"):
        visits(agent)
    assert time.monotonic() - started < 20


def test_worker_that_floods_stderr_meets_the_time_out_too(misbehaving, no_orphans):
    agent = misbehaving("while True:\n    os.write(2, b'x' * 10000)", timeout_s=1.5)
    with pytest.raises(WorkerFailed, match=r"within 1.5 s .* its stderr ended: x{300}$"):
        visits(agent)


def test_a_runtime_that_prints_harms_nothing(misbehaving, temporary):
    agent = misbehaving("print('hello')\nos.write(1, b'{\"reply\":\"run\"}\\n')\nos.system('echo from a child')")
    (visit,) = visits(agent)
    assert visit.samples_ns.shape == (1, 3)


def test_rubbish_among_the_replies_is_an_error(misbehaving, temporary, no_orphans):
    body = "for descriptor in range(3, 20):\n    try:\n        os.write(descriptor, b'rubbish\\n')\n    except OSError:\n        pass"
    with pytest.raises(WorkerFailed, match=r"wrote what is no reply while running visit 'p': b'rubbish' is not JSON"):
        visits(misbehaving(body))


@pytest.mark.parametrize(
    "samples",
    ["[[1, 2]]", "[[1, 2, 3], [1, 2, 3]]", "[[1, 2, 0]]", "[[1, 2, 3.5]]", "[[1, 2], [3]]", "[['1', '2', '3']]", "None", "[[1, 2, 2**70]]"],
)
def test_samples_that_are_none_are_an_error(temporary, no_orphans, tmp_path, samples):
    packed = altered_archive(tmp_path / "altered", "timed_loop.py", "    return samples, repeats", f"    return {samples}, 1")
    with pytest.raises(WorkerFailed, match="answered visit 'p' with what is not 1 lists of 3 positive integers"):
        visits(LocalAgent(runtime="echo", worker_archive=packed))


def test_worker_of_another_protocol_is_an_error(tmp_path):
    packed = altered_archive(tmp_path / "altered", "wire.py", "PROTOCOL_VERSION = 2", "PROTOCOL_VERSION = 3")
    with pytest.raises(WorkerFailed, match="the host speaks protocol 2, this worker 3"):
        visits(LocalAgent(runtime="echo", worker_archive=packed))


def test_closing_the_iterator_ends_the_worker_and_removes_its_files(temporary, no_orphans):
    iterator = LocalAgent(runtime="echo").measure({"m": b"x"}, [*ALONE, VisitPlan("q", ("m",), 1)])
    pid = worker_pid(next(iterator))
    assert pid in children()
    assert list(temporary.iterdir())
    iterator.close()
    assert pid not in children()


def test_an_error_of_the_consumer_ends_the_worker_and_removes_its_files(temporary, no_orphans):
    def consume():
        for _ in LocalAgent(runtime="echo").measure({"m": b"x"}, [*ALONE, VisitPlan("q", ("m",), 1)]):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        consume()


def test_leaving_the_agent_ends_a_worker_in_use(temporary, no_orphans):
    with LocalAgent(runtime="echo") as agent:
        iterator = agent.measure({"m": b"x"}, [*ALONE, VisitPlan("q", ("m",), 1)])
        pid = worker_pid(next(iterator))
    assert pid not in children()
    with pytest.raises(WorkerFailed, match="was closed before running visit 'q'"):
        next(iterator)


def test_interrupt_during_a_visit_ends_the_worker(misbehaving, temporary, no_orphans):
    agent = misbehaving("os.kill(os.getppid(), signal.SIGINT)\ntime.sleep(60)")
    with pytest.raises(KeyboardInterrupt):
        visits(agent)


def test_worker_ends_by_itself_when_its_host_is_killed(tmp_path):
    program = (
        "import sys, time\n"
        "from device_agents.base import VisitPlan\n"
        "from device_agents.local import LocalAgent\n"
        "iterator = LocalAgent(runtime='echo').measure({'m': b'x'}, [VisitPlan('p', ('m',), 1), VisitPlan('q', ('m',), 1)])\n"
        "print(next(iterator).worker, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(archive.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment) as host:
        pid = int(host.stdout.readline().partition("-")[0])
        host.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_missing_runtime_names_the_package_and_the_cure(tmp_path, temporary, no_orphans):
    bare_python = tmp_path / "bare-python"
    bare_python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare_python.chmod(0o755)
    agent = LocalAgent(python=str(bare_python))
    with pytest.raises(
        RuntimeMissing, match=r"device 'local': running ONNX files needs the package 'onnxruntime'.*'elastic-latency\[onnx\]'"
    ) as caught:
        agent.info()
    assert isinstance(caught.value, ImportError)
    with pytest.raises(RuntimeMissing, match=r"'ai-edge-litert'.*'elastic-latency\[litert\]'"):
        LocalAgent(runtime="litert", python=str(bare_python)).info()


def test_python_that_cannot_be_started_is_unreachable(temporary, no_orphans):
    with pytest.raises(DeviceUnreachable, match="device 'local' cannot start '/nowhere/python'") as caught:
        LocalAgent(runtime="echo", python="/nowhere/python").info()
    assert isinstance(caught.value, ConnectionError)


def test_python_that_is_none_is_an_error(temporary, no_orphans):
    with pytest.raises(WorkerFailed, match="while starting"):
        LocalAgent(runtime="echo", python="/bin/false").info()


def test_a_model_of_another_batch_is_refused(temporary, no_orphans):
    pytest.importorskip("onnxruntime")
    from supernets.export.onnx_graph import onnx_model

    model = onnx_model([pointwise_block("small")], pointwise_weights("small"), batch=2)
    with pytest.raises(DeviceError, match=r"model 'm' has the input shapes \[\[2, 8, 8, 8\]\], but device 'local' measures batch 1"):
        list(LocalAgent().measure({"m": model}, ALONE))
    (visit,) = LocalAgent(batch=2).measure({"m": model}, ALONE)
    assert visit.samples_ns.shape == (1, 3)
    with pytest.raises(ValueError, match="3 inputs were given; expected a multiple of the batch 2"):
        LocalAgent(batch=2).run(model, np.zeros((3, 8, 8, 8), np.float32))
