"""The controller of MnasNet (Tan et al., CVPR 2019, section 4.2) and NASNet: an LSTM that writes a network choice by choice, taught by PPO.

The choices of a space in their order are its tokens, so it works on any space. A choice that others switch off has no
part in a network's probability; what comes after it is drawn as after its first option. The reward is the objective's
value, the baseline an exponential moving average of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from search.objectives import Candidates
from search.settings import SearchSettings
from supernets.space import OFF, Choice, Population, SearchSpace

if TYPE_CHECKING:
    import torch

HIDDEN_UNITS = 100
INITIAL_RANGE = 0.1
BASELINE_WEIGHT = 0.95  # of the past
ENTROPY_WEIGHT = 1e-5
CLIP = 0.2  # not in the paper; the usual value (Schulman et al., 2017)
MINIBATCH, EPOCHS = 20, 4


class RlController:
    """Draws networks from the controller's probabilities, and raises those of networks better than the baseline.

    Raises (constructor):
        ImportError: PyTorch is not installed.
    """

    def __init__(self, space: SearchSpace, settings: SearchSettings, rng: np.random.Generator) -> None:
        try:
            import torch
        except ImportError as error:
            raise ImportError(
                "search strategy 'rl-controller' needs the package 'torch'; install it with pip install 'elastic-latency[train]'"
            ) from error
        self._torch, self._space, self._rng = torch, space, rng
        self._generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        self._allowed = [choice.allowed_codes for choice in space.choices]
        self._switches = [self._switch(choice) for choice in space.choices]
        self._parameters = self._initial([len(allowed) for allowed in self._allowed])
        self._optimizer = torch.optim.Adam(self._parameters.values(), lr=settings.controller_learning_rate)
        self._baseline: float | None = None
        self._tells = 0

    def ask(self, count: int) -> Population:
        """Return networks drawn from the controller, shape (count, n_choices)."""
        drawn: list[torch.Tensor] = []
        active: list[torch.Tensor] = []
        with self._torch.no_grad():
            state = self._start(count)
            for number in range(len(self._allowed)):
                logits, state = self._step(number, drawn[-1] if drawn else None, state)
                options = self._torch.multinomial(logits.softmax(dim=1), 1, generator=self._generator)[:, 0]
                switch = self._switches[number]
                active.append(self._torch.ones(count, dtype=self._torch.bool) if switch is None else active[switch[0]] & switch[1][drawn[switch[0]]])
                drawn.append(options.where(active[-1], 0))
        codes = np.stack([allowed[options.numpy()] for allowed, options in zip(self._allowed, drawn, strict=True)], axis=1)
        return self._space.switched_off(codes.astype(np.int8))

    def tell(self, scored: Candidates) -> None:
        """Update the controller by proximal policy optimisation, mini-batch by mini-batch.

        The first network told is the driver's, not drawn from the controller: it teaches nothing.
        """
        self._tells += 1
        if self._tells == 1 or len(scored) < 2:
            return
        torch = self._torch
        rewards = torch.tensor(scored.values, dtype=torch.float32)
        mean = float(rewards.mean())
        advantages = rewards - (mean if self._baseline is None else self._baseline)
        self._baseline = mean if self._baseline is None else BASELINE_WEIGHT * self._baseline + (1 - BASELINE_WEIGHT) * mean
        options, active = self._options(scored.population)
        with torch.no_grad():
            before, _ = self._log_probabilities(options, active)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(rewards), generator=self._generator).split(MINIBATCH):
                now, entropy = self._log_probabilities(options[rows], active[rows])
                ratio = (now - before[rows]).exp()
                gain = torch.minimum(ratio * advantages[rows], ratio.clamp(1 - CLIP, 1 + CLIP) * advantages[rows])
                self._optimizer.zero_grad()
                (-(gain + ENTROPY_WEIGHT * entropy).mean()).backward()
                self._optimizer.step()

    def _initial(self, lengths: list[int]) -> dict[str, torch.Tensor]:
        torch, hidden = self._torch, HIDDEN_UNITS
        shapes = {"start": (1, hidden), "lstm.input": (4 * hidden, hidden), "lstm.state": (4 * hidden, hidden), "lstm.bias": (4 * hidden,)}
        for number, length in enumerate(lengths):
            shapes |= {f"{number}.embedding": (length, hidden), f"{number}.weight": (length, hidden), f"{number}.bias": (length,)}
        return {name: ((2 * torch.rand(shape, generator=self._generator) - 1) * INITIAL_RANGE).requires_grad_() for name, shape in shapes.items()}

    def _switch(self, choice: Choice) -> tuple[int, torch.Tensor] | None:
        """Return the column of the choice that this one depends on, which comes before it, and whether it is on for each option of that one."""
        if choice.depends_on is None:
            return None
        column = self._space.position[choice.depends_on]
        return column, self._torch.tensor([value in choice.on_for for value in self._space.choices[column].allowed])

    def _start(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        zeros = self._torch.zeros(count, HIDDEN_UNITS)
        return zeros, zeros

    def _step(self, number: int, option: torch.Tensor | None, state: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, Any]:
        """Return the logits of a choice's options, and the state after it; `option` is the one taken of the choice before."""
        p = self._parameters
        given = p["start"].expand(len(state[0]), -1) if option is None else p[f"{number - 1}.embedding"][option]
        gates = given @ p["lstm.input"].T + state[0] @ p["lstm.state"].T + p["lstm.bias"]
        into, forget, candidate, out = gates.chunk(4, dim=1)
        cell = forget.sigmoid() * state[1] + into.sigmoid() * candidate.tanh()
        hidden = out.sigmoid() * cell.tanh()
        return hidden @ p[f"{number}.weight"].T + p[f"{number}.bias"], (hidden, cell)

    def _options(self, population: Population) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the option taken of each choice (0 where it is off), and whether it is on, (n, n_choices) each."""
        active = population != OFF
        columns = [np.searchsorted(allowed, population[:, number]) for number, allowed in enumerate(self._allowed)]
        options = np.where(active, np.stack(columns, axis=1), 0)
        return self._torch.from_numpy(options.astype(np.int64)), self._torch.from_numpy(active)

    def _log_probabilities(self, options: torch.Tensor, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ln of each network's probability, and the entropy summed over its choices, (n,) each."""
        total, entropy, state = self._torch.zeros(len(options)), self._torch.zeros(len(options)), self._start(len(options))
        for number in range(options.shape[1]):
            logits, state = self._step(number, options[:, number - 1] if number else None, state)
            logs = logits.log_softmax(dim=1)
            total = total + logs.gather(1, options[:, number : number + 1])[:, 0] * active[:, number]
            entropy = entropy - (logs.exp() * logs).sum(dim=1) * active[:, number]
        return total, entropy
