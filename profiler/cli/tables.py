"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from profiler.cli.output import print_table
from profiler.signed import signed_percent

if TYPE_CHECKING:
    from predictors.quality import AccuracyQuality, LatencyQuality
    from profiler.subnet import SubnetRecord, Verification


ERRORS = ("predictor", "MAPE %", "bias %", "within 5 %", "within 10 %", "worst %")


def print_verifications(verifications: Sequence[Verification]) -> None:
    """Print predicted against measured (or simulated) latency, the budget, and whether it is kept."""
    origins = " or ".join(sorted({v.origin for v in verifications})) or "measured"
    images = " or ".join("one image" if batch == 1 else f"{batch} images" for batch in sorted({v.condition["batch"] for v in verifications} or {1}))
    kept = {True: "kept", False: "MISSED", None: "no budget"}
    print_table(
        f"Verification on the device (latency of {images}, milliseconds)",
        ("model", "runtime", "predicted", origins, "off by", "budget", "verdict"),
        [(_model(v), f"{v.condition.get('runtime')} {v.condition.get('runtime_version')}", _ms(v.predicted_latency_ms), _ms(v.measured_latency_ms),
          _off(v), _ms(v.max_latency_ms), kept[v.kept]) for v in verifications],
    )  # fmt: skip


def _model(verification: Verification) -> str:
    precision = verification.condition["precision"]
    return verification.format if precision == "float32" else f"{verification.format} {precision}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _off(verification: Verification) -> str:
    if verification.predicted_latency_ms is None:
        return "-"
    return signed_percent(verification.predicted_latency_ms / verification.measured_latency_ms - 1)


def print_latency_qualities(qualities: Mapping[str, LatencyQuality]) -> None:
    """Print how well latency predictors did on networks they were not fitted to, the FLOPs line first."""
    judged_on = ", ".join(sorted({quality.judged_on for quality in qualities.values()})) or "no networks"
    print_table(
        f"Latency predictors on {judged_on}",
        (*ERRORS, "Spearman", "in 90 % interval", "its width %", "fitted on", "judged on", "noise ceiling %"),
        [_latency_row(name, quality) for name, quality in qualities.items()],
    )


def _latency_row(name: str, q: LatencyQuality) -> tuple[object, ...]:
    bias = f"{round(q.bias_percent, 2) + 0.0:+.2f}"  # no minus before a zero
    errors = (_two(q.mape_percent), bias, f"{q.within_5_share:.0%}", f"{q.within_10_share:.0%}", _two(q.worst_percent))
    covered = "-" if q.coverage_share is None else f"{q.coverage_share:.0%}"
    counts = (q.calibration_count, q.held_out_count)
    return (name, *errors, _three(q.spearman), covered, _two(q.interval_width_percent), *counts, _two(q.repeatability_percent))


def print_accuracy_qualities(qualities: Mapping[str, AccuracyQuality]) -> None:
    """Print how well accuracy predictors did on subnets held out, and the baseline in MACs."""
    rows = [(name, _two(q.rmse_points), _three(q.kendall), _three(q.kendall_within), q.training_count, q.test_count) for name, q in qualities.items()]
    for q in list(qualities.values())[:1]:
        rows.append(("line in MACs", _two(q.macs_rmse_points), _three(q.macs_kendall), _three(q.macs_kendall_within), q.training_count, q.test_count))
    columns = ("predictor", "RMSE, points", "Kendall", "Kendall inside a resolution", "fitted on", "judged on")
    print_table("Accuracy predictors on held-out subnets", columns, rows)
    for q in list(qualities.values())[:1]:
        if q.label_reliability is not None:
            print(f"the measured accuracies themselves: reliability {q.label_reliability:.2f}, noise {q.label_noise_points:.2f} points")


def print_run(record: SubnetRecord) -> None:
    """Print the chosen subnet of a run."""
    rows: list[tuple[str, object, str]] = [
        ("resolution", record.architecture["resolution"], ""),
        ("MACs", f"{record.macs / 1e6:.2f} M", "counted"),
        ("parameters", f"{record.parameters / 1e6:.2f} M", "counted"),
    ]
    if record.predicted_accuracy is not None:
        rows.append(("accuracy", f"{record.predicted_accuracy:.2%}", "predicted"))
    if record.measured_accuracy is not None:
        rows.append(("accuracy", f"{record.measured_accuracy:.2%}", f"measured on {record.measured_accuracy_images} test images"))
    for model in record.models:
        if model.accuracy is not None and model.float_accuracy is not None:
            before = f"measured on {model.accuracy_images} test images; {model.float_accuracy:.2%} before quantisation"
            rows.append((f"accuracy of {model.file}", f"{model.accuracy:.2%}", before))
    facts = record.search or {}
    share = facts.get("random_networks_over_budget")
    missed = "" if share is None else f"{share:.0%} of random networks miss it"
    if record.max_latency_ms is not None:
        rows.append(("latency budget", f"{record.max_latency_ms:.3f} ms", missed))
    elif "latency_ms" in facts:
        rows.append(("latency target", f"{facts['latency_ms']:.3f} ms", f"of objective {facts['objective']}"))
    print_table("Chosen subnet", ("what", "value", "origin"), rows)


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
