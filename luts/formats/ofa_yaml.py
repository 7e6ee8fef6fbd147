"""Once-for-All's lookup tables (Cai et al., ICLR 2020): MobileNetV3 networks, one YAML file a resolution, `expand` in channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from luts.formats.block_keys import Family
from luts.formats.lookup_yaml import LookupYaml


@dataclass(frozen=True)
class OfaYaml(LookupYaml):
    """Tables of Once-for-All's MobileNetV3 spaces."""

    spread: str = "std"
    expand: str = "channels"
    family: ClassVar[Family] = Family(flags=True, plain="relu", heads="h_swish")
