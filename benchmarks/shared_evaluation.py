"""How fast the accuracies of 16,384 random subnets of the tiny space are measured: sharing leading blocks, against one subnet after another.

Each subnet: norms calibrated on 2,048 images, judged on 1,000, in float32. What is timed are whole pieces of work as a
worker takes them (about 64 neighbours in tree order), cut from the true sorted list of 16,384, spread over it, the same
number at each resolution; a small sample of its own would share less. Two processes of one thread run at once, as
`profiler sample` does, each beside a second one that evaluates every 16th of the same subnets by the plain ways:

    plain       slice the child, calibrate it, run it: channels-first images, norms not folded, torch's defaults
    validation  supernets.training.validation: channels-last images, resized each time, norms folded

They take turns, so that other load on the machine meets all alike; times are CPU seconds of one thread. All use the same
batches of 256, and must agree: exactly with `validation`, and with `plain` but for images whose two best classes are a
tie (closer than 3e-4, where only rounding decides).

    python benchmarks/shared_evaluation.py [--weights FILE] [--images fashion-mnist-subset] [--pieces 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from profiler.accuracy import PIECE
from profiler.accuracy_workers import ENVIRONMENT, EvaluationTask, environment
from supernets import spaces
from supernets.counts import block_macs
from supernets.networks import prefix_tree
from supernets.networks.calibration import calibrate
from supernets.networks.checkpoint import load_supernet, save_supernet
from supernets.networks.functional import forward
from supernets.networks.slicing import child_tensors
from supernets.networks.supernet import Supernet
from supernets.space import Population, SearchSpace
from supernets.training import validation
from supernets.training.data import drawn, open_images
from supernets.training.images import input_batches

SPACE = "ofa-mobilenetv3-tiny"
SUBNETS, CALIBRATION_IMAGES, JUDGED_IMAGES = 16_384, 2048, 1000
PROCESSES = 2
LIMIT_H = 1.0
LEAST_RATIO = 4.0
PLAIN_EVERY = 16
TIE = 3e-4


@dataclass
class Findings:
    """CPU seconds of subnets of one resolution, and how far results agree."""

    shared_s: list[float] = field(default_factory=list)
    plain_s: list[float] = field(default_factory=list)
    validation_s: list[float] = field(default_factory=list)
    unlike_validation: int = 0  # accuracies
    unlike_plain_at_ties: int = 0  # hits
    unlike_plain_elsewhere: int = 0

    def add(self, other: Findings) -> None:
        """Take in what another process found."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def shared_process(connection: Connection, task: EvaluationTask) -> None:
    """For each piece received: send each subnet's codes, hits and CPU seconds, one each time it is told to go on."""
    torch.set_num_threads(1)
    space, evaluation = task.evaluation()
    while (population := connection.recv()) is not None:
        walk = evaluation.hits(space.decode(population))
        for _ in range(len(population)):
            connection.recv()
            start_s = time.process_time()
            architecture, hits = next(walk)
            connection.send((space.encode([architecture]), hits, time.process_time() - start_s))


def plain_process(connection: Connection, task: EvaluationTask) -> None:
    """For each subnet received: send its hits, which images are ties, CPU seconds, and accuracy and CPU seconds of `validation`."""
    torch.set_num_threads(1)
    supernet = load_supernet(task.weights)
    space, tensors = supernet.space, {name: tensor.detach() for name, tensor in supernet.tensors().items()}
    while (population := connection.recv()) is not None:
        (architecture,) = space.decode(population)
        calibration, judged = (
            [torch.empty(batch.shape).copy_(batch) for batch in input_batches(images, architecture["resolution"], validation.BATCH_SIZE)]
            for images in (task.calibration_images, task.judged_images)
        )
        start_s = time.process_time()
        blocks = space.blocks(architecture)
        child = child_tensors(blocks, tensors)
        child.update(calibrate(blocks, child, calibration))
        with torch.no_grad():
            logits = torch.cat([forward(blocks, batch, child) for batch in judged])
        hits = logits.argmax(1).numpy() == task.labels
        plain_s = time.process_time() - start_s
        best, second = logits.topk(2).values.T
        start_s = time.process_time()
        top1 = validation.accuracy(space, tensors, architecture, task.judged_images, task.labels, task.calibration_images)
        connection.send((hits, (best - second < TIE).numpy(), plain_s, top1, time.process_time() - start_s))


def started(target: Callable[[Connection, EvaluationTask], None], task: EvaluationTask, variables: Mapping[str, str]) -> Connection:
    """Return the connection to a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with environment(variables):
        context.Process(target=target, args=(theirs, task), daemon=True).start()
    theirs.close()
    return ours


def measure(shared: Connection, plain: Connection, pieces: list[tuple[int, Population]]) -> dict[int, Findings]:
    """Return what two processes find that take turns over pieces of work, by resolution."""
    found: dict[int, Findings] = {}
    for side, population in pieces:
        findings = found.setdefault(side, Findings())
        shared.send(population)
        for number in range(len(population)):
            shared.send("go on")
            codes, hits, shared_s = shared.recv()
            findings.shared_s.append(shared_s)
            if number % PLAIN_EVERY == PLAIN_EVERY // 2:
                plain.send(codes)
                compare(findings, hits, *plain.recv())
    shared.send(None)
    plain.send(None)
    return found


def compare(findings: Findings, hits: np.ndarray, plain_hits: np.ndarray, ties: np.ndarray, plain_s: float, top1: float, validation_s: float) -> None:
    """Note the plain ways' times and differences of one subnet."""
    findings.plain_s.append(plain_s)
    findings.validation_s.append(validation_s)
    findings.unlike_validation += int(top1 != hits.mean())
    findings.unlike_plain_at_ties += int((hits != plain_hits)[ties].sum())
    findings.unlike_plain_elsewhere += int((hits != plain_hits)[~ties].sum())


def sorted_list(space: SearchSpace) -> tuple[Population, list[prefix_tree.Path]]:
    """Return all subnets in tree order, and their paths."""
    ordered = prefix_tree.in_tree_order(space, space.decode(space.sample_different(SUBNETS, np.random.default_rng(0))))
    return space.encode(ordered), [prefix_tree.path(space, architecture) for architecture in ordered]


def mac_ratio(paths: list[prefix_tree.Path]) -> float:
    """Return how many times fewer MACs sharing needs."""
    apart = together = 0
    for path, common in zip(paths, [0, *prefix_tree.shared_steps(paths)], strict=False):
        macs = [block_macs(block) for _, block in path]
        apart, together = apart + sum(macs), together + sum(macs[common:])
    return apart / together


def chosen_pieces(population: Population, paths: list[prefix_tree.Path], sides: list[int], count: int) -> list[tuple[int, Population]]:
    """Return (resolution, piece), `count` of them spread over each resolution's part of the list."""
    chosen = []
    pieces = list(prefix_tree.pieces(paths, PIECE))
    for side in sorted(set(sides)):
        own = [piece for piece in pieces if sides[piece.start] == sides[piece.stop - 1] == side]
        chosen += [(side, population[own[int((i + 0.5) / count * len(own))]]) for i in range(count)]
    return chosen


def report(found: dict[int, Findings], counts: dict[int, int]) -> None:
    """Print what was measured.

    Raises:
        SystemExit: results disagree.
    """
    print(f"\n{'ms CPU a subnet':<22}{'shared':>9}{'plain':>9}{'ratio':>7}{'validation':>12}{'ratio':>7}")
    by_side = {side: [1e3 * float(np.mean(seconds)) for seconds in (f.shared_s, f.plain_s, f.validation_s)] for side, f in found.items()}
    mean = np.array([counts[side] for side in by_side]) / sum(counts.values()) @ np.array(list(by_side.values()))
    for name, (shared, plain, folded) in [*((f"resolution {side}", row) for side, row in by_side.items()), ("mean over the list", mean)]:
        print(f"{name:<22}{shared:>9.0f}{plain:>9.0f}{plain / shared:>7.2f}{folded:>12.0f}{folded / shared:>7.2f}")
    hours = mean * SUBNETS / PROCESSES / 3.6e6
    estimate = ", ".join(f"{name} {h:.2f} h" for name, h in zip(("shared", "plain", "validation"), hours, strict=True))
    print(f"\n{SUBNETS:,} subnets on {PROCESSES} processes, from these times: {estimate}")
    print(f"limit of {LIMIT_H:.0f} h: {'kept' if hours[0] < LIMIT_H else 'MISSED'}")
    print(f"at least {LEAST_RATIO:.0f} times as fast as plain: {'kept' if mean[1] >= LEAST_RATIO * mean[0] else 'MISSED'}")
    total = Findings()
    for findings in found.values():
        total.add(findings)
    print(f"accuracies of {len(total.plain_s)} subnets on {JUDGED_IMAGES:,} images compared: {total.unlike_validation} unlike validation's;")
    print(f"hits unlike plain's: {total.unlike_plain_at_ties} at ties, {total.unlike_plain_elsewhere} elsewhere")
    if total.unlike_validation or total.unlike_plain_elsewhere:
        raise SystemExit("the accuracies DISAGREE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a trained supernet of the tiny space instead of an untrained one, which costs the same")
    parser.add_argument("--images", default="fashion-mnist-subset")
    parser.add_argument("--pieces", type=int, default=2, help="pieces of work at each resolution")
    options = parser.parse_args()
    space, images = spaces.space(SPACE), open_images(options.images)
    population, paths = sorted_list(space)
    sides = [path[0][1].input_side for path in paths]
    pieces = chosen_pieces(population, paths, sides, options.pieces)
    judged = drawn(len(images.validation_labels), JUDGED_IMAGES, 0)
    calibration = images.calibration_images(CALIBRATION_IMAGES)
    print(f"space {space.name}, {SUBNETS:,} uniform subnets; sharing needs {mac_ratio(paths):.2f} times fewer MACs")
    print(f"weights {options.weights or 'UNTRAINED'}, {len(calibration)} calibration and {len(judged)} validation images of {images.name}")
    timed = sum(len(piece) for _, piece in pieces)
    print(f"timed: {len(pieces)} whole pieces of the sorted list, {timed} subnets; plain ways: every {PLAIN_EVERY}th of them")
    found = {side: Findings() for side in sorted(set(sides))}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PROCESSES) as pool:
        weights = options.weights or Path(folder) / "untrained.safetensors"
        if options.weights is None:
            save_supernet(weights, Supernet(space))
        task = EvaluationTask(str(weights), calibration, images.validation_images[judged], images.validation_labels[judged])
        pairs = [(started(shared_process, task, ENVIRONMENT), started(plain_process, task, {})) for _ in range(PROCESSES)]
        for part in pool.map(lambda i: measure(*pairs[i], pieces[i::PROCESSES]), range(PROCESSES)):
            for side, findings in part.items():
                found[side].add(findings)
    report(found, {side: sides.count(side) for side in found})


if __name__ == "__main__":
    main()
