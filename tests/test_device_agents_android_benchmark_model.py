"""The corpus in data/benchmark_model: each transcript (NAME.txt, and NAME.stderr.txt) has beside it what it says, or the error it is."""

import dataclasses
import json
import random
from pathlib import Path

import pytest

from device_agents.android.benchmark_model import DELEGATES, BenchmarkError, BenchmarkResult, command_line, parse

CORPUS = Path(__file__).parent / "data" / "benchmark_model"
NAMES = sorted(file.stem for file in CORPUS.glob("*.json"))


def transcript(name: str) -> tuple[str, str]:
    stderr = CORPUS / f"{name}.stderr.txt"
    return (CORPUS / f"{name}.txt").read_bytes().decode(), stderr.read_bytes().decode() if stderr.exists() else ""


def test_corpus_has_results_and_errors_of_at_least_25_transcripts():
    kinds = ["error" in json.loads((CORPUS / f"{name}.json").read_text()) for name in NAMES]
    assert len(kinds) >= 25
    assert min(kinds.count(True), kinds.count(False)) >= 10


@pytest.mark.parametrize("name", NAMES)
def test_transcript_gives_what_is_written_beside_it(name):
    told = json.loads((CORPUS / f"{name}.json").read_text())
    stdout, stderr = transcript(name)
    if "error" in told:
        with pytest.raises(BenchmarkError, match=told["error"]) as caught:
            parse(stdout, stderr, delegate=told["delegate"], full=told["full"])
        assert "\n" not in str(caught.value)
    else:
        assert dataclasses.asdict(parse(stdout, stderr, delegate=told["delegate"], full=told["full"])) == told["expected"]


@pytest.mark.parametrize("name", NAMES)
def test_streams_may_be_exchanged(name):
    told = json.loads((CORPUS / f"{name}.json").read_text())
    stdout, stderr = transcript(name)
    if "expected" in told:
        exchanged = parse(stderr, stdout, delegate=told["delegate"], full=told["full"])
        assert dataclasses.asdict(exchanged) == told["expected"]


@pytest.mark.parametrize("name", [name for name in NAMES if "expected" in json.loads((CORPUS / f"{name}.json").read_text())])
def test_result_cut_off_anywhere_before_its_closing_line_is_an_error(name):
    told = json.loads((CORPUS / f"{name}.json").read_text())
    stdout, stderr = transcript(name)
    text = stdout if "inference timings" in stdout.lower() else stderr
    last = text.lower().index("inference timings in us")
    for end in range(0, last, max(1, last // 40)):
        with pytest.raises(BenchmarkError):
            parse(text[:end], delegate=told["delegate"], full=told["full"])


def test_total_is_the_printed_average_times_the_runs_to_the_nanosecond():
    lines = "count=1 curr=9\ncount=3 first=10 curr=10 min=9 max=12 avg=10.3333 std=1\nInference timings in us: Init: 5, First inference: 9, "
    result = parse(f"{lines}Warmup (avg): 9, Inference (avg): 10.3333")
    assert (result.count, result.total_ns) == (3, 31000)  # 10.3333 us * 3 = 30999.9 ns
    assert isinstance(result.total_ns, int)


def mutated(text: str, rng: random.Random) -> str:
    """Return the text with a few random damages: bytes changed, cut out, doubled, moved, lines exchanged, numbers replaced."""
    for _ in range(rng.randint(1, 6)):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        short = min(to, at + rng.randint(0, 40))
        kind = rng.randrange(8)
        if kind == 0:
            text = text[:at] + text[short:]
        elif kind == 1:
            text = text[:at] + text[at:short] * rng.randint(2, 4) + text[short:]
        elif kind == 2:
            text = text[:at] + "".join(chr(rng.choice((0, 10, 13, 32, 48, 57, 61, 101, 127, 233, 0x2028, 0xFFFD))) for _ in range(3)) + text[at:]
        elif kind == 3:
            text = text[:at]
        elif kind == 4:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines)
            text = "".join(lines) if rng.random() < 0.3 else text
        elif kind == 5:
            numbers = ["0", "-1", "nan", "inf", "1e999", "1e-99", "9" * 40, "0.0", "1e18", "", "+5", "0x10", "1_000"]
            text = text.replace(rng.choice("0123456789"), rng.choice(numbers), rng.randint(1, 3))
        elif kind == 6:
            text = text.replace(rng.choice(["count", "avg", "=", " ", "min", "curr", "Inference"]), rng.choice(["", "count", "avg=", " "]), 1)
        else:
            text = text[at:short] + text
    return text


def check_mutant(stdout: str, stderr: str, delegate: str | None) -> BenchmarkResult | None:
    """Return the result of damaged output, None where it is an error; whatever else happens is a fault of the parser."""
    try:
        result = parse(stdout, stderr, delegate=delegate)
    except BenchmarkError as error:
        assert str(error) and "\n" not in str(error)
        return None
    assert result.count >= 1
    assert 1 <= result.total_ns < 1 << 63
    assert result.average_us > 0
    return result


def test_damaged_output_is_a_time_above_zero_or_an_error_and_nothing_else():
    rng = random.Random(4)
    outcomes = [
        check_mutant(mutated(stdout, rng), mutated(stderr, rng) if stderr else "", rng.choice([None, *DELEGATES]))
        for name in NAMES
        for stdout, stderr in [transcript(name)]
        for _ in range(40)
    ]
    assert 10 < sum(outcome is not None for outcome in outcomes) < len(outcomes)  # neither all refused nor all taken


def test_long_rubbish_is_refused_quickly():
    for rubbish in ("count=" * 200_000, "Explicitly applied " * 100_000, "Replacing 1 out of " * 100_000, "\n".join(["count=1 curr=1"] * 50_000)):
        with pytest.raises(BenchmarkError):
            parse(rubbish, delegate="gpu")


def test_command_line_asks_for_exact_runs_and_the_delegate():
    words = command_line("/r/benchmark_model", "/m/a b;c.tflite", runs=10, warmup_runs=2, least_s=0.1, warmup_s=0.05, threads=4, delegate="xnnpack",
                         flags=["--use_caching=true"])  # fmt: skip
    assert words == ["/r/benchmark_model", "--graph=/m/a b;c.tflite", "--num_runs=10", "--min_secs=0.1", "--warmup_runs=2", "--warmup_min_secs=0.05",
                     "--num_threads=4", "--use_xnnpack=true", "--use_caching=true"]  # fmt: skip


def test_unknown_delegate_is_refused_naming_the_known_ones():
    with pytest.raises(ValueError, match="'tpu'; benchmark_model has xnnpack, gpu, nnapi, none, builtin"):
        command_line("r", "m", runs=1, warmup_runs=0, least_s=0, warmup_s=0, threads=1, delegate="tpu")
