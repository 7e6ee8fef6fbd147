"""The timed loop on a GPU, against a fake torch.cuda with a clock of its own: a queue in order, and a host that takes time to fill it."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from device_agents.on_device import cuda_timing
from device_agents.on_device.cuda_timing import CudaTimer
from device_agents.on_device.runtime_torch_cuda import captured

LAUNCH_NS, CLOCK_KHZ = 5_000, 2_000_000


class FakeEvent:
    """A fake of torch.cuda.Event; reading one that the host has not waited for is an error, as in CUDA."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.at_ns, self.known = cuda, 0, False

    def record(self) -> None:
        self.cuda.host_ns += self.cuda.record_ns
        self.at_ns, self.known = max(self.cuda.free_ns, self.cuda.host_ns), False
        self.cuda.free_ns = self.at_ns
        self.cuda.events.append(self)

    def query(self) -> bool:
        return self.at_ns <= self.cuda.host_ns

    def elapsed_time(self, end: FakeEvent) -> float:
        if not (self.known and end.known):
            raise RuntimeError("CUDA error: device not ready")
        return (end.at_ns - self.at_ns) / 1e6


class FakeCuda:
    """A fake of torch.cuda: one device that takes queued work in order; time passes where the host queues or waits."""

    def __init__(self) -> None:
        self.host_ns = self.free_ns = self.record_ns = 0
        self.events: list[FakeEvent] = []
        self.log: list[str] = []

    def Event(self, enable_timing: bool) -> FakeEvent:
        assert enable_timing
        return FakeEvent(self)

    def launch(self, name: str, takes_ns: int, launch_ns: int = LAUNCH_NS) -> None:
        self.host_ns += launch_ns
        self.free_ns = max(self.free_ns, self.host_ns) + takes_ns
        self.log.append(name)

    def _sleep(self, clocks: int) -> None:
        self.launch("hold", clocks * 1_000_000 // CLOCK_KHZ)

    def synchronize(self) -> None:
        self.host_ns = max(self.host_ns, self.free_ns)
        for event in self.events:
            event.known = True
        self.events.clear()
        self.log.append("wait")


class FakeState:
    """A fake GpuStateReader that notes what it is told."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda

    def clock_maxima_khz(self) -> list[int]:
        return [CLOCK_KHZ]

    def note_load(self) -> None:
        self.cuda.log.append("note")

    def wake(self, work) -> None:
        self.cuda.log.append("wake")


@pytest.fixture
def cuda():
    return FakeCuda()


def timer(cuda, **settings):
    return CudaTimer(cuda, FakeState(cuda), host_clock=lambda: cuda.host_ns, **{"hold": True, **settings})


def test_with_the_queue_held_a_sample_is_what_the_device_takes_whatever_launching_costs(cuda):
    runs = [lambda: cuda.launch("a", 2_000), lambda: cuda.launch("b", 40_000)]
    samples, repeats = timer(cuda).timed_cycles(runs, 4, 2)
    assert samples == [[2_000] * 4, [40_000] * 4]
    assert repeats == 1


def test_without_a_sample_has_the_launches_that_the_device_waits_for(cuda):
    def model() -> None:
        for _ in range(3):
            cuda.launch("kernel", 2_000)

    ((first, *_),), _ = timer(cuda, hold=False).timed_cycles([model], 4, 0)
    assert first == 3 * LAUNCH_NS + 2_000
    assert "hold" not in cuda.log


def test_a_cycle_that_the_device_began_before_it_was_queued_is_made_again_with_a_longer_hold(cuda):
    slow_launches = iter([0, 0, 900_000, *[0] * 50])  # the host is held up while it queues
    samples, _ = timer(cuda).timed_cycles([lambda: cuda.launch("a", 2_000, LAUNCH_NS + next(slow_launches))], 5, 0)
    assert samples == [[2_000] * 5]


def test_a_host_that_is_always_late_ends_all_the_same(cuda, monkeypatch):
    monkeypatch.setattr(cuda_timing, "HOLD_FACTOR", 0)
    monkeypatch.setattr(cuda_timing, "SHORTEST_HOLD_NS", 1)
    ((sample,),), _ = timer(cuda).timed_cycles([lambda: cuda.launch("a", 2_000)], 1, 0)
    assert 2_000 < sample <= LAUNCH_NS + 2_000
    assert cuda.log.count("a") == 2 * cuda_timing.HOLD_ATTEMPTS  # one cycle to find the hold, one timed


def test_the_device_is_waited_for_after_each_cycle_and_events_are_read_after_that(cuda):
    runs = [lambda: cuda.launch("a", 50_000), lambda: cuda.launch("b", 50_000)]
    timer(cuda, hold=False).timed_cycles(runs, 2, 1)
    assert cuda.log == ["a", "b", "wait", "wake", "a", "b", "wait", "note", "a", "b", "wait", "a", "b", "wait", "note"]


def test_the_cache_is_flushed_before_each_run_and_not_in_its_time(cuda):
    samples, _ = timer(cuda, flush=lambda: cuda.launch("flush", 300_000)).timed_cycles([lambda: cuda.launch("a", 2_000)] * 2, 3, 0)
    assert samples == [[2_000] * 3] * 2
    timed = "".join(name[0] for name in cuda.log if name in ("flush", "a"))
    assert timed.endswith("fafa" * 3)


def test_a_short_run_alone_is_repeated_until_a_call_is_long_enough(cuda):
    samples, repeats = timer(cuda).timed_cycles([lambda: cuda.launch("a", 3_000)], 2, 1, min_call_ns=100_000)
    assert repeats == 34
    assert samples == [[34 * 3_000] * 2]


def test_a_sample_is_never_nothing(cuda):
    assert timer(cuda).timed_cycles([lambda: None], 1, 0) == ([[1]], 1)


def test_garbage_is_not_collected_while_timing_and_is_again_afterwards(cuda):
    seen = []
    timer(cuda).timed_cycles([lambda: seen.append(gc.isenabled())], 1, 0)
    assert not any(seen) and gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        timer(cuda).timed_cycles([lambda: 1 // 0], 1, 0)
    assert gc.isenabled()


# --- capturing ------------------------------------------------------------------------------------------------------------


class FakeTorch:
    """A fake of the parts of torch that capturing uses: a run inside `cuda.graph` is recorded, and replayed without the host."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.capturing: list[str] | None = None
        self.cuda = self
        self.stream_now = "main"

    def launch(self, name: str) -> None:
        if self.capturing is None:
            self.log.append(f"{name} on {self.stream_now}")
        else:
            self.capturing.append(name)

    def Stream(self):
        return SimpleNamespace(name="side", wait_stream=lambda other: self.log.append("side waits for main"))

    def current_stream(self):
        return SimpleNamespace(name="main", wait_stream=lambda other: self.log.append("main waits for side"))

    @contextmanager
    def stream(self, stream):
        before, self.stream_now = self.stream_now, stream.name
        yield
        self.stream_now = before

    @contextmanager
    def inference_mode(self):
        yield

    def CUDAGraph(self):
        graph = SimpleNamespace(recorded=[], pool=None)
        graph.replay = lambda: self.log.append(f"replay {'+'.join(graph.recorded)}")
        return graph

    @contextmanager
    def graph(self, graph, pool):
        self.capturing, graph.pool = graph.recorded, pool
        yield
        self.capturing = None


def test_a_network_is_warmed_up_on_a_side_stream_captured_once_and_replayed():
    torch, calls = FakeTorch(), []

    def network() -> None:
        calls.append(1)
        torch.launch("conv")
        torch.launch("relu")

    graph = captured(torch, network, "pool")
    assert torch.log == ["side waits for main", *["conv on side", "relu on side"] * 3, "main waits for side"]
    assert (len(calls), graph.pool) == (4, "pool")
    graph.replay()
    graph.replay()
    assert torch.log[-2:] == ["replay conv+relu"] * 2
    assert len(calls) == 4
