"""AdbAgent on a real adbd with mksh and toybox under it; the runner is the native stand-in, `dumpsys` and `cmd` are scripts of these tests."""

import random
import threading
import time

import pytest
from android_runner_builds import model, runner
from real_adbd import RealAdbd, real_adbd

from device_agents.adb import FOLDER, AdbAgent
from device_agents.android.discovery import open_transport
from device_agents.base import DeviceError, DeviceUnreachable, RuntimeMissing, VisitPlan, WorkerFailed
from luts.store import MeasurementStore
from profiler.measuring.collect import collect
from profiler.measuring.plan import make_plan
from profiler.measuring.settings import ProtocolSettings
from supernets.spaces import space as space_of_name

pytestmark = pytest.mark.device_services

RESETS = 50
MODELS = {f"model {number}": model(0.1 * (number + 1)) for number in range(4)}
DUMPSYS = """#!/system/bin/sh
case $1 in
thermalservice) echo "Thermal Status: $(cat /data/local/tmp/thermal)"; echo "HAL Ready: true"; echo "Current temperatures from HAL:"
    echo "\tTemperature{mValue=41.5, mType=0, mName=CPU0, mStatus=0}" ;;
battery) echo "  USB powered: true"; echo "  status: 2"; echo "  level: $(cat /data/local/tmp/level)"; echo "  temperature: 250" ;;
power) echo "  mWakefulness=Awake" ;;
esac
"""


class Phone:
    """A real adbd's device, with what its tests set on it."""

    def __init__(self, adbd: RealAdbd, folder) -> None:
        self.adbd, self.folder = adbd, folder
        adbd.install("dumpsys", DUMPSYS)
        adbd.install("cmd", '#!/system/bin/sh\necho "$*" >>/data/local/tmp/settings\n')
        self.says(thermal=0, level=80)

    def says(self, **values: int) -> None:
        for name, value in values.items():
            path = self.adbd.path(f"/data/local/tmp/{name}")
            path.write_text(f"{value}\n")
            path.chmod(0o644)

    def agent(self, fault: str = "", **settings) -> AdbAgent:
        chosen = {"cores": [], "least_s": 0.0, "warmup_s": 0.0, "runner": str(runner(self.folder, fault)), **settings}
        return AdbAgent("pixel1", transport=open_transport(f"tcp:{self.adbd.serial}", self.adbd.key), **chosen)

    def counting_runner(self) -> str:
        """Return the path there of a runner that writes one line a start into /data/local/tmp/starts."""
        for name, content in (
            ("real_runner", runner(self.folder).read_bytes()),
            ("benchmark_model", b'#!/system/bin/sh\necho "$1" >>/data/local/tmp/starts\nexec /data/local/tmp/real_runner "$@"\n'),
        ):
            path = self.adbd.path(f"/data/local/tmp/{name}")
            path.write_bytes(content)
            path.chmod(0o755)
        starts = self.adbd.path("/data/local/tmp/starts")
        starts.write_bytes(b"")
        starts.chmod(0o666)
        return "/data/local/tmp/benchmark_model"

    @property
    def starts(self) -> int:
        lines = self.adbd.path("/data/local/tmp/starts").read_text().splitlines()
        return sum(line != "--help" for line in lines)

    def files_left(self) -> list[str]:
        return sorted(map(str, self.adbd.path(FOLDER).rglob("*")))

    def assert_left_empty(self) -> None:
        for _ in range(100):
            if not self.files_left() and not self.adbd.pids("benchmark_model"):
                return
            time.sleep(0.05)
        raise AssertionError((self.files_left(), self.adbd.pids("benchmark_model")))


def plans(count: int, cycles: int = 3) -> list[VisitPlan]:
    return [VisitPlan(f"visit {number}", (f"model {number % len(MODELS)}",), cycles, 1) for number in range(count)]


@pytest.fixture(scope="module")
def adbd():
    with real_adbd() as running:
        yield running


@pytest.fixture
def phone(adbd, tmp_path):
    adbd.path("/data/local/tmp/settings").unlink(missing_ok=True)
    yield Phone(adbd, tmp_path)
    adbd.relay.disarm()
    adbd.relay.mend()
    adbd.free_disk()


# --- collecting -----------------------------------------------------------------------------------------------------------

SETTINGS = ProtocolSettings(rounds=2, most_rounds=2, alone_visits=1, alone_runs=2, alone_warmup=1, network_visits=1, network_runs=1, network_warmup=0,
                            calibration_networks=2, held_out_networks=1, anchor_every=10)  # fmt: skip


def tiny_plan():
    space = space_of_name("ofa-mobilenetv3-tiny")
    small = space.restrict(
        {choice.name: choice.values[:1] for choice in space.choices if choice.kind in ("resolution", "kernel_size", "expand_ratio")}
    )
    return small, make_plan(small, SETTINGS, in_chains=False)


def fake_models(blocks, batch=1):
    return b"\0" * (1000 * len(list(blocks)))


def test_collection_of_a_space_fills_its_table_and_a_second_one_finds_nothing_to_do(phone, tmp_path):
    space, plan = tiny_plan()
    with MeasurementStore(tmp_path / "pixel1.lut") as store, phone.agent() as agent:
        summary = collect(space, agent, store, plan, model_maker=fake_models)
        assert summary.complete and summary.measured_visits == plan.visit_count and summary.discarded_visits == 0
        assert store.condition().runtime == "benchmark_model"
        assert collect(space, agent, store, plan, model_maker=fake_models).nothing_to_do
    phone.assert_left_empty()


def test_rising_thermal_status_makes_the_gate_wait_until_the_phone_has_cooled(phone, tmp_path):
    space, plan = tiny_plan()
    pauses = []

    def cools(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            phone.says(thermal=0)

    heated = []

    def heats(done, total):
        if done >= 5 and not heated:
            heated.append(done)
            phone.says(thermal=2)

    with MeasurementStore(tmp_path / "pixel1.lut") as store, phone.agent() as agent:
        summary = collect(space, agent, store, plan, model_maker=fake_models, sleep=cools, progress=heats)
    assert summary.complete and summary.measured_visits == plan.visit_count
    assert summary.discarded_visits == len(pauses) >= 3
    assert pauses[:3] == [1.0, 2.0, 4.0]


def test_thermal_status_that_stays_high_ends_the_collection_in_one_sentence(phone, tmp_path):
    space, plan = tiny_plan()
    phone.says(thermal=3)
    with (
        MeasurementStore(tmp_path / "pixel1.lut") as store,
        phone.agent() as agent,
        pytest.raises(DeviceError, match="throttled in 9 visits in a row"),
    ):
        collect(space, agent, store, plan, model_maker=fake_models, sleep=lambda seconds: None)
    phone.assert_left_empty()


def test_stepping_clock_of_the_phone_changes_no_times_between_visits(phone):
    with phone.agent() as agent:
        agent.info()
        made = agent.measure(MODELS, plans(12))
        visits = [next(made)]
        phone.adbd.install("date", "#!/system/bin/sh\necho 1000000000000000000\n")  # the year 2001
        try:
            visits += made
        finally:
            (phone.adbd.system_bin / "date").unlink()
            (phone.adbd.system_bin / "date").symlink_to("toybox")
    times = [moment for visit in visits for moment in (visit.state_before.unix_time_ns, visit.state_after.unix_time_ns)]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60e9


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
    phone.counting_runner()
    for attempt in range(40):
        wanted = [VisitPlan(f"{attempt}.{plan.id}", plan.models, plan.cycles) for plan in plans(16)] + [VisitPlan(f"{attempt}.large", ("large",), 1)]
        with phone.agent(runner="/data/local/tmp/benchmark_model", timeout_s=10.0) as agent:
            agent.info()
            with Pulling(phone.adbd.relay, rng) as pulling:
                visits = list(agent.measure(large, wanted))
        assert [visit.plan_id for visit in visits] == [plan.id for plan in wanted]
        expected += len(wanted)
        pulled += pulling.count
        if pulled >= RESETS:
            break
    assert pulled >= RESETS
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
    assert phone.adbd.path("/data/local/tmp/settings").read_text().splitlines()[-1] == "power set-fixed-performance-mode-enabled false"


def test_key_revoked_meanwhile_is_one_sentence_and_accepted_again_it_goes_on(phone, monkeypatch):
    agent = phone.agent()
    agent.transport._accept_timeout_s = 1.0
    agent.info()
    made = agent.measure(MODELS, plans(60))
    next(made)
    phone.adbd.revoke_keys()
    try:
        with pytest.raises(DeviceUnreachable, match="(?i)key|accept|authoris") as caught:
            list(made)
        assert "\n" not in str(caught.value)
    finally:
        phone.adbd.authorise()
    agent.close()
    with phone.agent() as again:
        assert len(list(again.measure(MODELS, plans(3)))) == 3
    phone.assert_left_empty()


def test_processes_of_the_phone_killed_meanwhile_are_begun_again(phone):
    with phone.agent(least_s=0.05) as agent:
        agent.info()
        made = agent.measure(MODELS, plans(8))
        visits = [next(made)]
        phone.adbd.reboot()
        visits += made
    assert [visit.plan_id for visit in visits] == [plan.id for plan in plans(8)]
    assert agent.incidents
    phone.assert_left_empty()


# --- faults of the runner and the phone ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("_crash", "was ended by SIGABRT"),
        ("_rubbish", "output is (not that of|cut off)"),
        ("_truncated", "output is cut off after"),
        ("_old", "ignored the flags '--use_xnnpack=true'"),
        ("_fallback", "runs none of it"),
        ("_noisy", "was ended by SIGXFSZ"),
    ],
)
def test_fault_of_the_runner_is_one_sentence_and_leaves_nothing(phone, fault, message):
    with phone.agent(fault) as agent, pytest.raises(WorkerFailed, match=message) as caught:
        list(agent.measure(MODELS, plans(3)))
    assert "\n" not in str(caught.value)
    phone.assert_left_empty()


def test_hanging_runner_is_ended_on_the_phone(phone):
    with phone.agent("_hang", timeout_s=1.0) as agent, pytest.raises(WorkerFailed, match="did not end within 1 s"):
        list(agent.measure(MODELS, plans(2)))
    phone.assert_left_empty()


def test_older_format_is_read(phone):
    with phone.agent("_old", delegate="builtin") as agent:
        assert len(list(agent.measure(MODELS, plans(4)))) == 4


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


def test_full_disk_is_one_sentence_and_the_rest_is_cleaned_up(phone):
    with phone.agent() as agent:
        agent.info()
        phone.adbd.fill_disk(leaving_bytes=300_000)
        with pytest.raises(DeviceError, match="(?i)space") as caught:
            list(agent.measure({f"model {number}": bytes(400_000) for number in range(4)}, plans(4)))
        assert "\n" not in str(caught.value)
        phone.adbd.free_disk()
        assert len(list(agent.measure(MODELS, plans(2)))) == 2
    phone.assert_left_empty()


def test_folder_that_its_shell_may_not_write_to_is_named(phone):
    with (
        phone.agent(folder="/system/elastic-latency") as agent,
        pytest.raises(DeviceError, match="has no folder '/system/elastic-latency'.*set `folder`"),
    ):
        agent.info()


def test_low_battery_is_one_sentence(phone):
    phone.says(level=9)
    with phone.agent() as agent, pytest.raises(DeviceError, match="at 9 %, below 20 %; charge it"):
        list(agent.measure(MODELS, plans(2)))
    phone.assert_left_empty()


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
