"""The AttentiveNAS space (Wang et al., CVPR 2021): BigNAS's lowering with expansions to choose and a MobileNetV3 head."""

from __future__ import annotations

from supernets.space import SearchSpace
from supernets.spaces import SpaceOptions
from supernets.spaces.bignas import BigNasTable, Stage, bignas_space

ELASTIC = (4, 5, 6)
KERNELS = (3, 5)

IMAGENET = BigNasTable(
    name="attentivenas", resolutions=(192, 224, 256, 288), resolution_step=4, image_channels=3, classes=1000, stem_widths=(16, 24), stem_stride=2,
    stages=(
        Stage((16, 24), (1, 2), KERNELS, (1,), 1, squeeze_excitation=False),
        Stage((24, 32), (3, 4, 5), KERNELS, ELASTIC, 2, squeeze_excitation=False),
        Stage((32, 40), (3, 4, 5, 6), KERNELS, ELASTIC, 2),
        Stage((64, 72), (3, 4, 5, 6), KERNELS, ELASTIC, 2, squeeze_excitation=False),
        Stage((112, 120, 128), (3, 4, 5, 6, 7, 8), KERNELS, ELASTIC, 1),
        Stage((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), KERNELS, (6,), 2),
        Stage((216, 224), (1, 2), KERNELS, (6,), 1),
    ),
    head_widths=(1792, 1984), head_ratio=6, se_sized_by="inner",
)  # fmt: skip


def imagenet(options: SpaceOptions) -> SearchSpace:
    """Return the ImageNet space."""
    return bignas_space(IMAGENET, options)
