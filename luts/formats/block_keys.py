"""The keys of Once-for-All's and ProxylessNAS's lookup tables: a block as text, and back.

`Conv-input:224x224x3-output:112x112x24` is the stem, `Conv_1` a 1x1 convolution with norm, `Conv_2` one without,
`AvgPool2D` the mean over the map, `Logits` the classifier, and all between is
`expanded_conv-input:112x112x24-output:56x56x32-expand:144-kernel:5-stride:2-idskip:0-se:0-hs:0`. What a key does not say
(activations, the width of squeeze-and-excitation, the stem's kernel) follows from the family of networks, the `Family`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from luts.formats.base import TableFileError
from supernets.blocks import BlockSpec, make_divisible
from supernets.spaces.ofa_mobilenetv3 import SE_REDUCTION

STEM_KERNEL = 3
_SHAPE = r"(\d{1,6})x(\d{1,6})x(\d{1,6})"
_KEY = re.compile(
    rf"(?P<head>\w+)-input:{_SHAPE}-output:(?:(\d{{1,6}})x(\d{{1,6}})x)?(\d{{1,6}})"
    r"(?:-expand:(?P<expand>\d{1,6}(?:\.\d{1,6})?)-kernel:(?P<kernel>\d{1,3})-stride:(?P<stride>\d)-idskip:(?P<skip>[01])"
    r"(?:-se:(?P<se>[01])-hs:(?P<hs>[01]))?)?",
    re.ASCII,
)
_HEADS = {"Conv": "conv_bn", "Conv_1": "conv_bn", "Conv_2": "conv", "AvgPool2D": "pool", "Logits": "linear", "expanded_conv": "mbconv"}


@dataclass(frozen=True)
class Family:
    """What the keys of a family of networks leave unsaid.

    `flags`: whether keys end in `se` and `hs`. `plain`: the activation of blocks without h_swish. `heads`: of stem and head.
    """

    flags: bool
    plain: str
    heads: str


def key_of(block: BlockSpec, family: Family, expand: str) -> str | None:
    """Return the block's key, with `expand` as "channels" (of the middle) or as "ratio"; None where no key says all of the block."""
    kernel = block.kernel_size
    head = next((name for name, operator in _HEADS.items() if operator == block.operator and (name != "Conv" or kernel == STEM_KERNEL)), "")
    side, out_side = block.input_side, block.output_side
    out = str(block.out_channels) if head == "Logits" else f"{out_side}x{out_side}x{block.out_channels}"
    key = f"{head}-input:{side}x{side}x{block.in_channels}-output:{out}"
    if head == "expanded_conv":
        width = block.mid_channels if expand == "channels" else f"{block.mid_channels / block.in_channels:g}"
        key += f"-expand:{width}-kernel:{kernel}-stride:{block.stride}-idskip:{int(block.residual)}"
        key += f"-se:{int(block.se_channels > 0)}-hs:{int(block.activation == 'h_swish')}" if family.flags else ""
    try:
        return key if block_of(key, family) == block else None
    except TableFileError:
        return None


def block_of(key: str, family: Family) -> BlockSpec:
    """Return the block that a key stands for; a width of `expand` below the input's channels is a ratio.

    Raises:
        TableFileError: it is no key of the family, or contradicts itself.
    """
    found = _KEY.fullmatch(key)
    if found is None or found["head"] not in _HEADS or (found["expand"] is not None) != (found["head"] == "expanded_conv"):
        raise TableFileError(f"{key[:200]!r} is no block's key; expected one such as Conv-input:224x224x3-output:112x112x24")
    if found["expand"] is not None and (found["se"] is not None) != family.flags:
        raise TableFileError(f"key {key!r} {'lacks' if family.flags else 'has'} se and hs; import the file in the other of the two YAML formats")
    side, width, in_channels, out_side, out_width, out_channels = (int(group or 0) for group in found.groups()[1:7])
    if side != width or out_side != out_width or (out_side == 0) != (found["head"] == "Logits"):
        raise TableFileError(f"key {key!r} has maps that are not square; expected HxWxC with H equal to W")
    try:
        block = _block(found, family, side, in_channels, out_side, out_channels)
    except ValueError as error:
        raise TableFileError(f"key {key!r}: {error}") from None
    if out_side not in (0, block.output_side):
        raise TableFileError(f"key {key!r} says an output of side {out_side}; expected {block.output_side}")
    return block


def _block(found: re.Match[str], family: Family, side: int, in_channels: int, out_side: int, out_channels: int) -> BlockSpec:
    head = found["head"]
    operator = _HEADS[head]
    if head == "expanded_conv":
        mid_channels = _mid_channels(found["expand"], in_channels)
        return BlockSpec(
            operator, side, in_channels, out_channels, mid_channels,
            kernel_size=int(found["kernel"]), stride=int(found["stride"]),
            se_channels=make_divisible(mid_channels // SE_REDUCTION) if found["se"] == "1" else 0,
            activation="h_swish" if found["hs"] == "1" else family.plain, residual=found["skip"] == "1",
        )  # fmt: skip
    if head == "Conv":
        stride = 1 if side == out_side else 2
        return BlockSpec(operator, side, in_channels, out_channels, kernel_size=STEM_KERNEL, stride=stride, activation=family.heads)
    return BlockSpec(operator, side, in_channels, out_channels, activation="none" if operator in ("pool", "linear") else family.heads)


def _mid_channels(expand: str, in_channels: int) -> int:
    width = float(expand)
    if width >= in_channels and width == int(width):
        return int(width)
    return make_divisible(round(in_channels * width))
