"""What a report's data say: the figures that stand beside a drawing, and the sentence over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predictors import metrics
from predictors.quality import LatencyQuality
from profiler.report import display
from profiler.report.data import AccuracyLatency, AccuracyPredictorRow, BlockRow, HeldOut, MacsLatency, ReportData, SearchPoint

# Names of this project's predictors in words; others are shown as they are.
LABELS = {
    "additive": "table sum",
    "calibrated": "calibrated table sum",
    "flops_line": "FLOPs line",
    "gaussian_process": "Gaussian process",
    "gradient_boosting": "gradient boosting",
    "mlp": "MLP",
    "physical": "physical model, no table",
    "ridge": "ridge regression",
    "terms": "corrected table sum",
    "xgboost": "XGBoost",
}
EQUAL_MACS = 0.05  # networks whose MACs differ by at most this count as equal in MACs


@dataclass(frozen=True)
class Tile:
    """One number a reader looks for first."""

    label: str
    value: str
    origin: str
    note: str = ""


def verdict(data: ReportData) -> tuple[str, str]:
    """Return the state of the budget (kept, missed, open) and the sentence the page opens with."""
    subnet = data.subnet
    if subnet is None:
        return "open", "No network has been chosen yet."
    measured, budget = subnet.measured_latency_ms, subnet.max_latency_ms
    if measured is None:
        predicted = f"predicted to take {display.with_ms(subnet.predicted_latency_ms)}" if subnet.predicted_latency_ms is not None else "chosen"
        limit = f" against a budget of {display.with_ms(budget)}" if budget is not None else ""
        return "open", f"The network is {predicted}{limit}; the device has not confirmed it yet."
    text = f"The chosen network takes {display.with_ms(measured)} on {data.device}, {data.device_origin}"
    if budget is None:
        return "open", f"{text}; no budget was given."
    room = (budget - measured) / budget
    if subnet.kept:
        return "kept", f"{text}: its budget of {display.with_ms(budget)} is kept with {display.percent(room)} to spare."
    return "missed", f"{text}: its budget of {display.with_ms(budget)} is missed by {display.percent(-room, 2)}."


def tiles(data: ReportData) -> list[Tile]:
    """Return the numbers of the chosen subnet that head the page."""
    subnet = data.subnet
    if subnet is None:
        return []
    found = []
    if subnet.measured_latency_ms is not None:
        spread = subnet.runs[0].relative_spread
        note = f"±{display.percent(spread)} standard error" if spread is not None else ""
        found.append(Tile("Latency", display.with_ms(subnet.measured_latency_ms), data.device_origin, note))
    if subnet.predicted_latency_ms is not None:
        measured = subnet.measured_latency_ms
        note = f"{display.signed_percent(subnet.predicted_latency_ms / measured - 1)} off the {data.device_origin} value" if measured else ""
        found.append(Tile("Latency", display.with_ms(subnet.predicted_latency_ms), "predicted", note))
    if subnet.measured_accuracy is not None:
        note = f"top-1 on {display.count(subnet.accuracy_images)} test images" if subnet.accuracy_images else "top-1"
        found.append(Tile("Accuracy", display.accuracy(subnet.measured_accuracy), "measured", note))
    if subnet.predicted_accuracy is not None:
        found.append(Tile("Accuracy", display.accuracy(subnet.predicted_accuracy), "predicted", "top-1"))
    found.append(Tile("MACs", display.amount(subnet.macs), "counted", "multiply-adds, each counted once"))
    found.append(Tile("Parameters", display.amount(subnet.parameters), "counted", f"input {subnet.resolution} × {subnet.resolution}"))
    return found


def equal_macs_spread(data: MacsLatency) -> float | None:
    """Return how many times slower than the fastest the slowest of some networks with nearly equal MACs is; None if no two are."""
    order = np.argsort(data.macs, kind="stable")
    macs, latencies_ms = np.array(data.macs)[order], np.array(data.latencies_ms)[order]
    ends = np.searchsorted(macs, macs * (1 + EQUAL_MACS), side="right")
    ratios = [latencies_ms[start:end].max() / latencies_ms[start:end].min() for start, end in enumerate(ends) if end - start > 1]
    return float(max(ratios)) if ratios else None


def macs_latency_sentence(data: MacsLatency, origin: str) -> str:
    """Return what MACs say about latency, in words."""
    spread = equal_macs_spread(data)
    text = f"{display.count(len(data.macs))} whole networks, {origin}. "
    if spread is None:
        return f"{text}No two of them have nearly equal MACs."
    near = display.percent(EQUAL_MACS, 0)
    return f"{text}Among networks whose MACs differ by no more than {near}, one takes up to {spread:.2f} times as long as another."


def macs_latency_figures(data: MacsLatency) -> list[tuple[str, str]]:
    """Return label and value of what stands beside MACs against latency."""
    macs, latencies_ms = np.array(data.macs, dtype=np.float64), np.array(data.latencies_ms)
    found = [
        ("Pearson correlation", display.decimals(metrics.pearson(macs, latencies_ms))),
        ("Spearman rank correlation", display.decimals(metrics.spearman(macs, latencies_ms))),
    ]
    if data.line is not None:
        found.append(("FLOPs line", f"{display.with_ms(data.line[1])} + {display.with_ms(data.line[0])}/M"))
    return found


def ranked_predictors(data: HeldOut) -> list[tuple[str, LatencyQuality]]:
    """Return the predictors' names and qualities, the smallest mean error first."""
    return sorted(data.qualities.items(), key=lambda named: named[1].mape_percent)


def held_out_sentence(data: HeldOut) -> str:
    """Return how good the chosen predictor is, beside the FLOPs line and the limit of the measurement."""
    chosen = data.qualities[data.chosen]
    text = (
        f"On {display.count(len(data.measured_ms))} networks it was not fitted on, the predictor is {_mape(chosen)} off on average, "
        f"and within 5{display.NARROW_SPACE}% for {display.percent(chosen.within_5_share, 0)} of them"
    )
    if data.flops_line not in (None, data.chosen):
        text += f"; a line through MACs alone is {_mape(data.qualities[data.flops_line])} off"
    text += "."
    if data.ceiling is not None:
        text += f" A perfect predictor would still be {display.percent(data.ceiling, 2)} off: so far the measurements differ from themselves."
    if chosen.coverage_share is not None:
        text += (
            f" Its 90{display.NARROW_SPACE}% intervals hold {display.percent(chosen.coverage_share, 0)} of the measurements, "
            f"and are {interval_width(chosen)} of the prediction wide."
        )
    return text


def held_out_figures(data: HeldOut) -> list[tuple[str, str]]:
    """Return label and value of what stands beside predicted against measured."""
    found = [(f"Mean error (MAPE), {predictor_label(data.chosen)}", _mape(data.qualities[data.chosen]))]
    if data.flops_line not in (None, data.chosen):
        found.append((f"Mean error (MAPE), {predictor_label(data.flops_line)}, MACs only", _mape(data.qualities[data.flops_line])))
    return [*found, ("Noise ceiling (MAPE of a perfect predictor)", display.percent(data.ceiling, 2) if data.ceiling is not None else "unknown")]


def above_ceiling(quality: LatencyQuality, data: HeldOut) -> str:
    """Return how many times the noise ceiling a predictor's mean error is."""
    return f"{quality.mape_percent / 100 / data.ceiling:.1f}×" if data.ceiling else display.NOTHING


def interval_width(quality: LatencyQuality) -> str:
    """Return how wide a predictor's intervals are, as a share of the prediction."""
    return display.percent(None if quality.interval_width_percent is None else quality.interval_width_percent / 100)


def _mape(quality: LatencyQuality) -> str:
    return display.percent(quality.mape_percent / 100, 2)


def calibration_sentence(data: HeldOut) -> str:
    """Return what calibrating on a few whole networks does to the sum of the blocks, in words."""
    before, after = data.qualities[str(data.table_sum)], data.qualities[str(data.calibrated)]
    return (
        f"The bare sum of a network's blocks is {_mape(before)} off ({display.signed_percent(before.bias_percent / 100)} on average, with its sign); "
        f"fitted to {display.count(after.calibration_count)} whole networks, {_mape(after)} ({display.signed_percent(after.bias_percent / 100)})."
    )


def calibration_figures(data: HeldOut) -> list[tuple[str, str]]:
    """Return label and value of what stands beside the calibration: the line, and the mean error before and after."""
    line = [] if data.line is None else [("Fitted line", f"{display.with_ms(data.line[0])} + {display.decimals(data.line[1])} × sum")]
    return [
        *line,
        ("Mean error (MAPE) before", _mape(data.qualities[str(data.table_sum)])),
        ("Mean error (MAPE) after", _mape(data.qualities[str(data.calibrated)])),
    ]


def blocks_sentence(blocks: Sequence[BlockRow]) -> str:
    """Return which block's share of the time is farthest from its share of the MACs, in words."""
    timed = [block for block in blocks if block.latency_ms is not None]
    total_ms, total_macs = sum(block.latency_ms or 0.0 for block in timed), sum(block.macs for block in timed)
    shares = [((block.latency_ms or 0.0) / total_ms, block.macs / max(total_macs, 1), block.block.name) for block in timed]
    time, macs, name = max(shares, key=lambda share: abs(share[0] - share[1]))
    text = f"Block {name} has {display.percent(macs)} of the MACs and takes {display.percent(time)} of the time, the widest gap of all."
    if len(timed) < len(blocks):
        text += f" Only {len(timed)} of {len(blocks)} blocks are in the latency table; the others are not shown."
    return text


def blocks_figures(data: ReportData) -> list[tuple[str, str]]:
    """Return label and value of what stands beside the blocks' shares: their sum, and the whole network."""
    subnet = data.subnet
    if subnet is None:
        return []
    found = [("Sum of the blocks shown", display.with_ms(sum(block.latency_ms or 0.0 for block in subnet.blocks)))]
    if subnet.measured_latency_ms is not None:
        found.append((f"Whole network, {data.device_origin}", display.with_ms(subnet.measured_latency_ms)))
    if subnet.predicted_latency_ms is not None:
        found.append(("Whole network, predicted", display.with_ms(subnet.predicted_latency_ms)))
    return found


def accuracy_latency_sentence(data: AccuracyLatency) -> str:
    """Return how the chosen network compares with random ones, in words."""
    drawn = f", {display.count(len(data.random))} random ones" if data.random else ""
    text = f"{display.count(len(data.front))} networks that no other network scored beats in both{drawn}; accuracies are {data.accuracy_is}."
    if data.chosen is None or not data.random:
        return text
    budget = data.max_latency_ms if data.max_latency_ms is not None else np.inf
    within = [accuracy for latency_ms, accuracy in data.random if latency_ms <= budget]
    beaten = sum(accuracy < data.chosen[1] for accuracy in within)
    if not within:
        return f"{text} None of the random ones keeps the budget."
    share = f"all {len(within)}" if beaten == len(within) else f"{beaten} of the {len(within)}"
    return f"{text} The chosen network is predicted to be more accurate than {share} random ones within the budget."


def accuracy_latency_figures(data: ReportData) -> list[tuple[str, str]]:
    """Return label and value of what stands beside accuracy against latency: what the budget means."""
    found = []
    if data.accuracy_latency is not None and data.accuracy_latency.max_latency_ms is not None:
        found.append((data.accuracy_latency.limit.capitalize(), display.with_ms(data.accuracy_latency.max_latency_ms)))
    limit = "budget" if data.accuracy_latency is None else data.accuracy_latency.limit
    if data.subnet is not None and data.subnet.random_over_budget is not None:
        found.append((f"Random networks over the {limit}", display.percent(data.subnet.random_over_budget)))
    if data.subnet is not None and data.subnet.lowest_latency_ms is not None:
        found.append(("Lowest reachable latency, predicted", display.with_ms(data.subnet.lowest_latency_ms)))
    return found


def accuracy_sentence(rows: Sequence[AccuracyPredictorRow], reliability: float | None) -> str:
    """Return how well accuracy is predicted, beside how reliable the measured accuracies are themselves."""
    chosen = next((row for row in rows if row.chosen), None)
    text = "Judged on subnets that no predictor was fitted on."
    if chosen is not None and chosen.rmse is not None:
        used = f"the {predictor_label(chosen.name)} one, chosen by cross-validation on the other subnets"
        text += f" The search uses {used}: it is {display.points(chosen.rmse)} points off (root mean square)."
    if reliability is not None:
        text += f" The measured accuracies themselves have a split-half reliability of {display.decimals(reliability, 2)}, the limit of any ranking."
    return text


def history_sentence(history: Sequence[SearchPoint]) -> str:
    """Return when the search found its last improvement."""
    last = next(point for point in history if point.accuracy == history[-1].accuracy)
    return f"The best network was among the first {display.count(last.evaluations)} scored; nothing better came after it."


def history_figures(history: Sequence[SearchPoint], accuracy_is: str = "predicted") -> list[tuple[str, str]]:
    """Return label and value of what stands beside the search history."""
    return [
        ("Different networks scored", display.count(history[-1].evaluations)),
        (f"Accuracy of the first, {accuracy_is}", display.accuracy(history[0].accuracy)),
        (f"Accuracy of the best, {accuracy_is}", display.accuracy(history[-1].accuracy)),
    ]


def predictor_label(name: str) -> str:
    """Return a predictor's name as words."""
    return LABELS.get(name, name)


def condition_label(name: str) -> str:
    """Return a field's name as words: `cpu_model` becomes `CPU model`."""
    words = name.replace("_", " ").replace("cpu", "CPU")
    return words[:1].upper() + words[1:]


def block_origins(data: ReportData) -> list[str]:
    """Return where the block latencies come from, the device first, such as measured and interpolated."""
    blocks = data.subnet.blocks if data.subnet is not None else ()
    found = {block_origin(data, block) for block in blocks if block.latency_ms is not None}
    return sorted(found, key=lambda name: (name != data.device_origin, name))


def block_origin(data: ReportData, block: BlockRow) -> str:
    """Return where one block's latency comes from; on a simulated device nothing is measured."""
    return data.device_origin if block.latency_origin == "measured" else block.latency_origin
