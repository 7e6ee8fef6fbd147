"""ProxylessNAS's lookup tables (Cai et al., ICLR 2019): the older kind, `expand` as a ratio, `var`, neither se nor hs.

All activations are relu6. `Logits` may stand on a map: then it is the classifier with the mean over the map before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from luts.formats.block_keys import Family
from luts.formats.lookup_yaml import LookupYaml


@dataclass(frozen=True)
class ProxylessYaml(LookupYaml):
    """Tables of ProxylessNAS's spaces."""

    spread: str = "var"
    expand: str = "ratio"
    family: ClassVar[Family] = Family(flags=False, plain="relu6", heads="relu6")
