"""The four published systems, as data: what each trains, where its accuracies are from, what it chooses by, and what it ends with.

Spaces, recipes, objectives and strategies are names; nothing here knows how any of them works. A run may replace each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Every stage a run can have, in order.
STAGES = ("collect", "train", "sample", "fit", "search", "choose", "retrain", "branches", "export", "verify", "report")
# Where the accuracy that a search goes by is from.
PREDICTED, CHILDREN, PROXY, TRAINING = ACCURACIES = ("predicted", "children", "proxy", "training")
ACCURACY_WORDS = {
    PREDICTED: "predicted, by a predictor fitted on sampled subnets",
    CHILDREN: "measured on held-out images, each child of the supernet with its norms calibrated",
    PROXY: "measured on held-out images, each network after a short training of its own",
    TRAINING: "none: training itself chooses",
}


@dataclass(frozen=True)
class Size:
    """A system's space and recipe for one size of images; `images` are those it takes where none are given."""

    space: str
    recipe: str
    images: str = ""


@dataclass(frozen=True)
class System:
    """One system.

    `sizes` are `tiny` (minutes on two cores) and `imagenet`. `accuracy` is one of ACCURACIES; where it is `training`, there is
    no search and no objective. `trains` says whether a supernet is trained; `branches` that the network found has
    branches, which are merged into one convolution.
    """

    name: str
    title: str
    sizes: Mapping[str, Size]
    accuracy: str
    objective: str = ""
    strategy: str = ""
    branches: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", MappingProxyType(dict(self.sizes)))
        if self.accuracy not in ACCURACIES:
            raise ValueError(f"accuracy of system {self.name!r} is {self.accuracy!r}; expected one of {', '.join(ACCURACIES)}")
        if bool(self.strategy) != bool(self.objective) or bool(self.strategy) == (self.accuracy == TRAINING):
            raise ValueError(
                f"system {self.name!r} has strategy {self.strategy!r}, objective {self.objective!r} and accuracy {self.accuracy!r}; "
                "expected both of the first two, or neither where training chooses"
            )

    @property
    def trains(self) -> bool:
        """Whether weights that networks share are trained first."""
        return self.accuracy != PROXY

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of a run, in order."""
        left_out = {
            "train": not self.trains, "sample": self.accuracy != PREDICTED, "search": not self.strategy, "retrain": self.accuracy != PROXY,
            "branches": not self.branches,
        }  # fmt: skip
        return tuple(stage for stage in STAGES if not left_out.get(stage, False))


SUBSET = "fashion-mnist-subset"
SYSTEMS = {
    system.name: system
    for system in (
        System(
            "ofa", "Once-for-All (Cai et al., ICLR 2020)",
            {"tiny": Size("ofa-mobilenetv3-tiny", "small", SUBSET), "imagenet": Size("ofa-mobilenetv3-w1.2", "imagenet")},
            accuracy=PREDICTED, objective="budget", strategy="evolution",
        ),
        System(
            "bignas", "BigNAS (Yu et al., ECCV 2020)",
            {"tiny": Size("bignas-tiny", "bignas-small", SUBSET), "imagenet": Size("bignas", "bignas")},
            accuracy=CHILDREN, objective="budget", strategy="coarse-to-fine",
        ),
        System(
            "mnasnet", "MnasNet (Tan et al., CVPR 2019)",
            {"tiny": Size("mnasnet-tiny", "", SUBSET), "imagenet": Size("mnasnet", "")},
            accuracy=PROXY, objective="soft-product", strategy="rl-controller",
        ),
        System(
            "repnas", "RepNAS (Zhang et al., 2021)",
            {"tiny": Size("repnas-tiny", "repnas-small", SUBSET), "imagenet": Size("repnas", "repnas-paper")},
            accuracy=TRAINING, branches=True,
        ),
    )
}  # fmt: skip


class UnknownSystemError(KeyError):
    """No system has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


def system(name: str) -> System:
    """Return the system of this name.

    Raises:
        UnknownSystemError: no system has that name.
    """
    if name not in SYSTEMS:
        raise UnknownSystemError(f"unknown system {name!r}; known systems: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
