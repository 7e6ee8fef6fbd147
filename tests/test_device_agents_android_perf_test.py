import random

import pytest

from device_agents.android.benchmark_model import BenchmarkError
from device_agents.android.perf_test import PROVIDERS, command_line, parse, parse_samples, runner_command_line

NEW = """Setting intra_op_num_threads to 1
Session creation time cost: 0.0214 s
First inference time cost: 4 ms
Total inference time cost: 0.0412345 s
Total inference requests: 10
Average inference time cost: 4.12345 ms
Total inference run time: 0.0413 s
Number of inferences per second: 242.1
Avg CPU usage: 25 %
Peak working set size: 25165824 bytes
Avg CPU usage:25
Peak working set size:25165824
Runs:10
Min Latency: 0.00405 s
Max Latency: 0.00431 s
P50 Latency: 0.00411 s
P90 Latency: 0.00431 s
P95 Latency: 0.00431 s
P99 Latency: 0.00431 s
P999 Latency: 0.00431 s
"""
OLD = """Total time cost:58.8053
Total iterations:1000
Average time cost:58.8053 ms
Total run time:58.8102 s
Min Latency is 0.0559777sec
Max Latency is 0.0623472sec
P50 Latency is 0.0587108sec
"""
TINY = NEW.replace("0.0412345", "0.000412345").replace("4.12345", "0.0412345").replace("0.00405", "4.05e-05").replace("0.00431", "4.31e-05")


@pytest.mark.parametrize(("text", "count", "total_ns"), [(NEW, 10, 41_234_500), (OLD, 1000, 58_805_300_000), (TINY, 10, 412_345)])
def test_output_of_old_and_new_builds_gives_the_total_of_all_runs(text, count, total_ns):
    result = parse(text)
    assert (result.count, result.total_ns) == (count, total_ns)
    assert parse("", text) == result


def test_lowest_and_highest_are_told_where_printed():
    assert (parse(NEW).least_ns, parse(NEW).most_ns) == (4_050_000, 4_310_000)
    assert parse("".join(line for line in NEW.splitlines(keepends=True) if "Latency" not in line)).least_ns is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no number of requests: it is empty"),
        (NEW.split("Average")[0], "has no average time"),
        (NEW.replace("Average inference time cost: 4.12345 ms", "Average inference time cost: 4.12"), "has no average time"),
        (NEW.replace("4.12345 ms", "5.12345 ms"), "contradicts itself"),
        (NEW.replace("Min Latency: 0.00405", "Min Latency: 0.00505"), "contradicts itself"),
        (NEW.replace("requests: 10", "requests: 0").replace("0.0412345 s", "0 s").replace("4.12345 ms", "0 ms"), "tells of 0 runs"),
        (NEW + NEW.replace("4.12345 ms", "4.2 ms"), "different lines of its average time"),
        ("2026-01-01 00:00:00.1 [E:onnxruntime:, inference_session.cc:1] Load model from m.onnx failed", "onnxruntime_perf_test failed"),
        ("terminate called after throwing an instance of 'Ort::Exception'\n  what():  XNNPACK is not supported in this build\n", "failed"),
        ("hello\nworld", "it ends 'world'"),
    ],
)
def test_output_that_does_not_say_it_is_an_error_of_one_sentence(text, message):
    with pytest.raises(BenchmarkError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_damaged_output_is_a_time_above_zero_or_an_error_and_nothing_else():
    from test_device_agents_android_benchmark_model import mutated

    rng = random.Random(5)
    outcomes = []
    for _ in range(2000):
        try:
            result = parse(mutated(rng.choice((NEW, OLD, TINY)), rng))
        except BenchmarkError:
            outcomes.append(False)
            continue
        assert result.count >= 1 and 1 <= result.total_ns < 1 << 63
        outcomes.append(True)
    assert 10 < sum(outcomes) < len(outcomes)


def test_command_line_asks_for_a_number_of_runs_on_generated_inputs():
    assert command_line("/r/onnxruntime_perf_test", "/m/x.onnx", runs=10, threads=2, delegate="cpu", flags=["-D"]) == [
        "/r/onnxruntime_perf_test", "-I", "-s", "-m", "times", "-r", "10", "-x", "2", "-y", "1", "-e", "cpu", "-D", "/m/x.onnx",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=f"'gpu'; onnxruntime_perf_test has {', '.join(PROVIDERS)}"):
        command_line("r", "m", runs=1, threads=1, delegate="gpu")


def test_runner_protocol_is_one_line_of_samples():
    assert runner_command_line("/r", "/m", cycles=3, warmup=1) == ["/r", "--model=/m", "--cycles=3", "--warmup=1"]
    assert parse_samples("loading\nsamples_ns: 10 20 30\nbye\n", 3) == [10, 20, 30]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 lines of samples, and at last 'nothing'"),
        ("samples_ns: 1 2\nsamples_ns: 1 2\n", "2 lines of samples"),
        ("samples_ns: 1 2", "printed 2 samples; expected 3"),
        ("samples_ns: 1 0 2", "the sample 0 ns"),
        ("samples_ns: 1 -2 2", "expected one line"),
        ("samples_ns: 1 2.5 2", "expected one line"),
        ("samples_ns: 1 2 nan", "expected one line"),
        (f"samples_ns: 1 2 {'9' * 30}", "expected one line"),
    ],
)
def test_samples_that_are_no_times_are_refused(text, message):
    with pytest.raises(BenchmarkError, match=message):
        parse_samples(text, 3)
