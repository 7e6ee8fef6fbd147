"""Which networks to measure when only a few can be: far apart in what they compute, move and hold.

Random networks of a space are alike in most things (depth, mix of kernels, mean width), so that a model fitted to ten of
them guesses at what each cause costs. Networks that differ tell the causes apart.
"""

from __future__ import annotations

import numpy as np

from predictors.latency.block_costs import PHYSICAL_COSTS, physical_costs
from predictors.latency.block_sums import BlockSums
from predictors.population import Numbers
from supernets.space import Architecture, Population, SearchSpace

CANDIDATES = 400  # random networks to take the informative ones from


def informative_networks(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Architecture]:
    """Return `count` different networks spread over resolution, depth and mix of kernels; all of a smaller space.

    Raises:
        ValueError: fewer than one network was asked for.
    """
    if count < 1:
        raise ValueError(f"{count} networks were asked for; expected at least 1")
    candidates = space.sample_different(max(count, CANDIDATES), rng)
    return space.decode(candidates[spread_rows(network_features(space, candidates), count)])


def network_features(space: SearchSpace, population: Population) -> Numbers:
    """Return ln of each network's size (its activations), and each other cost's share of it, in ln where all have some, (n, n_features)."""
    costs = dict(zip(PHYSICAL_COSTS, BlockSums(space, physical_costs)(population).T, strict=True))
    size = costs.pop("activation elements")
    shares = [cost / size for cost in costs.values()]
    return np.stack([np.log(size), *(np.log(share) if (share > 0).all() else share for share in shares)], axis=1)


def spread_rows(features: Numbers, count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the places of `count` rows far from each other, all where there are no more: each is the one farthest from those before it.

    The first is the one nearest to the middle. Columns count alike, whatever their units.
    """
    scale = features.std(axis=0)
    points = (features - features.mean(axis=0)) / np.where(scale > 0, scale, 1.0)
    chosen = [int((points**2).sum(axis=1).argmin())]
    nearest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return np.array(chosen, dtype=np.intp)
