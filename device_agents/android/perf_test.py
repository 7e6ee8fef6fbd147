"""`onnxruntime_perf_test`, and any program that speaks the runner protocol: their command lines, and what their outputs say.

The runner protocol: started as `RUNNER --model=PATH --cycles=N --warmup=N`, a program runs the model N times after the
warm-up, prints one line `samples_ns: 1 2 3` with the nanoseconds of every one of the N runs, and ends with exit code 0.
It may print other lines. Further words, such as `--threads=4`, come from the device's `flags`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

from device_agents.android.benchmark_model import LARGEST_NS, LONGEST_LINE, NUMBER, SAID_CHARACTERS, BenchmarkError

# delegate → words that ask for this execution provider
PROVIDERS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "cpu": ("-e", "cpu"),
    "xnnpack": ("-e", "xnnpack"),
    "nnapi": ("-e", "nnapi"),
    "qnn": ("-e", "qnn"),
})  # fmt: skip

ANY_PREFIX = r"(?:^|[\s:\])])"  # of a log
TOTAL = re.compile(rf"{ANY_PREFIX}Total (?:inference )?time cost:\s*({NUMBER})(?:\s*s)?\s*$")
REQUESTS = re.compile(rf"{ANY_PREFIX}Total (?:inference requests|iterations):\s*(\d{{1,18}})\s*$")
AVERAGE = re.compile(rf"{ANY_PREFIX}Average (?:inference )?time cost:\s*({NUMBER}) ms\s*$")
LOWEST = re.compile(rf"{ANY_PREFIX}Min Latency(?: is|:) ?({NUMBER}) s(?:ec)?\s*$")
HIGHEST = re.compile(rf"{ANY_PREFIX}Max Latency(?: is|:) ?({NUMBER}) s(?:ec)?\s*$")
WRONG = re.compile(r"(?:\[E:onnxruntime|terminate called|what\(\): |Load model from .* failed|is not supported in this build|Failed to)(.*)")
SAME = Decimal("0.00002")  # relative, of two numbers that are printed with six digits each
SAMPLES = re.compile(r"^samples_ns:((?: \d{1,18})+)$")


@dataclass(frozen=True)
class PerfTestResult:
    """What the timed runs took: `count` of them `total_ns` together, as exact as the printed average is."""

    count: int
    total_ns: int
    least_ns: int | None
    most_ns: int | None


def command_line(runner: str, model: str, *, runs: int, threads: int, delegate: str, flags: Sequence[str] = ()) -> list[str]:
    """Return the words of the command that runs a model `runs` times, after the one warm-up run that perf_test makes, on random inputs.

    Raises:
        ValueError: an unknown delegate.
    """
    if delegate not in PROVIDERS:
        raise ValueError(f"delegate is {delegate!r}; onnxruntime_perf_test has {', '.join(PROVIDERS)}")
    return [runner, "-I", "-s", "-m", "times", "-r", str(runs), "-x", str(threads), "-y", "1", *PROVIDERS[delegate], *flags, model]


def parse(stdout: str, stderr: str = "") -> PerfTestResult:
    """Return what the runs took, from the average of milliseconds and the number of requests.

    Raises:
        BenchmarkError: the output is cut off, is no such output, contradicts itself, or tells of a failure.
    """
    lines = [line.strip()[:LONGEST_LINE] for line in re.split(r"[\r\n]+", f"{stdout}\n{stderr}") if line.strip()]
    wrong = next((line for line in lines if WRONG.search(line)), None)
    if wrong is not None:
        raise BenchmarkError(f"onnxruntime_perf_test failed: {wrong[:SAID_CHARACTERS]!r}; see that the model, the provider and the build fit")
    count = _needed(lines, REQUESTS, "number of requests")
    average_ms = _needed(lines, AVERAGE, "average time")
    total_s = _needed(lines, TOTAL, "total time")
    least_s, most_s = _only(lines, LOWEST, "Min Latency"), _only(lines, HIGHEST, "Max Latency")
    total_ns = int((average_ms * 1_000_000 * count).to_integral_value())
    if count < 1 or total_ns < 1:
        raise BenchmarkError(f"onnxruntime_perf_test tells of {count} runs of {average_ms} ms; expected at least one that took time")
    if total_ns > LARGEST_NS:
        raise BenchmarkError(f"onnxruntime_perf_test tells of {total_ns} ns; no run takes that long")
    if abs(average_ms * count - total_s * 1000) > SAME * average_ms * count:
        raise BenchmarkError(f"onnxruntime_perf_test contradicts itself: {count} runs of {average_ms} ms on average took {total_s} s")
    slack_s = SAME * average_ms / 1000
    if (least_s is not None and least_s - slack_s > average_ms / 1000) or (most_s is not None and most_s + slack_s < average_ms / 1000):
        raise BenchmarkError(f"onnxruntime_perf_test contradicts itself: {average_ms} ms on average, from {least_s} s to {most_s} s")
    return PerfTestResult(int(count), total_ns, _nanoseconds(least_s), _nanoseconds(most_s))


def _only(lines: Sequence[str], pattern: re.Pattern[str], name: str) -> Decimal | None:
    found = {match.group(1) for match in map(pattern.search, lines) if match}
    if len(found) > 1:
        raise BenchmarkError(f"onnxruntime_perf_test printed {len(found)} different lines of its {name}; expected one run's output")
    return Decimal(found.pop()) if found else None


def _needed(lines: Sequence[str], pattern: re.Pattern[str], name: str) -> Decimal:
    found = _only(lines, pattern, name)
    if found is None:
        ends = f"it ends {lines[-1][:SAID_CHARACTERS]!r}" if lines else "it is empty"
        raise BenchmarkError(f"the output of onnxruntime_perf_test has no {name}: {ends}; it was cut off, or is another program's")
    return found


def _nanoseconds(seconds: Decimal | None) -> int | None:
    return None if seconds is None or seconds <= 0 else int(seconds * 1_000_000_000)


def runner_command_line(runner: str, model: str, *, cycles: int, warmup: int, flags: Sequence[str] = ()) -> list[str]:
    """Return the words of the command that starts a program of the runner protocol."""
    return [runner, f"--model={model}", f"--cycles={cycles}", f"--warmup={warmup}", *flags]


def parse_samples(stdout: str, cycles: int) -> list[int]:
    """Return the nanoseconds of every run that a program of the runner protocol printed.

    Raises:
        BenchmarkError: there is no such line, or it has another number of samples than asked for, or one that is no time.
    """
    found = [line for line in (raw.strip() for raw in stdout.splitlines()) if line.startswith("samples_ns:")]
    if len(found) != 1 or not SAMPLES.match(found[0]):
        said = repr((found or stdout.strip().splitlines() or ["nothing"])[-1][:SAID_CHARACTERS])
        raise BenchmarkError(f"the runner printed {len(found)} lines of samples, and at last {said}; expected one line 'samples_ns: 1 2 3'")
    samples = [int(word) for word in found[0].split()[1:]]
    if len(samples) != cycles:
        raise BenchmarkError(f"the runner printed {len(samples)} samples; expected {cycles}, one a cycle")
    if min(samples) < 1 or sum(samples) > LARGEST_NS:
        raise BenchmarkError(f"the runner printed the sample {min(samples)} ns; expected nanoseconds above 0")
    return samples
