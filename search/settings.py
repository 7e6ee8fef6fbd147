"""How long and how wide a search looks. The defaults are those of Once-for-All's evolution finder (Cai et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class SearchSettings:
    """Settings of one search; the shares, probabilities and `patience` steer evolution, `controller_learning_rate` the RL controller.

    The rest holds for every strategy.

    A generation scores up to `population_size` networks never scored before. It asks its strategy at most `attempts`
    times for networks within the budget, and goes on with those it has.

    Raises:
        ValueError: a value out of range.
    """

    population_size: int = 100
    generations: int = 500
    parent_share: float = 0.25  # of the population: the best ones, kept and bred from
    mutation_share: float = 0.5  # of the children; the others are crossed
    mutation_probability: float = 0.1  # of each gene: the slots of one block together, or one depth
    resolution_probability: float = 0.5
    patience: int = 30  # generations without a better network until a new line of descent begins; the finder of OFA has one line only
    controller_learning_rate: float = 0.00035  # of NASNet's controller, for thousands of networks
    attempts: int = 5
    finalists: int = 10

    def __post_init__(self) -> None:
        for name in ("population_size", "generations", "patience", "attempts", "finalists"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        for name in ("parent_share", "mutation_share", "mutation_probability", "resolution_probability"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r}; expected a share between 0 and 1")
        if not isinstance(self.controller_learning_rate, (int, float)) or not 0 < self.controller_learning_rate < 1:
            raise ValueError(f"controller_learning_rate is {self.controller_learning_rate!r}; expected a number between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON-serialisable mapping."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchSettings:
        """Return the settings that `to_dict` described.

        Raises:
            ValueError: an unknown setting, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"a search has no setting {unknown[0]!r}; its settings are {', '.join(known)}")
        return cls(**values)
