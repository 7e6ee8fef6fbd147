"""The programs that time a model on a phone: how each is found, started and read; one that cannot run is told from one that fails."""

from __future__ import annotations

import hashlib
import re
import signal
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from device_agents.android import benchmark_model, perf_test
from device_agents.android.benchmark_model import BenchmarkError
from device_agents.base import DeviceError, ModelFormat, RuntimeMissing, VisitPlan, WorkerFailed

BENCHMARK_MODEL, PERF_TEST, PROTOCOL = "benchmark_model", "onnxruntime_perf_test", "runner"
MODEL_FORMATS: Mapping[str, ModelFormat] = MappingProxyType({BENCHMARK_MODEL: "tflite", PERF_TEST: "onnx", PROTOCOL: "tflite"})
USUAL_FOLDER = "/data/local/tmp"  # on the phone, for a runner given by its name alone
WHERE_FROM = {
    BENCHMARK_MODEL: "TensorFlow Lite's measurement page has builds of it for arm64 and arm",
    PERF_TEST: "ONNX Runtime builds it for Android (build.py --android)",
    PROTOCOL: "any program that speaks the runner protocol will do",
}
MACHINES = {3: "x86", 40: "arm", 62: "x86_64", 183: "arm64"}  # of ELF files
ABIS = {"x86": "x86", "armeabi": "arm", "armeabi-v7a": "arm", "x86_64": "x86_64", "arm64-v8a": "arm64"}
# What shells say of a file that the kernel does not start: Android's own ends with 1 then, or takes it for a script.
NOT_STARTED = re.compile(r"not executable|exec format error|cannot execute|: syntax error", re.IGNORECASE)
NOT_EXECUTABLE, NOT_FOUND, SIGNALLED = 126, 127, 128
ALIASES = {BENCHMARK_MODEL: {"cpu": "xnnpack"}, PROTOCOL: {"cpu": "none"}}  # "cpu" is what a kind does best on one


@dataclass(frozen=True)
class Runner:
    """A kind of program, and where it is: `file` here, to be pushed, or `path` on the phone."""

    kind: str
    file: Path | None
    path: str

    @property
    def name(self) -> str:
        """Its file's name."""
        return self.path.rsplit("/", 1)[-1]


def find(runner: str, kind: str | None) -> Runner:
    """Return the runner of this name (on the phone, at the usual place) or path (of a file here, or else on the phone).

    Raises:
        ValueError: its kind is not known and does not follow from its name.
    """
    if kind is None:
        name = runner.rsplit("/", 1)[-1]
        kind = next((known for known in (BENCHMARK_MODEL, PERF_TEST) if known in name), None)
    if kind is None or kind not in MODEL_FORMATS:
        given = "does not follow from the name of" if kind is None else f"is {kind!r} for"
        raise ValueError(f"runner_kind {given} runner {runner!r}; expected one of {', '.join(MODEL_FORMATS)}")
    if "\0" in runner or not runner.rsplit("/", 1)[-1]:
        raise ValueError(f"runner is {runner!r}; expected the name or path of a program")
    if "/" not in runner:
        return Runner(kind, None, f"{USUAL_FOLDER}/{runner}")
    file = Path(runner).expanduser()
    return Runner(kind, file, str(file)) if file.is_file() or not runner.startswith("/") else Runner(kind, None, runner)


def delegate_of(kind: str, delegate: str) -> str:
    """Return what a delegate is called by this kind of runner.

    Raises:
        ValueError: this kind has no such delegate.
    """
    name = ALIASES.get(kind, {}).get(delegate, delegate)
    known = {BENCHMARK_MODEL: benchmark_model.DELEGATES, PERF_TEST: perf_test.PROVIDERS}.get(kind)
    if known is not None and name not in known:
        raise ValueError(f"delegate is {delegate!r}; runner {kind!r} has {', '.join(known)}")
    return name


def read(runner: Runner, device: str) -> bytes:
    """Return the program's bytes, of a runner whose file is here.

    Raises:
        RuntimeMissing: there is no such file.
    """
    try:
        return (runner.file or Path(runner.path)).read_bytes()
    except OSError as error:
        raise RuntimeMissing(missing(runner, device, f"{error.strerror or error} on this computer")) from error


def missing(runner: Runner, device: str, why: str) -> str:
    """Return the sentence for a runner that is not there."""
    return (
        f"device {device!r} has no runner {runner.path!r} ({why}); {WHERE_FROM[runner.kind]}: set `runner` of the device to its path, here or there"
    )


def version_of(program_sha256: str, stated: str | None) -> str:
    """Return the version of a runner: no such program tells its own, so it is known by its hash."""
    short = f"sha256 {program_sha256[:12]}"
    return f"{stated} ({short})" if stated else short


def sha256_of(program: bytes) -> str:
    """Return a program's SHA-256."""
    return hashlib.sha256(program).hexdigest()


def machine_of(program: bytes) -> str | None:
    """Return what machine an ELF file is for; None where it is none."""
    if len(program) < 20 or program[:4] != b"\x7fELF":
        return None
    number = struct.unpack_from("<H" if program[5] == 1 else ">H", program, 18)[0]
    return MACHINES.get(number, f"ELF machine {number}")


def not_runnable(runner: Runner, device: str, exit_code: int, said: str, machine: str | None, abis: Sequence[str]) -> DeviceError | None:
    """Return the error for an exit code that says that the program did not even start; None for another one."""
    refused = exit_code != 0 and NOT_STARTED.search(said) is not None
    if not refused and exit_code not in (NOT_EXECUTABLE, NOT_FOUND, SIGNALLED + signal.SIGILL):
        return None
    if "permission denied" in said.lower():
        return RuntimeMissing(f"runner {runner.path!r} on device {device!r} may not be executed ({_end(said)}); chmod 755 it there")
    own = sorted({ABIS.get(abi, abi) for abi in abis if abi})
    if machine is not None or exit_code != NOT_FOUND or "library" in said.lower():
        built = (
            f"is built for {machine}, the device is {' or '.join(own) or 'another machine'}" if machine else f"is for another machine: {_end(said)}"
        )
        if machine in own:
            built = f"is built for {machine} and still does not start ({_end(said)}): a library it needs, or a newer processor, is missing there"
        return RuntimeMissing(f"runner {runner.path!r} {built}; set `runner` of device {device!r} to a build for it")
    return RuntimeMissing(missing(runner, device, _end(said) or "not found"))


def command(runner: Runner, path: str, model: str, plan: VisitPlan, *, threads: int, delegate: str, least_s: float, warmup_s: float,
            flags: Sequence[str]) -> tuple[str, ...]:  # fmt: skip
    """Return the words that start a visit."""
    if runner.kind == BENCHMARK_MODEL:
        return tuple(benchmark_model.command_line(path, model, runs=plan.cycles, warmup_runs=plan.warmup_cycles, least_s=least_s, warmup_s=warmup_s,
                                                  threads=threads, delegate=delegate, flags=flags))  # fmt: skip
    if runner.kind == PERF_TEST:
        return tuple(perf_test.command_line(path, model, runs=plan.cycles, threads=threads, delegate=delegate, flags=flags))
    return tuple(perf_test.runner_command_line(path, model, cycles=plan.cycles, warmup=plan.warmup_cycles, flags=flags))


def samples(runner: Runner, plan: VisitPlan, exit_code: int, late: bool, stdout: str, stderr: str, *, delegate: str, full: bool, timeout_s: float,
            device: str) -> tuple[list[int], int]:  # fmt: skip
    """Return a visit's samples in nanoseconds, and how many runs each of them holds.

    Raises:
        WorkerFailed: the program hung, crashed, or printed something else than its result.
    """
    visit = f"runner {runner.name!r} of device {device!r}, on visit {plan.id!r} of model {plan.models[0]!r},"
    if late:
        raise WorkerFailed(f"{visit} did not end within {timeout_s:g} s and was ended; raise timeout_s of the device, or see why it hangs")
    try:
        if exit_code == 0:
            return _parsed(runner, plan, stdout, stderr, delegate, full)
        if runner.kind == BENCHMARK_MODEL:
            benchmark_model.refuse(stdout, stderr, delegate, full)  # says more than an exit code
    except BenchmarkError as error:
        raise WorkerFailed(f"{visit} gave no result: {error}") from None
    said = _end(stderr) or _end(stdout) or "it said nothing"
    raise WorkerFailed(f"{visit} {ended(exit_code)}: {said}; see that the model and the runner fit each other and the device")


def _parsed(runner: Runner, plan: VisitPlan, stdout: str, stderr: str, delegate: str, full: bool) -> tuple[list[int], int]:
    if runner.kind == PROTOCOL:
        return perf_test.parse_samples(stdout, plan.cycles), 1
    if runner.kind == PERF_TEST:
        found = perf_test.parse(stdout, stderr)
        return [found.total_ns], found.count
    result = benchmark_model.parse(stdout, stderr, delegate=delegate, full=full)
    return [result.total_ns], result.count


def ended(exit_code: int) -> str:
    """Return how a program ended, in words."""
    number = exit_code - SIGNALLED
    if 0 < number < 64:
        names = [known.name for known in signal.Signals if known == number]
        note = " (it printed without end)" if number == signal.SIGXFSZ else ""
        return f"was ended by {(*names, f'signal {number}')[0]}{note}"
    return f"ended with exit code {exit_code}"


def _end(said: str) -> str:
    return " | ".join(line.strip() for line in said.strip().splitlines()[-2:])[-200:]
