"""Processes that evaluate children of a supernet, on a GPU or one thread each: a piece of the work at a time, results sent as they come.

Workers only compute; what they send is the caller's to keep. A worker whose caller is gone ends by itself.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from supernets.space import Population

if TYPE_CHECKING:
    from supernets.networks.shared_evaluation import SharedEvaluation
    from supernets.space import SearchSpace
    from supernets.training.image_rows import ImageRows, Pixels

Results: TypeAlias = list[tuple[list[int], Any]]  # codes of a child, its hits (n_images,)
KEPT_SHARE = 0.5  # of a GPU's free memory, for what children share; a batch under way takes some gigabytes at 224 pixels
RESULTS_A_MESSAGE = 16  # a few seconds' worth: what is lost when a worker is killed

# glibc gives large blocks back to the system and fetches them again for every operation unless told not to: a fifth of the
# time. Only a process that starts with these variables obeys them. One thread a process: more of them lose time on waiting.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class AccuracyWorkerError(RuntimeError):
    """A worker failed or was killed."""


@dataclass(frozen=True, eq=False)
class EvaluationTask:
    """What every worker needs: a supernet's file, pixels (n, side, side, channels) of both sets of images, labels of the judged ones, the device.

    Images on disk are sent as the name of their file.
    """

    weights: str
    calibration_images: Pixels | ImageRows
    judged_images: Pixels | ImageRows
    labels: np.ndarray[Any, np.dtype[np.int64]]
    device: str = "cpu"

    def evaluation(self) -> tuple[SearchSpace, SharedEvaluation]:
        """Return the supernet's space and its evaluation on these images, in the batches of `supernets.training.validation`."""
        import torch

        from supernets.networks.checkpoint import load_supernet
        from supernets.networks.shared_evaluation import EvaluationImages, SharedEvaluation
        from supernets.training.images import input_batches
        from supernets.training.validation import BATCH_SIZE

        supernet = load_supernet(self.weights)
        images = EvaluationImages(
            lambda side: input_batches(self.calibration_images, side, BATCH_SIZE, self.device),
            lambda side: input_batches(self.judged_images, side, BATCH_SIZE, self.device),
            torch.from_numpy(self.labels),
        )
        tensors = {name: tensor.to(self.device) for name, tensor in supernet.tensors().items()}
        return supernet.space, SharedEvaluation(supernet.space, tensors, images, self._most_bytes())

    def _most_bytes(self) -> float:
        """Return how much may be kept of an image: in the computer's memory all there is to keep, on a GPU a share of what is free there."""
        import torch

        from supernets.training.machine import Machine

        if not Machine(self.device).on_gpu:
            return math.inf
        return KEPT_SHARE * torch.cuda.mem_get_info(self.device)[0] / (len(self.calibration_images) + len(self.judged_images))


def evaluate_in_workers(task: EvaluationTask, pieces: Sequence[Population], workers: int) -> Generator[Results, None, None]:
    """Yield results as they arrive, in any order; closing the iterator ends the workers.

    Raises:
        AccuracyWorkerError: a worker failed or was killed; what was yielded before stands.
    """
    waiting = list(reversed(pieces))
    crew: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(min(workers, len(pieces))):
            connection, process = _start(task)
            crew[connection] = process
        while crew:
            for ready in wait(list(crew)):
                connection = ready  # type: ignore[assignment]
                message = _receive(connection, crew[connection])
                if message is not None:
                    yield message
                elif waiting:
                    connection.send(waiting.pop())
                else:
                    connection.close()
                    crew.pop(connection).join()
    finally:
        for connection, process in crew.items():
            process.terminate()
            process.join()
            connection.close()


def _start(task: EvaluationTask) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    with environment(ENVIRONMENT):
        process.start()
    theirs.close()  # so that talking to a worker that has ended fails
    with suppress(BrokenPipeError, ConnectionResetError):  # reading from it will tell
        ours.send(task)  # as an argument it would be written to a pipe that nobody reads when the worker ends early
    return ours, process


def _receive(connection: Connection, process: BaseProcess) -> Results | None:
    """Return results, or None when the worker has done its piece."""
    try:
        message = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        raise AccuracyWorkerError(
            f"a process that evaluates subnets ended with exit code {process.exitcode} (-9 is often a lack of memory: use fewer workers); "
            "what had arrived is kept, the same call goes on from there"
        ) from None
    if isinstance(message, str):
        raise AccuracyWorkerError(f"a process that evaluates subnets failed: {message}; what had arrived is kept")
    results: Results | None = message
    return results


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection) -> None:
    """Evaluate pieces until there are no more: says None when ready for one, sends lists of results, or a text when it fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller, who ends the workers
    try:
        _work_on_pieces(connection)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # no more pieces, or nobody to send results to
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


def _work_on_pieces(connection: Connection) -> None:
    import torch

    from supernets.training.machine import Machine

    torch.set_num_threads(1)
    task: EvaluationTask = connection.recv()
    with Machine(task.device).judging():
        _evaluate_pieces(connection, *task.evaluation())


def _evaluate_pieces(connection: Connection, space: SearchSpace, evaluation: SharedEvaluation) -> None:
    while True:
        connection.send(None)
        results: Results = []
        for architecture, hits in evaluation.hits(space.decode(connection.recv())):
            results.append((space.encode([architecture])[0].tolist(), hits))
            if len(results) == RESULTS_A_MESSAGE:
                connection.send(results)
                results = []
        if results:
            connection.send(results)
