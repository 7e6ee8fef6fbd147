"""What goes wrong on a phone, and what is undone on it, over a double of the transport; test_profiler_devices_adb_faults.py has a real adbd."""

import contextlib
import os
import threading
import time

import pytest
from android_runner_builds import runner
from played_phone import BATTERY, MODELS, THERMAL, PlayedPhone, plans

from device_agents.android.session import Session
from device_agents.android.transport import ConnectionLost
from device_agents.base import DeviceError, RuntimeMissing, WorkerFailed


@pytest.fixture
def phone(tmp_path):
    return PlayedPhone(tmp_path)


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
