"""AdbAgent over a double of the transport (this machine's shell): measuring, pinning, settings and checks."""

import os
import time

import pytest
from android_runner_builds import runner
from played_phone import BATTERY, MODELS, THERMAL, PlayedPhone, plans

from device_agents.adb import AdbAgent
from device_agents.base import DeviceError, VisitPlan


@pytest.fixture
def phone(tmp_path):
    return PlayedPhone(tmp_path)


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
