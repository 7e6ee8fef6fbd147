"""Learning rates over a phase, as factors of its own: a linear warm-up, then half a cosine to zero, or a decay with a constant ending.

Exponential decay with constant ending is BigNAS's (Yu et al., ECCV 2020): times 0.97 each 2.4 epochs, counted from the phase's
beginning, never under 5 %: from epoch 236.05 on the rate stays, so that large children do not overfit while small ones still learn.
"""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "exponential")
DECAY = 0.97
DECAY_EPOCHS = 2.4
FLOOR = 0.05


def factor(schedule: str, step: int, warmup_steps: int, steps: int, steps_per_epoch: int) -> float:
    """Return what a phase's learning rate is multiplied by at a step, counted from 0; `steps` are the whole schedule's."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))
    return exponential(step / max(1, steps_per_epoch))


def exponential(epoch: float) -> float:
    """Return the factor of exponential decay with constant ending at an epoch, which may be a fraction."""
    return max(FLOOR, math.pow(DECAY, epoch / DECAY_EPOCHS))


def floor_epoch() -> float:
    """Return the epoch from which the factor is constant."""
    return DECAY_EPOCHS * math.log(FLOOR) / math.log(DECAY)
