"""AdbAgent on a real adbd with mksh and toybox under it; the runner is the native stand-in, `dumpsys` and `cmd` are scripts of these tests."""

import itertools
import random
import threading
import time

import pytest
from android_runner_builds import model, runner
from real_adbd import real_adbd
from real_phone import RealPhone

from device_agents.base import DeviceError, DeviceUnreachable, RuntimeMissing, VisitPlan
from profiler.measuring.settings import ProtocolSettings

pytestmark = pytest.mark.device_services

RESETS = 50
MODELS = {f"model {number}": model(0.1 * (number + 1)) for number in range(4)}


def plans(count: int, cycles: int = 3) -> list[VisitPlan]:
    return [VisitPlan(f"visit {number}", (f"model {number % len(MODELS)}",), cycles, 1) for number in range(count)]


@pytest.fixture(scope="module")
def adbd():
    with real_adbd() as running:
        yield running


@pytest.fixture
def phone(adbd, tmp_path):
    adbd.path("/data/local/tmp/settings").unlink(missing_ok=True)
    played = RealPhone(adbd, tmp_path)
    yield played
    played.mend()


# --- the cable ------------------------------------------------------------------------------------------------------------


class Pulling:
    """Resets the connection at random moments and after random numbers of bytes, until it has done so often enough."""

    def __init__(self, relay, rng) -> None:
        self.relay, self.rng, self.count, self.stopped = relay, rng, 0, threading.Event()
        self.thread = threading.Thread(target=self.pull, daemon=True)

    def pull(self) -> None:
        while not self.stopped.wait(self.rng.uniform(0.02, 0.8)):
            if self.relay.armed:  # the last one is still to come
                continue
            if self.rng.random() < 0.5:
                self.relay.reset()
            else:
                self.relay.reset_after(self.rng.randrange(1, self.rng.choice([20_000, 4_000_000])))
            self.count += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.stopped.set()
        self.thread.join()
        self.relay.disarm()


def test_cable_pulled_at_50_random_moments_loses_nothing_and_measures_nothing_twice(phone):
    rng = random.Random(8)
    large = {**MODELS, "large": rng.randbytes(1_000_000)}
    pulled = expected = 0
    counting = phone.counting_runner()
    attempts = itertools.count()  # a fast computer is done before the cable is pulled twice; the time limit of tests ends this
    while pulled < RESETS:
        attempt = next(attempts)
        wanted = [VisitPlan(f"{attempt}.{plan.id}", plan.models, plan.cycles) for plan in plans(16)] + [VisitPlan(f"{attempt}.large", ("large",), 1)]
        with phone.agent(runner=counting, timeout_s=10.0) as agent:
            agent.info()
            with Pulling(phone.adbd.relay, rng) as pulling:
                visits = list(agent.measure(large, wanted))
        assert [visit.plan_id for visit in visits] == [plan.id for plan in wanted]
        expected += len(wanted)
        pulled += pulling.count
    assert phone.starts == expected
    phone.assert_left_empty()


def test_cable_that_stays_out_ends_in_one_sentence_and_the_phone_cleans_up_by_itself(phone, monkeypatch):
    monkeypatch.setattr("device_agents.android.session.RECONNECT_PAUSES_S", (0.1, 0.2))
    monkeypatch.setattr("device_agents.android.session.CLOSING_PAUSES_S", (0.1,))
    monkeypatch.setattr("device_agents.android.session.KEEPER_LOOKS_EVERY_S", 1)
    agent = phone.agent(lease_s=2)
    agent.info()
    made = agent.measure(MODELS, plans(200))
    next(made)
    phone.adbd.relay.cut()
    with pytest.raises(DeviceUnreachable) as caught:
        list(made)
    assert "\n" not in str(caught.value)
    phone.adbd.relay.mend()
    phone.assert_left_empty()
    assert phone.settings_set[-1] == "power set-fixed-performance-mode-enabled false"


# --- faults of the runner and the phone ----------------------------------------------------------------------------------


def test_missing_runner_is_one_sentence(phone):
    with phone.agent(runner="/data/local/tmp/none/benchmark_model") as agent, pytest.raises(RuntimeMissing, match="no such file on the phone"):
        agent.info()
    phone.assert_left_empty()


def test_runner_of_another_architecture_names_both(phone, tmp_path):
    native = runner(tmp_path).read_bytes()
    other = tmp_path / "other_benchmark_model"
    other.write_bytes(native[:18] + (0xBEEF).to_bytes(2, "little") + native[20:])  # a machine that nothing runs
    with phone.agent(runner=str(other)) as agent, pytest.raises(RuntimeMissing, match="is built for ELF machine 48879, the device is arm or arm64"):
        agent.info()


def test_folder_that_its_shell_may_not_write_to_is_named(phone):
    with (
        phone.agent(folder="/system/elastic-latency") as agent,
        pytest.raises(DeviceError, match="has no folder '/system/elastic-latency'.*set `folder`"),
    ):
        agent.info()


@pytest.mark.parametrize(
    "odd", ["$(touch /data/local/tmp/executed)", "; touch executed;", "`touch executed`", "a 'b' \"c\"", "-rf *", "& touch executed"]
)
def test_names_of_models_runners_and_folders_are_never_executed(phone, tmp_path, odd):
    program = runner(tmp_path / "named", name=f"{odd.replace('/', '_')} benchmark_model")
    folder = f"/data/local/tmp/el {odd.replace('/', '_')}"
    with phone.agent(runner=str(program), folder=folder) as agent:
        visits = list(agent.measure({odd: model(0.1)}, [VisitPlan(odd, (odd,), 2)]))
    assert [visit.plan_id for visit in visits] == [odd]
    assert not list(phone.adbd.path("/data/local/tmp").rglob("executed"))
    phone.adbd.path(folder).rmdir()  # it is empty


def test_checks_prove_each_step(phone):
    with phone.agent(cores=[0]) as agent:
        steps = list(agent.checks())
    assert [(step.name, step.passed) for step in steps if step.passed is False] == []
    assert [step.name for step in steps][:5] == ["reachable", "authorised", "writable", "runtime", "cores pinned"]


def test_nine_tenths_of_the_time_are_spent_in_the_runner_for_blocks_of_a_millisecond(phone):
    settings = ProtocolSettings()
    block = [VisitPlan(f"v{number}", ("block",), settings.alone_runs, settings.alone_warmup) for number in range(60)]
    shares = []
    with phone.agent(least_s=0.1, warmup_s=0.05, cores=[0]) as agent:
        agent.info()
        for _ in range(3):  # other work on this machine makes each process start later
            agent.in_runner_s, begin_s = 0.0, time.monotonic()
            list(agent.measure({"block": model(1.0)}, block))
            shares.append(agent.in_runner_s / (time.monotonic() - begin_s))
            if shares[-1] >= 0.9:
                return
    raise AssertionError(shares)
