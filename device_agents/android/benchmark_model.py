"""TFLite's `benchmark_model`: its command line, and what its output says; any build from TensorFlow 2.1 on, and the older format before it.

It reports summaries: how many runs, and their average in microseconds with six digits. Lines may come on either stream and
behind any prefix (`INFO: `, logcat's). What is not said clearly is an error, never a zero.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

LARGEST_NS = 1 << 62
SAID_CHARACTERS = 200  # of a line that is repeated in an error
SAME = Decimal("0.00002")  # relative: two numbers of six digits each that are the same

# delegate → flags that ask for it; "builtin" is for builds that know no XNNPACK flag yet
DELEGATES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "xnnpack": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true",),
    "nnapi": ("--use_nnapi=true",),
    "none": ("--use_xnnpack=false",),
    "builtin": (),
})  # fmt: skip

LONGEST_LINE = 2000
NUMBER = r"-?\d{1,18}(?:\.\d{1,18})?(?:[eE][+-]?\d{1,2})?"
STATISTICS = re.compile(r"(?:^|[\s:\])])count=\S")
FIELD = re.compile(rf"(\w+)=({NUMBER})(?=\s|\(|$)")
PROFILE_PREFIXES = ("(microseconds)", "(bytes)")  # statistics of the op profile, not of the runs
END = re.compile(rf"(?:Inference timings in us: .*?Inference \(avg\)|Average inference timings in us: .*?no stats): ({NUMBER})\s*$")
INIT = re.compile(rf"\bInit: ({NUMBER})(?:,|\s|$)")
UNCONSUMED = re.compile(r"Unconsumed cmdline flags:\s*(.*)")
EXTENT = re.compile(r"Explicitly applied (.+?) delegate, and the model graph will be (completely|partially) executed")
NOT_EXECUTED = re.compile(r"Though (.+?) delegate is explicitly applied, the model graph will not be executed")
FAILED = re.compile(r"Failed to apply (.+?) delegate|(Disallowed CPU fallback detected)|(\S+ acceleration is unsupported on this platform)")
REPLACING = re.compile(r"Replacing (\d+)(?: out of (\d+))? node\(s\) with delegate \((.+?)\) node(?:, yielding (\d+) partitions)?")
XNNPACK_MADE = re.compile(r"Created TensorFlow Lite XNNPACK delegate|Explicitly applied XNNPACK delegate", re.IGNORECASE)
FAILURES = re.compile(r"Benchmarking failed|Failed to (?:mmap|allocate|invoke)|Segmentation fault|CANNOT LINK EXECUTABLE|Aborted", re.IGNORECASE)


class BenchmarkError(ValueError):
    """A runner's output does not say how long the model took, or says that something else was timed; the text is one sentence."""


@dataclass(frozen=True)
class BenchmarkResult:
    """What the timed runs took: `count` of them `total_ns` together, as exact as the printed average is."""

    count: int
    total_ns: int
    average_us: float
    least_us: int
    most_us: int
    deviation_us: int | None = None
    p5_us: int | None = None
    median_us: int | None = None
    p95_us: int | None = None
    init_us: float | None = None


def command_line(runner: str, model: str, *, runs: int, warmup_runs: int, least_s: float, warmup_s: float, threads: int, delegate: str,
                 flags: Sequence[str] = ()) -> list[str]:  # fmt: skip
    """Return the words of the command that times a model: `runs` times, and on until `least_s` are over; `flags` are further ones.

    Raises:
        ValueError: an unknown delegate.
    """
    if delegate not in DELEGATES:
        raise ValueError(f"delegate is {delegate!r}; benchmark_model has {', '.join(DELEGATES)}")
    return [runner, f"--graph={model}", f"--num_runs={runs}", f"--min_secs={least_s:g}", f"--warmup_runs={warmup_runs}",
            f"--warmup_min_secs={warmup_s:g}", f"--num_threads={threads}", *DELEGATES[delegate], *flags]  # fmt: skip


def parse(stdout: str, stderr: str = "", *, delegate: str | None = None, full: bool = True) -> BenchmarkResult:
    """Return what the regular runs took: the second statistics line, confirmed by the closing line.

    Where a `delegate` was asked for it must have been applied, and to the whole graph where `full` is true; "none" and
    "builtin" must have none.

    Raises:
        BenchmarkError: the output is cut off, is no such output, contradicts itself, or tells of a flag or a delegate not applied.
    """
    refuse(stdout, stderr, delegate, full)
    streams = [_lines(text) for text in (stdout, stderr)]
    everything = [line for lines in streams for line in lines]
    ended = [lines for lines in streams if any(END.search(line) for line in lines)]
    if not ended:
        raise BenchmarkError(_without_end(everything))
    _refuse_other_delegate(everything, delegate, full, must_say=True)
    results = {_result(lines) for lines in ended}
    if len(results) > 1:
        raise BenchmarkError("both streams of benchmark_model hold a result, and they differ; expected one run's output")
    return results.pop()


def refuse(stdout: str, stderr: str, delegate: str | None, full: bool) -> None:
    """Raise BenchmarkError where the output tells of flags that were ignored, or of another delegate than was asked for."""
    lines = _lines(stdout) + _lines(stderr)
    _refuse_unconsumed(lines)
    _refuse_other_delegate(lines, delegate, full, must_say=False)


def _lines(text: str) -> list[str]:
    return [line for line in (raw.strip()[:LONGEST_LINE] for raw in re.split(r"[\r\n]+", text)) if line]


def _refuse_unconsumed(lines: Iterable[str]) -> None:
    for line in lines:
        found = UNCONSUMED.search(line)
        if found:
            flags = found.group(1).strip()
            older = ', or set delegate = "builtin" for a build without it' if "xnnpack" in flags else ""
            raise BenchmarkError(f"benchmark_model ignored the flags {flags[:SAID_CHARACTERS]!r}; use a build that knows them{older}")


def _refuse_other_delegate(lines: Sequence[str], delegate: str | None, full: bool, must_say: bool) -> None:
    for line in lines:
        found = FAILED.search(line)
        if found:
            raise BenchmarkError(f"benchmark_model could not apply a delegate: {_said(found.group(0))}; set another delegate for the device")
    if delegate in ("none", "builtin"):
        made = next((line for line in lines if XNNPACK_MADE.search(line) or EXTENT.search(line) or REPLACING.search(line)), None)
        if made is not None:
            wanted = 'set delegate = "none"' if delegate == "builtin" else "use a build that obeys --use_xnnpack=false"
            raise BenchmarkError(f"benchmark_model ran with a delegate although {delegate!r} was asked for: {_said(made)}; {wanted}")
    elif delegate is not None:
        _require_delegate(lines, delegate, full, must_say)


def _require_delegate(lines: Sequence[str], delegate: str, full: bool, must_say: bool) -> None:
    """Raise BenchmarkError unless the lines say that this delegate was applied, and (`full`) that nothing is left to the CPU's kernels."""
    complete, extent = False, []
    for line in lines:
        applied, ignored, replaced = EXTENT.search(line), NOT_EXECUTED.search(line), REPLACING.search(line)
        if ignored and _is(ignored.group(1), delegate):
            raise BenchmarkError(f"the {delegate} delegate was given the model and runs none of it; set another delegate for the device")
        if applied and _is(applied.group(1), delegate):
            complete |= applied.group(2) == "completely"
            extent.append(line)
        if replaced and _is(replaced.group(3), delegate):
            some, every, parts = replaced.group(1), replaced.group(2), replaced.group(4)
            complete |= some == every or (every is None and parts == "1")  # parts count what is left to the CPU too
            extent.append(line)
    if not extent and not must_say:
        return
    if not extent:
        raise BenchmarkError(f"benchmark_model does not say that it applied the {delegate} delegate; use a build with it, or set another delegate")
    if full and (not complete or any((found := EXTENT.search(line)) and found.group(2) == "partially" for line in extent)):
        raise BenchmarkError(
            f"the {delegate} delegate runs only a part of the model ({_said(extent[-1])}); "
            "set another delegate, or full_delegation = false to measure it so"
        )


def _is(name: str, delegate: str) -> bool:
    return delegate.lower() in name.lower()


def _result(lines: Sequence[str]) -> BenchmarkResult:
    """Return the result in one stream's lines, of which one is the closing line."""
    end, *others = (number for number, line in enumerate(lines) if END.search(line))
    if others:
        raise BenchmarkError(f"benchmark_model printed {1 + len(others)} lines of inference timings; expected one run's output")
    statistics = [line for line in lines[:end] if _is_statistics(line)]
    if len(statistics) != 2:
        expected = "expected one of the warm-up and one of the runs"
        raise BenchmarkError(f"benchmark_model printed {len(statistics)} statistics lines before its result; {expected}")
    regular = _statistics(statistics[1])
    closing = END.search(lines[end])
    average = Decimal(closing.group(1)) if closing else Decimal(0)
    if abs(average - regular["avg"]) > SAME * regular["avg"]:
        raise BenchmarkError(f"benchmark_model contradicts itself: {_said(statistics[1])} is followed by {_said(lines[end])}")
    init = INIT.search(lines[end])
    return _checked(regular, statistics[1], None if init is None else Decimal(init.group(1)))


def _is_statistics(line: str) -> bool:
    found = STATISTICS.search(line)
    return found is not None and not any(prefix in line[: found.end()] for prefix in PROFILE_PREFIXES)


def _statistics(line: str) -> dict[str, Decimal]:
    """Return the fields of a statistics line, with `avg`, `min` and `max` also where one number stands for all."""
    text = line[line.index("count=") :]
    fields: dict[str, Decimal] = {}
    for name, value in FIELD.findall(text):
        if name in fields:
            raise BenchmarkError(f"benchmark_model's statistics line has {name} twice: {_said(line)}; its output is mixed with something else")
        fields[name] = Decimal(value)
    if fields.get("count") == 0:
        raise BenchmarkError("benchmark_model made no run (count=0); expected at least one, so see that it is given num_runs and no --dry_run")
    if "curr" in fields and "avg" not in fields and (fields.get("count") == 1 or re.search(r"curr=-?\d+\s*\(all same\)", text)):
        fields |= {name: fields["curr"] for name in ("avg", "min", "max")}
    missing = [name for name in ("count", "curr", "min", "max", "avg") if name not in fields]
    if missing:
        raise BenchmarkError(f"benchmark_model's statistics line has no {missing[0]}: {_said(line)}; its output is cut off or mixed up")
    return fields


def _checked(fields: Mapping[str, Decimal], line: str, init_us: Decimal | None) -> BenchmarkResult:
    whole = {name: fields[name] for name in ("count", "curr", "min", "max", "first", "std", "p5", "median", "p95") if name in fields}
    wrong = [name for name, value in whole.items() if value < 0 or not _small(value) or value != value.to_integral_value()]
    average = fields["avg"]
    if wrong or not _small(average) or average < 0:
        raise BenchmarkError(f"benchmark_model's statistics line has a {(*wrong, 'avg')[0]} that cannot be: {_said(line)}")
    least, most = fields["min"], fields["max"]
    inside = [fields[name] for name in ("first", "curr", "p5", "median", "p95") if name in fields]
    slack = SAME * average
    if not least - slack <= average <= most + slack or any(not least <= value <= most for value in inside):
        raise BenchmarkError(f"benchmark_model's statistics line contradicts itself: {_said(line)}")
    total_ns = int((average * 1000 * fields["count"]).to_integral_value())
    if total_ns < 1:
        raise BenchmarkError(f"benchmark_model timed the model at 0 us: {_said(line)}; its clock counts whole ones, so repeat the block in the file")
    if total_ns > LARGEST_NS:
        raise BenchmarkError(f"benchmark_model's statistics line tells of {total_ns} ns: {_said(line)}; no run takes that long")
    optional = {name: None if name not in fields else int(fields[name]) for name in ("std", "p5", "median", "p95")}
    return BenchmarkResult(count=int(fields["count"]), total_ns=total_ns, average_us=float(average), least_us=int(least), most_us=int(most),
                           deviation_us=optional["std"], p5_us=optional["p5"], median_us=optional["median"], p95_us=optional["p95"],
                           init_us=float(init_us) if init_us is not None and _small(init_us) else None)  # fmt: skip


def _small(value: Decimal) -> bool:
    return value.adjusted() < 18


def _without_end(lines: Sequence[str]) -> str:
    """Return the sentence for output without a closing line."""
    failed = next((line for line in lines if FAILURES.search(line)), None)
    if failed is not None:
        return f"benchmark_model failed: {_said(failed)}; see that the model file and the runner fit each other and the device"
    if not lines:
        return "benchmark_model printed nothing; expected its statistics, so see that the runner is benchmark_model and runs on this device"
    if any("STARTING!" in line or "Loaded model" in line or "Running benchmark for" in line or _is_statistics(line) for line in lines):
        return f"benchmark_model's output is cut off after {_said(lines[-1])}; expected its line of inference timings"
    return f"the runner's output is not that of benchmark_model: it begins {_said(lines[0])}; set `runner` and `runner_kind` to what belongs together"


def _said(line: str) -> str:
    return repr(line.strip()[:SAID_CHARACTERS])
