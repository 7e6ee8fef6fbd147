"""The accuracy predictor of Once-for-All: three hidden layers of 400 on the choices (one column a value), targets 0 to 1.

The authors' recipe: Adam, learning rate 1e-3, weight decay 1e-4, batches of 500, output bias started at the mean accuracy
(https://github.com/mit-han-lab/once-for-all/issues/30). Added to it: the running mean of the weights is what predicts
(Polyak averaging, steadier than the last step's weights), batches are at most an eighth of the data, and an inner
validation split chooses the number of steps and between that weight decay and a tenth of it: against accuracies in 0 to 1 the
decay is strong, right for few or noisy labels and too much for many good ones. What it chose is then trained on all data.
Trains with torch on one core; predicts with numpy alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from predictors import folder
from predictors.base import AccuracyPredictor, missing_package
from predictors.features import fill_unseen, seen_values
from predictors.population import Numbers
from supernets.space import Population, SearchSpace

Floats = np.ndarray[Any, np.dtype[np.float32]]
Layers = list[Floats]  # weight (in, out), bias (out,), weight, bias, ...

HIDDEN_LAYERS = 3
AVERAGING = 0.99  # share of the running mean that a step keeps
STEPS_BETWEEN_CHECKS = 25
PATIENCE_CHECKS = 16  # checks without progress on the validation split after which training ends
CHUNK_ROWS = 1024  # architectures predicted at once: their layers stay in the cache


class MlpAccuracy(AccuracyPredictor):
    """A multilayer perceptron; `max_steps` bounds the steps of one training, of which there is one for each weight decay, and a last one.

    After `fit`: `layers_` (weight (in, out) and bias of each layer in turn, float32), `step_count_`, `weight_decay_`.
    """

    name: ClassVar[str] = "mlp"

    def __init__(
        self, space_name: str, hidden: int = 400, learning_rate: float = 1e-3, weight_decays: Sequence[float] = (1e-4, 1e-5),
        batch_size: int = 500, max_steps: int = 3000, validation_share: float = 0.1, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(space_name)
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.weight_decays = weight_decays
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.validation_share = validation_share
        self.seed = seed

    def _check_settings(self) -> None:
        for setting in ("hidden", "batch_size", "max_steps"):
            if getattr(self, setting) < 1:
                raise ValueError(f"{setting} of accuracy predictor {self.name!r} is {getattr(self, setting)}; expected at least 1")
        if not len(self.weight_decays) or min(self.weight_decays) < 0:
            raise ValueError(f"weight_decays of accuracy predictor {self.name!r} are {self.weight_decays}; expected one or more, none below 0")
        if not 0 < self.validation_share < 1 or self.learning_rate <= 0:
            raise ValueError(
                f"accuracy predictor {self.name!r} has validation_share {self.validation_share} and learning_rate {self.learning_rate}; "
                "expected between 0 and 1, and above 0"
            )

    def _fit(self, space: SearchSpace, population: Population, accuracies: Numbers) -> None:
        rng = np.random.default_rng(self.seed)
        columns, targets = space.one_hot(population), accuracies.astype(np.float32)
        order = rng.permutation(len(columns))
        held, kept = np.split(order, [max(1, round(self.validation_share * len(order)))])
        start = self._start(columns.shape[1], float(accuracies.mean()), rng)
        seed = int(rng.integers(2**32))
        trials = []
        for decay in self.weight_decays:
            _, error, step = self._train(start, columns[kept], targets[kept], decay, self.max_steps, seed, (columns[held], targets[held]))
            trials.append((error, step, float(decay)))
        _, self.step_count_, self.weight_decay_ = min(trials)
        layers, _, _ = self._train(start, columns, targets, self.weight_decay_, self.step_count_, seed)
        self.layers_ = [fill_unseen(layers[0], space, seen_values(space, population)), *layers[1:]]

    def _start(self, width: int, mean: float, rng: np.random.Generator) -> Layers:
        """Return layers drawn as torch draws its own, uniform within 1 / sqrt(inputs), the output bias at the mean accuracy."""
        sizes = [width, *[self.hidden] * HIDDEN_LAYERS, 1]
        layers: Layers = []
        for inputs, outputs in itertools.pairwise(sizes):
            bound = inputs**-0.5
            layers += [rng.uniform(-bound, bound, shape).astype(np.float32) for shape in ((inputs, outputs), (outputs,))]
        layers[-1][:] = mean
        return layers

    def _train(
        self, start: Layers, columns: Floats, targets: Floats, decay: float, steps: int, seed: int,
        validation: tuple[Floats, Floats] | None = None,
    ) -> tuple[Layers, float, int]:  # fmt: skip
        """Return the averaged layers after the last step, and error and number of the step best on the validation set."""
        torch = _torch()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the layers are too small to share, and sums in one order make a seed repeat exactly
        try:
            layers, means = [torch.tensor(layer, requires_grad=True) for layer in start], [torch.tensor(layer) for layer in start]
            optimizer = torch.optim.Adam(layers, lr=self.learning_rate, weight_decay=decay, fused=True)
            x, y = torch.tensor(columns), torch.tensor(targets)
            best_error, best_step = float("inf"), 0
            batches = _batches(len(x), min(self.batch_size, -(-len(x) // 8)), np.random.default_rng(seed))
            for step, rows in zip(range(1, steps + 1), batches, strict=False):
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(_forward(torch, layers, x[rows]), y[rows]).backward()
                optimizer.step()
                keep = min(AVERAGING, step / (step + 10))  # the first steps are forgotten faster
                with torch.no_grad():
                    torch._foreach_lerp_(means, layers, 1 - keep)
                if validation is not None and step % STEPS_BETWEEN_CHECKS == 0:
                    error = float(((_outputs(_arrays(means), validation[0]) - validation[1]) ** 2).mean())
                    if error < best_error:
                        best_error, best_step = error, step
                    if step >= best_step + PATIENCE_CHECKS * STEPS_BETWEEN_CHECKS:
                        break
            return _arrays(means), best_error, best_step or steps
        finally:
            torch.set_num_threads(threads)

    def _predict(self, population: Population) -> Numbers:
        predicted = np.empty(len(population))
        for start in range(0, len(population), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            predicted[chunk] = _outputs(self.layers_, self.space_.one_hot(population[chunk]))
        return predicted

    def _files(self) -> dict[str, bytes]:
        return {folder.ARRAYS_FILE: folder.packed_arrays({f"layer{i}": layer for i, layer in enumerate(self.layers_)})}

    def _restore(self, files: Mapping[str, bytes], space: SearchSpace) -> None:
        arrays: dict[str, Any] = folder.unpacked_arrays(files[folder.ARRAYS_FILE])
        self.layers_ = [arrays[f"layer{i}"] for i in range(len(arrays))]


def _batches(count: int, batch: int, rng: np.random.Generator) -> Iterator[Any]:
    """Yield row numbers, `batch` at a time, in a new order each time all have come; what does not fill a batch waits for the next order."""
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def _forward(torch: Any, layers: list[Any], x: Any) -> Any:
    """Return the network's outputs as torch computes them."""
    for i in range(0, len(layers) - 2, 2):
        x = torch.relu(torch.addmm(layers[i + 1], x, layers[i]))
    return torch.addmm(layers[-1], x, layers[-2])[:, 0]


def _outputs(layers: Layers, x: Floats) -> Floats:
    """Return the network's outputs as numpy computes them, shape (n,)."""
    for i in range(0, len(layers) - 2, 2):
        x = x @ layers[i]
        x += layers[i + 1]
        np.maximum(x, 0, out=x)
    return np.asarray((x @ layers[-2] + layers[-1])[:, 0])


def _arrays(tensors: list[Any]) -> Layers:
    return [tensor.detach().numpy().copy() for tensor in tensors]


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise missing_package("fitting accuracy predictor 'mlp'", "torch", "train") from None
    return torch
