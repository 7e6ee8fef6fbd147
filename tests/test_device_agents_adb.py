"""AdbAgent over a double of the transport (this machine's shell); test_device_agents_adb_real.py has the same and more over a real adbd."""

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest
from android_runner_builds import model, runner
from local_shell_transport import LocalShellTransport

from device_agents.adb import AdbAgent
from device_agents.android.session import Session
from device_agents.android.transport import ConnectionLost
from device_agents.base import DeviceError, RuntimeMissing, VisitPlan, WorkerFailed

MODELS = {"one": model(0.2), "two": model(0.4)}
THERMAL = """IsStatusOverride: false
Thermal Status: {status}
HAL Ready: true
Current temperatures from HAL:
\tTemperature{{mValue=41.5, mType=0, mName=CPU0, mStatus=0}}
\tTemperature{{mValue={skin}, mType=3, mName=skin, mStatus=0}}
Current cooling devices from HAL:
"""
BATTERY = "  USB powered: true\n  status: 2\n  level: {level}\n  temperature: 250\n"


def plans(count: int, cycles: int = 3) -> list[VisitPlan]:
    return [VisitPlan(f"visit {number}", (("one", "two")[number % 2],), cycles, 1) for number in range(count)]


class Phone:
    """The pretended phone: folders and programs of a test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transport = LocalShellTransport(folder / "bin")
        self.device_folder = folder / "device" / "elastic-latency"
        self.log = folder / "settings.log"
        self.says("thermal", THERMAL.format(status=0, skin=30.0))
        self.says("battery", BATTERY.format(level=80))
        self.says("power", "  mWakefulness=Awake\n")
        self.transport.program("dumpsys", f'cat "{folder}/says.${{1%service}}"')
        self.transport.program("cmd", f'echo "cmd $*" >>"{self.log}"')
        self.transport.program("settings", f'echo "settings $*" >>"{self.log}"; [ "$1" = get ] && echo 3')
        self.transport.program("getprop", "case $1 in ro.product.model) echo Pixel;; ro.product.cpu.abilist) echo arm64-v8a;; esac")

    def says(self, service: str, text: str) -> None:
        unfinished = self.folder / ".says"
        unfinished.write_text(text)
        unfinished.replace(self.folder / f"says.{service}")

    def agent(self, fault: str = "", **settings) -> AdbAgent:
        chosen = {
            "folder": str(self.device_folder),
            "cores": [],
            "least_s": 0.0,
            "warmup_s": 0.0,
            "runner": str(runner(self.folder, fault)),
            "sleep": lambda s: time.sleep(min(s, 0.05)),
        }
        return AdbAgent("pixel1", transport=self.transport, **{**chosen, **settings})

    @property
    def set_and_set_back(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def assert_left_empty(self) -> None:
        for _ in range(50):
            if not list(self.device_folder.rglob("*")):
                return
            time.sleep(0.05)
        raise AssertionError(sorted(map(str, self.device_folder.rglob("*"))))


@pytest.fixture
def phone(tmp_path):
    return Phone(tmp_path)


# --- measuring ------------------------------------------------------------------------------------------------------------


def test_every_plan_gives_one_visit_whose_sample_is_the_total_of_its_runs(phone):
    with phone.agent() as agent:
        visits = list(agent.measure(MODELS, plans(12, cycles=4)))
    assert [visit.plan_id for visit in visits] == [plan.id for plan in plans(12)]
    assert {(visit.samples_ns.shape, visit.repeats) for visit in visits} == {((1, 1), 4)}
    a_run_ms = [visit.samples_ns[0, 0] / visit.repeats / 1e6 for visit in visits]
    assert all(ms >= (0.2, 0.4)[number % 2] for number, ms in enumerate(a_run_ms))
    assert len({visit.worker for visit in visits}) == 1
    phone.assert_left_empty()


def test_runs_go_on_until_the_least_time_is_over(phone):
    with phone.agent(least_s=0.02) as agent:
        (visit,) = agent.measure(MODELS, plans(1))
    assert visit.repeats > 3
    assert visit.samples_ns[0, 0] / visit.repeats == pytest.approx(2e5, rel=3)


def test_states_say_what_the_phone_says(phone):
    with phone.agent() as agent:
        visits = list(agent.measure(MODELS, plans(2)))
    for state in (visits[0].state_before, visits[1].state_after):
        assert (state.temperature_c, state.throttled) == (41.5, False)
        assert abs(state.unix_time_ns / 1e9 - time.time()) < 60
        assert state.load_1m is not None and state.memory_available_kb > 1000
    times = [moment for visit in visits for moment in (visit.state_before.unix_time_ns, visit.state_after.unix_time_ns)]
    assert times == sorted(times)


def test_what_the_phone_does_not_say_is_none(phone):
    (phone.folder / "bin/dumpsys").unlink()
    with phone.agent() as agent:
        (visit,) = agent.measure(MODELS, plans(1))
        assert agent.info().extra["preflight"]["battery_percent"] is None
    assert (visit.state_before.temperature_c, visit.state_before.throttled) == (None, None)


def test_info_names_the_runner_by_its_hash_and_what_the_phone_is(phone):
    with phone.agent(runner_version="2.16.1", threads=2) as agent:
        info = agent.info()
    assert (info.device, info.runtime, info.delegate, info.threads, info.cores) == ("pixel1", "benchmark_model", "xnnpack", 2, ())
    assert info.runtime_version.startswith("2.16.1 (sha256 ")
    assert info.extra["runner"]["sha256"].startswith(info.runtime_version[-13:-1])
    assert (info.extra["model"], info.extra["abis"], info.extra["serial"]) == ("Pixel", ["arm64-v8a"], "double")
    assert info.extra["preflight"]["battery_percent"] == 80
    phone.assert_left_empty()


def test_runner_already_on_the_phone_is_used_there_and_stays(phone):
    there = runner(phone.folder / "there")
    os.symlink(there, phone.folder / "not-a-file-here")
    with phone.agent(runner=str(there)) as pushed:
        by_push = pushed.info().runtime_version
    agent = phone.agent()
    agent.runner = type(agent.runner)("benchmark_model", None, str(there))
    with agent:
        assert agent.info().runtime_version == by_push
        assert len(list(agent.measure(MODELS, plans(2)))) == 2
    assert there.exists()


def test_chain_is_refused(phone):
    with phone.agent() as agent, pytest.raises(ValueError, match="chain of 2 models; runner 'benchmark_model' runs one at a time"):
        agent.measure(MODELS, [VisitPlan("c", ("one", "two"), 1)])


def test_outputs_are_refused_in_one_sentence(phone):
    agent = phone.agent()
    assert not agent.gives_outputs and not agent.runs_chains
    with pytest.raises(DeviceError, match="does not tell outputs"):
        agent.run(b"", None)


def test_program_of_the_runner_protocol_gives_every_sample(phone):
    program = phone.folder / "my runner; touch executed"
    program.write_text('#!/bin/sh\n[ -s "${1#--model=}" ] || exit 9\necho "samples_ns: 11 12 13"\n')
    program.chmod(0o755)
    with phone.agent(runner=str(program), runner_kind="runner") as agent:
        (visit,) = agent.measure(MODELS, plans(1))
    assert visit.samples_ns.tolist() == [[11, 12, 13]]
    assert visit.repeats == 1
    assert not list(phone.folder.rglob("executed"))


def test_perf_test_gives_the_total_of_its_runs(phone):
    program = phone.folder / "onnxruntime_perf_test"
    program.write_text(
        "#!/bin/sh\necho 'Total inference time cost: 0.006 s'; echo 'Total inference requests: 3'; echo 'Average inference time cost: 2 ms'\n"
    )
    program.chmod(0o755)
    with phone.agent(runner=str(program)) as agent:
        (visit,) = agent.measure(MODELS, plans(1))
        assert (agent.model_format, agent.info().delegate) == ("onnx", "cpu")
    assert (visit.samples_ns.tolist(), visit.repeats) == ([[6_000_000]], 3)


@pytest.mark.parametrize("delegate", ["gpu", "nnapi", "xnnpack", "none"])
def test_delegate_is_a_condition_and_must_have_been_applied(phone, delegate):
    with phone.agent(delegate=delegate) as agent:
        assert len(list(agent.measure(MODELS, plans(2)))) == 2
        assert agent.info().delegate == delegate


# --- pinning --------------------------------------------------------------------------------------------------------------


def test_runner_is_pinned_and_the_kernel_confirms_it(phone):
    core = max(os.sched_getaffinity(0))
    with phone.agent(cores=[core]) as agent:
        assert agent.info().cores == (core,)
        assert len(list(agent.measure(MODELS, plans(3)))) == 3


def test_cores_that_the_phone_does_not_have_are_refused_by_name(phone):
    with phone.agent(cores=[200]) as agent, pytest.raises(DeviceError, match="does not give a process the cores 200"):
        agent.info()


def test_runner_seen_on_other_cores_than_asked_for_is_an_error(phone):
    core = max(os.sched_getaffinity(0))
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core only")
    phone.transport.program("taskset", 'case $2 in cat) exec /usr/bin/taskset "$@";; esac; [ "$1" = -p ] && exit; shift; exec "$@"')
    with phone.agent(cores=[core], least_s=0.4) as agent:
        agent.info()
        with pytest.raises(DeviceError, match=f"ran the runner on the cores .*; expected {core}"):
            list(agent.measure(MODELS, plans(2)))
    phone.assert_left_empty()


def test_clusters_follow_the_phones_clocks(phone):
    for core in os.sched_getaffinity(0):
        folder = phone.folder / f"root/sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        clock = 1593600 if core == min(os.sched_getaffinity(0)) else 2150400
        for name in ("cpuinfo_max_freq", "scaling_max_freq", "scaling_cur_freq"):
            (folder / name).write_text(f"{clock}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    (phone.folder / "root/proc").symlink_to("/proc")
    big = tuple(sorted(os.sched_getaffinity(0)))[1:]
    with phone.agent(cores=None, root=str(phone.folder / "root")) as agent:
        assert agent.info().cores == big
        assert agent.info().governor == "schedutil"
        (visit,) = agent.measure(MODELS, plans(1))
        assert (visit.state_before.frequency_khz, visit.state_after.frequency_khz) == (2150400, 2150400)
        (phone.folder / f"root/sys/devices/system/cpu/cpu{big[0]}/cpufreq/scaling_max_freq").write_text("1000000\n")
        (visit,) = agent.measure(MODELS, plans(1))
        assert visit.state_before.throttled


# --- heat and battery -----------------------------------------------------------------------------------------------------


def test_hot_phone_gets_one_visit_at_a_time_and_pauses_here_are_pauses_there(phone):
    with phone.agent() as agent:
        made = agent.measure(MODELS, plans(30))
        first = next(made)
        phone.says("thermal", THERMAL.format(status=2, skin=30.0))
        hot = next(visit for visit in made if visit.state_after.throttled)
        ran = len(list(phone.device_folder.rglob("*.o")))
        time.sleep(0.3)
        assert len(list(phone.device_folder.rglob("*.o"))) == ran == 0  # the batch was ended
        phone.says("thermal", THERMAL.format(status=0, skin=30.0))
        rest = list(made)
    ids = [first.plan_id, hot.plan_id, *(visit.plan_id for visit in rest)]
    assert len(set(ids)) == len(ids)
    assert ids[-1] == "visit 29"
    assert not any(visit.state_after.throttled for visit in rest)


def test_skin_above_its_limit_counts_as_throttled(phone):
    phone.says("thermal", THERMAL.format(status=0, skin=39.0))
    with phone.agent(hottest_c=38.5) as agent:
        assert all(visit.state_after.throttled for visit in agent.measure(MODELS, plans(2)))


def test_low_battery_is_refused_before_and_meanwhile(phone):
    phone.says("battery", BATTERY.format(level=12))
    with phone.agent(least_battery_percent=20) as agent, pytest.raises(DeviceError, match="battery of device 'pixel1' is at 12 %, below 20 %"):
        list(agent.measure(MODELS, plans(2)))
    phone.assert_left_empty()


# --- what is set and set back ---------------------------------------------------------------------------------------------


def test_what_is_set_is_set_back_at_the_end(phone):
    with phone.agent(stay_awake=True) as agent:
        list(agent.measure(MODELS, plans(1)))
    assert phone.set_and_set_back == [
        "settings get global stay_on_while_plugged_in",
        "cmd power set-fixed-performance-mode-enabled true",
        "settings put global stay_on_while_plugged_in 7",
        "cmd power set-fixed-performance-mode-enabled false",
        "settings put global stay_on_while_plugged_in 3",
    ]


def test_loop_left_early_sets_back_and_leaves_nothing(phone):
    with phone.agent() as agent:
        made = agent.measure(MODELS, plans(50))
        next(made)
        made.close()
        phone.assert_left_empty()
    assert phone.set_and_set_back[-1] == "cmd power set-fixed-performance-mode-enabled false"


def test_ctrl_c_sets_back_and_leaves_nothing(phone):
    def interrupted(seconds):
        raise KeyboardInterrupt

    agent = phone.agent()
    with pytest.raises(KeyboardInterrupt), agent:
        agent.info()
        agent._sleep = interrupted
        list(agent.measure(MODELS, plans(5)))
    assert phone.set_and_set_back[-1] == "cmd power set-fixed-performance-mode-enabled false"
    phone.assert_left_empty()


def test_phone_sets_itself_back_when_this_computer_is_gone(phone, monkeypatch):
    monkeypatch.setattr("device_agents.android.session.KEEPER_LOOKS_EVERY_S", 1)
    agent = phone.agent(lease_s=1)
    made = agent.measure(MODELS, plans(400))
    next(made)
    monkeypatch.setattr(Session, "end", lambda self: None)  # as if killed
    made.close()
    for _ in range(200):
        if not list(phone.device_folder.rglob("*")):
            break
        time.sleep(0.05)
    phone.assert_left_empty()
    assert phone.set_and_set_back[-1] == "cmd power set-fixed-performance-mode-enabled false"


def test_phone_in_use_by_another_computer_is_left_alone(phone):
    other = Session(phone.transport, "pixel1", str(phone.device_folder))
    other.owner = "another-computer 12 0123456789abcdef"
    with other.open(), phone.agent() as agent, pytest.raises(DeviceError, match="is being measured by 'another-computer 12"):
        agent.info()


def test_what_a_killed_process_left_is_taken_over_at_once(phone, monkeypatch):
    killed = Session(phone.transport, "pixel1", str(phone.device_folder))
    killed.owner = killed.owner.replace(str(os.getpid()), "4194303", 1)
    killed.begin()
    killed.keep()
    with phone.agent() as agent:
        assert len(list(agent.measure(MODELS, plans(2)))) == 2
    phone.assert_left_empty()


# --- faults ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("_crash", WorkerFailed, "was ended by SIGABRT"),
        ("_rubbish", WorkerFailed, "output is (not that of|cut off)"),
        ("_truncated", WorkerFailed, "output is cut off after"),
        ("_exit3", WorkerFailed, "ended with exit code 3"),
        ("_zero", WorkerFailed, "(at 0 us|made no run)"),
        ("_noisy", WorkerFailed, "was ended by SIGXFSZ"),
        ("_fallback", WorkerFailed, "xnnpack delegate was given the model and runs none of it"),
        ("_partial", WorkerFailed, "xnnpack delegate runs only a part of the model"),
        ("_old", WorkerFailed, "ignored the flags '--use_xnnpack=true'"),
    ],
)
def test_fault_of_the_runner_is_one_sentence_and_leaves_nothing(phone, fault, error, message):
    with phone.agent(fault) as agent, pytest.raises(error, match=message) as caught:
        list(agent.measure(MODELS, plans(3)))
    assert "\n" not in str(caught.value) and "pixel1" in str(caught.value)
    phone.assert_left_empty()


def test_older_format_is_read_where_no_flag_is_given(phone):
    with phone.agent("_old", delegate="builtin") as agent:
        assert [visit.repeats for visit in agent.measure(MODELS, plans(3))] == [3, 3, 3]


def test_prefixed_format_is_read(phone):
    with phone.agent("_prefixed") as agent:
        assert len(list(agent.measure(MODELS, plans(2)))) == 2


def test_hanging_runner_is_ended_on_the_phone_and_told(phone):
    with phone.agent("_hang", timeout_s=1.0) as agent, pytest.raises(WorkerFailed, match="did not end within 1 s and was ended; raise timeout_s"):
        list(agent.measure(MODELS, plans(2)))
    phone.assert_left_empty()


def test_missing_runner_says_where_from_and_which_setting(phone):
    with phone.agent(runner="/data/local/tmp/nothing/benchmark_model") as agent, pytest.raises(RuntimeMissing) as caught:
        agent.info()
    assert "set `runner` of the device to its path" in str(caught.value)
    with phone.agent(runner="./no/such/benchmark_model") as agent, pytest.raises(RuntimeMissing, match="on this computer"):
        agent.info()


def test_runner_of_another_architecture_says_both(phone):
    program = phone.folder / "arm_benchmark_model"
    native = runner(phone.folder).read_bytes()
    program.write_bytes(native[:18] + (40).to_bytes(2, "little") + native[20:])
    with phone.agent(runner=str(program)) as agent, pytest.raises(RuntimeMissing, match="is built for arm, the device is arm64; set `runner`"):
        agent.info()


def test_folder_that_cannot_be_written_is_named(phone):
    (phone.folder / "file").write_text("")
    with (
        phone.agent(folder=str(phone.folder / "file" / "folder")) as agent,
        pytest.raises(DeviceError, match="has no folder .*; set `folder`|set `folder`"),
    ):
        agent.info()


def test_lost_connections_lose_nothing_and_measure_nothing_twice(phone):
    calls = iter(range(10_000))

    def lose(call):
        if next(calls) % 3 == 1:
            raise ConnectionLost("pulled")

    with phone.agent() as agent:
        agent.info()
        phone.transport.before = phone.transport.after = lose
        visits = list(agent.measure(MODELS, plans(20)))
        phone.transport.before = phone.transport.after = None
    assert [visit.plan_id for visit in visits] == [plan.id for plan in plans(20)]
    assert any("connection was lost" in incident for incident in agent.incidents)


def kill_in_visit(phone, number: str, killed: list[int]) -> None:
    """Kill the batch's processes once, in its visit of this number."""
    for _ in range(4000):
        for now in phone.device_folder.rglob("now"):
            with contextlib.suppress(OSError, ValueError):
                if now.read_text().split()[:1] == [number]:
                    pid = int(now.with_name("pid").read_text())
                    os.killpg(pid, 9)
                    killed.append(pid)
                    return
        time.sleep(0.005)


def test_batch_that_died_is_begun_again_once_and_told(phone):
    killed = []
    with phone.agent(least_s=0.15) as agent:
        agent.info()
        killer = threading.Thread(target=kill_in_visit, args=(phone, "00003", killed))
        killer.start()
        visits = list(agent.measure(MODELS, plans(8)))
        killer.join()
    assert killed
    assert [visit.plan_id for visit in visits] == [plan.id for plan in plans(8)]
    assert any("was ended by something else" in incident for incident in agent.incidents)


def test_batch_that_dies_again_in_the_same_visit_is_an_error(phone):
    def kill(call):
        for now in phone.device_folder.rglob("now"):
            if now.read_text().strip():
                os.killpg(int(now.with_name("pid").read_text()), 9)

    with phone.agent(least_s=3.0) as agent:
        agent.info()
        phone.transport.before = kill
        with pytest.raises(WorkerFailed, match=r"died twice in visit .visit \d."):
            list(agent.measure(MODELS, plans(3)))


# --- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads is 0"),
        ({"cores": [1], "cluster": "big"}, "give one of them"),
        ({"cluster": "huge"}, "expected big, middle, little"),
        ({"delegate": "tpu"}, "delegate is 'tpu'; runner 'benchmark_model' has"),
        ({"runner": "mystery"}, "runner_kind does not follow from the name of runner 'mystery'"),
        ({"runner": "mystery", "runner_kind": "other"}, "runner_kind is 'other'"),
        ({"highest_thermal_status": "warm"}, "highest_thermal_status is 'warm'"),
        ({"folder": "relative"}, "folder is 'relative'"),
        ({"folder": "/data"}, "folder is '/data'"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"least_s": float("nan")}, "least_s is nan"),
        ({"flags": ["a\0b"]}, "without NUL"),
    ],
)
def test_setting_out_of_range_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        AdbAgent("pixel1", **settings)


def test_every_setting_name_is_a_keyword():
    import inspect

    assert set(AdbAgent.setting_names) <= set(inspect.signature(AdbAgent.__init__).parameters)


def test_checks_say_each_step_in_order(phone):
    with phone.agent() as agent:
        steps = list(agent.checks())
    assert [step.name for step in steps] == [
        "reachable", "authorised", "writable", "runtime", "cores pinned", "clocks readable", "temperature", "battery", "screen",
    ]  # fmt: skip
    assert not any(step.passed is False for step in steps)
    assert [step.text for step in steps[-2:]] == ["80 %, charging", "on"]
    phone.assert_left_empty()


@pytest.mark.parametrize(
    ("change", "failed"),
    [
        (lambda phone: phone.says("battery", BATTERY.format(level=3)), "battery"),
        (lambda phone: phone.says("thermal", THERMAL.format(status=3, skin=50.0)), "temperature"),
    ],
)
def test_failed_check_is_the_last(phone, change, failed):
    change(phone)
    with phone.agent() as agent:
        steps = list(agent.checks())
    assert (steps[-1].name, steps[-1].passed) == (failed, False)
