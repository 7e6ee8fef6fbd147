"""What a GPU says of itself: against a fake of the module pynvml, since few machines that run tests have a GPU, and against the real one's names."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from device_agents.on_device import gpu_state, nvml
from device_agents.on_device.gpu_state import GpuStateReader
from device_agents.on_device.nvml import Gpu, GpuNotThere, chosen_gpu, names_of
from device_agents.on_device.runtimes import RuntimeNotInstalled

REFERENCE_MHZ, HIGHEST_MHZ = 1_800, 2_100


class FakeNvmlError(Exception):
    pass


class FakeNvml(ModuleType):
    """A fake pynvml with one GPU, whose answers are the attributes; what is in `unable` is not supported by it."""

    NVMLError = FakeNvmlError
    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU, NVML_PERF_POLICY_THERMAL = 1, 0, 1

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.unable: set[str] = set()
        self.clock_mhz, self.reasons, self.too_hot_ns, self.pids = 1_750, 0x4, 0, [os.getpid()]

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)

    def _answer(self, call: str, value: object) -> object:
        if call in self.unable:
            raise FakeNvmlError("Not Supported")
        return value

    def __getattr__(self, call: str):
        answers = {
            "nvmlSystemGetDriverVersion": lambda: "580.65.06",
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda index: self._handle(index == 0),
            "nvmlDeviceGetHandleByUUID": lambda uuid: self._handle(uuid == "GPU-1"),
            "nvmlDeviceGetName": lambda gpu: "Paper GPU",
            "nvmlDeviceGetUUID": lambda gpu: "GPU-1",
            "nvmlDeviceGetClockInfo": lambda gpu, kind: self.clock_mhz,
            "nvmlDeviceGetMaxClockInfo": lambda gpu, kind: HIGHEST_MHZ,
            "nvmlDeviceGetApplicationsClock": lambda gpu, kind: REFERENCE_MHZ,
            "nvmlDeviceGetDefaultApplicationsClock": lambda gpu, kind: 1_600,
            "nvmlDeviceGetMaxCustomerBoostClock": lambda gpu, kind: 2_000,
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: self.reasons,
            "nvmlDeviceGetViolationStatus": lambda gpu, policy: SimpleNamespace(violationTime=self.too_hot_ns),
            "nvmlDeviceGetTemperature": lambda gpu, sensor: 61,
            "nvmlDeviceGetEnforcedPowerLimit": lambda gpu: 350_000,
            "nvmlDeviceGetPersistenceMode": lambda gpu: 1,
            "nvmlDeviceGetCudaComputeCapability": lambda gpu: (9, 0),
            "nvmlDeviceGetComputeRunningProcesses": lambda gpu: [SimpleNamespace(pid=pid) for pid in self.pids],
        }
        if call not in answers:
            raise AttributeError(call)
        return lambda *arguments: self._answer(call, answers[call](*arguments))

    def _handle(self, found: bool) -> str:
        if not found:
            raise FakeNvmlError("Not Found")
        return "handle"


@pytest.fixture
def fake(monkeypatch):
    module = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


@pytest.fixture
def reader(fake, tmp_path):
    return GpuStateReader([0], Gpu(), root=str(tmp_path))


def test_every_name_asked_of_pynvml_is_in_the_real_one():
    pynvml = pytest.importorskip("pynvml")
    names = set(re.findall(r"\b(?:nvml[A-Z]\w+|NVML\w+)\b", Path(nvml.__file__).read_text())) - {"NVML"}
    assert len(names) > 15
    assert [name for name in sorted(names) if not hasattr(pynvml, name)] == []
    known = {bit: name for name, bit in vars(pynvml).items() if name.startswith("nvmlClocksThrottleReason") and isinstance(bit, int)}
    assert set(nvml.REASONS) <= set(known)
    assert "Thermal" in known[0x20] and "Thermal" in known[0x40] and "PowerBrake" in known[0x80] and known[0x8].endswith("HwSlowdown")


def test_a_gpu_is_described_by_what_may_explain_its_figures(fake):
    assert Gpu("0").describe() == {
        "driver_version": "580.65.06",
        "gpu_uuid": "GPU-1",
        "gpu_reference_clock_khz": 1_800_000,
        "gpu_highest_clock_khz": 2_100_000,
        "gpu_clock_reasons": ["software power cap"],
        "gpu_power_limit_w": 350.0,
        "gpu_persistence": True,
        "compute_capability": "9.0",
    }
    assert Gpu("GPU-1").name == "Paper GPU"


def test_what_a_gpu_cannot_say_is_none_and_never_zero(fake, tmp_path):
    fake.unable = {name for name in re.findall(r"nvmlDeviceGet\w+", Path(nvml.__file__).read_text()) if "Handle" not in name}
    gpu = Gpu()
    assert set(gpu.describe().values()) == {None, "580.65.06"}
    assert gpu.other_processes() is None
    state = GpuStateReader([0], gpu, root=str(tmp_path)).read()
    assert (state["frequency_khz"], state["temperature_c"], state["throttled"]) == (None, None, None)


def test_the_reference_clock_is_the_one_set_else_the_default_else_boost_else_the_highest(fake):
    found = []
    for call in ("nvmlDeviceGetApplicationsClock", "nvmlDeviceGetDefaultApplicationsClock", "nvmlDeviceGetMaxCustomerBoostClock", ""):
        found.append(Gpu().reference_clock_khz())
        fake.unable.add(call)
    assert found == [1_800_000, 1_600_000, 2_000_000, 2_100_000]


def test_reasons_have_names():
    assert names_of(0x1 | 0x40) == ["idle", "hardware thermal slowdown"]
    assert names_of(0) == []
    assert names_of(None) is None


def test_other_processes_are_those_of_others(fake):
    fake.pids = [7, os.getpid(), 5, 7]
    assert Gpu().other_processes() == [5, 7]


def test_a_gpu_that_is_not_there_is_told_with_those_that_are(fake):
    with pytest.raises(GpuNotThere, match=r"GPU '3' was not found \(Not Found\); the driver lists 0 \(Paper GPU\); set `gpu` of the device"):
        Gpu("3")


def test_no_driver_is_one_sentence(fake):
    fake.unable.add("nvmlInit")
    with pytest.raises(GpuNotThere, match=r"^no NVIDIA driver answers \(Not Supported\); install and load it, until nvidia-smi lists the GPU$"):
        Gpu()


def test_a_machine_without_a_driver_says_so():
    pynvml = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        with pytest.raises(GpuNotThere, match=r"^no NVIDIA driver answers \(.+\); install and load it"):
            Gpu()
    else:
        pytest.skip("this machine has an NVIDIA driver")


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(RuntimeNotInstalled, match=r"needs the package 'nvidia-ml-py'.*'elastic-latency\[cuda\]'"):
        Gpu()


@pytest.mark.parametrize(
    ("asked", "visible", "chosen"),
    [("", None, "0"), ("", "2,3", "2"), ("1", "2,3", "1"), ("GPU-abc", None, "GPU-abc"), ("", "", "0")],
)
def test_cuda_sees_the_one_gpu_that_is_measured(asked, visible, chosen):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert chosen_gpu(asked, environment) == chosen
    assert environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": chosen}


# --- state ----------------------------------------------------------------------------------------------------------------


def test_an_idle_gpu_is_not_throttled_however_low_its_clock(fake, reader):
    fake.clock_mhz, fake.reasons = 210, 0x1
    state = reader.read()
    assert (state["frequency_khz"], state["temperature_c"], state["throttled"]) == (210_000, 61.0, False)


@pytest.mark.parametrize(("clock_mhz", "throttled"), [(1_349, True), (1_350, False)])
def test_a_clock_under_three_quarters_of_the_reference_under_load_marks_the_visit_as_throttled(fake, reader, clock_mhz, throttled):
    fake.clock_mhz = 1_700
    reader.note_load()
    fake.clock_mhz = clock_mhz
    reader.note_load()
    fake.clock_mhz = 1_700
    state = reader.read()
    assert (state["frequency_khz"], state["throttled"]) == (clock_mhz * 1000, throttled)
    assert reader.read()["throttled"] is False  # it was the visit's, and is told once


@pytest.mark.parametrize("bit", [0x8, 0x20, 0x40, 0x80])
def test_heat_and_lack_of_power_mark_a_visit_as_throttled_and_a_power_cap_does_not(fake, reader, bit):
    fake.reasons = 0x4 | 0x2 | 0x10
    reader.note_load()
    assert reader.read()["throttled"] is False
    fake.reasons = bit
    assert reader.read()["throttled"] is True
    reader.note_load()
    fake.reasons = 0
    assert reader.read()["throttled"] is True  # while it ran
    assert reader.read()["throttled"] is False


def test_heat_between_two_readings_is_seen_after_it_has_passed(fake, reader):
    fake.too_hot_ns = 5_000
    assert reader.read()["throttled"] is True
    assert reader.read()["throttled"] is False


def test_a_gpu_locked_to_a_low_clock_is_judged_by_that_one(fake, tmp_path):
    reader = GpuStateReader([0], Gpu(), [1_200_000], root=str(tmp_path))
    fake.clock_mhz = 1_190
    reader.note_load()
    assert reader.read()["throttled"] is False
    assert reader.clock_limits_khz == [1_200_000]


def test_an_idle_gpu_is_given_work_until_it_has_its_clock(fake, reader):
    clocks = iter([400, 900, 1_500])
    done = []

    def work() -> None:
        done.append(1)
        fake.clock_mhz = next(clocks)

    fake.clock_mhz = 210
    reader.wake(work)
    assert len(done) == 3


def test_a_gpu_that_never_wakes_is_given_up_after_a_while(fake, reader):
    now_s = iter(0.3 * step for step in range(100))
    fake.clock_mhz, done = 210, []
    reader.wake(lambda: done.append(1), lambda: next(now_s))
    assert len(done) == int(gpu_state.WAKING_S / 0.3)


def test_without_a_driver_that_answers_nothing_is_made_up(tmp_path):
    reader = GpuStateReader([0], None, root=str(tmp_path))
    reader.note_load()
    reader.wake(lambda: pytest.fail("nothing to wait for"))
    state = reader.read()
    assert (state["frequency_khz"], state["temperature_c"], state["throttled"]) == (None, None, None)
    assert (reader.clock_limits_khz, reader.clock_maxima_khz()) == ([None], [None])
