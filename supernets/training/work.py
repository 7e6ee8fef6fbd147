"""How much work a step of a phase is, about: of what is left to do only the proportion between phases matters."""

from __future__ import annotations

import numpy as np

from supernets.counts import macs
from supernets.space import SearchSpace
from supernets.training.phases import Phase
from supernets.training.repnas_sampler import KINDS

SAMPLED = 16


def work_per_step(whole: SearchSpace, phase: Phase, space: SearchSpace) -> float:
    """Return the multiply-adds an image of a step of a phase, in its part of the whole space, forward and backward and for the teacher."""
    random = float(np.mean([macs(space.blocks(a)) for a in space.decode(space.sample_population(SAMPLED, np.random.default_rng(0)))]))
    of = {"random": random, "largest": macs(space.blocks(space.largest())), "smallest": macs(space.blocks(space.smallest()))}
    of.update(dict.fromkeys(KINDS, random))  # of the plain network
    teacher = macs(whole.blocks(whole.largest())) if phase.teacher in ("full_network", "phase_start") else 0
    return 3 * sum(of[kind] for kind in phase.children) + teacher
