"""BlockSpec: one block of a network with its shapes filled in, the vocabulary every room shares.

Sides are feature-map sides in pixels (maps are square), channels are counts. A block's `key` says what it computes;
its `name` says where it stands, and takes no part in equality: two places that compute the same are one measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

# conv_bn: convolution + batch norm + activation; conv: the same without norm and bias; conv_bias: with bias in place of the norm;
# mbconv: 1x1 expand (absent where mid = in), depthwise, squeeze-and-excitation, 1x1 project;
# bottleneck: 1x1 reduce, k x k, 1x1 restore, and the activation once more after the residual sum;
# pool: mean over the map; max_pool: largest of each k x k window of a map that is nowhere negative; linear: with bias.
OPERATORS = ("conv_bn", "conv", "conv_bias", "mbconv", "bottleneck", "pool", "max_pool", "linear")
ACTIVATIONS = ("none", "relu", "relu6", "h_swish", "h_sigmoid", "swish", "sigmoid")
# What a residual block's input passes before it is added. At stride 2 (more is not known) an average pool of 2x2 windows comes first
# in all but `identity`, at an odd side over the part of the last window that is on the map; then `conv` is a 1x1 convolution alone,
# `conv_bn` one with a norm.
SHORTCUTS = ("identity", "pool", "conv", "conv_bn")
LATER = {"may_be_missing": True}  # of fields that files of older versions do not have


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of `divisor` nearest to `channels`, never under `divisor` nor under 90 % of `channels`.

    The MobileNet family rounds every width this way: 19.2 becomes 24, since 16 would lose more than a tenth.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution (or, in operator `linear`, one matrix product) of a block, with what follows it at once.

    `name` is the prefix of its tensors: `<name>.weight` (out, in / groups, k, k), `<name>.bias` (out,) where `bias`,
    `<name>.bn.*` (out,) where `norm`.
    """

    name: str
    input_side: int
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    groups: int
    norm: bool
    bias: bool
    activation: str

    @property
    def output_side(self) -> int:
        """Side of the result under symmetric padding by half the kernel."""
        return (self.input_side - 1) // self.stride + 1

    @property
    def padding(self) -> int:
        """Pixels of zero on each border."""
        return self.kernel_size // 2

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight: (out, in / groups, kernel, kernel)."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel_size, self.kernel_size)


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block: operator, shapes and details; everything that decides its computation, and its place's name.

    Details of parts that the block does not have are reset to their defaults, so that equal computations are equal blocks.

    Raises:
        ValueError: a field is out of range, or fields contradict each other.
    """

    operator: str
    input_side: int
    in_channels: int
    out_channels: int
    mid_channels: int = 0  # inner width of mbconv and bottleneck; 0 for operators without one
    kernel_size: int = 1
    stride: int = 1
    se_channels: int = 0  # inner width of squeeze-and-excitation; 0 = none
    activation: str = "none"
    residual: bool = False
    groups: int = 1  # of the operator's spatial convolution; mbconv's depthwise one always has one a channel
    se_activation: str = field(default="relu", metadata=LATER)  # between the two convolutions of squeeze-and-excitation
    se_gate: str = field(default="h_sigmoid", metadata=LATER)  # after them
    shortcut: str = field(default="identity", metadata=LATER)  # of SHORTCUTS; how the input of a residual block reaches the sum
    name: str = field(default="block", compare=False)

    _FLAGS: ClassVar[tuple[str, ...]] = ("input_side", "in_channels", "out_channels", "kernel_size", "stride", "groups")
    _DETAILS: ClassVar[dict[str, str]] = {"se_activation": "relu", "se_gate": "h_sigmoid", "shortcut": "identity"}

    def __post_init__(self) -> None:
        known = {"operator": OPERATORS, "activation": ACTIVATIONS, "se_activation": ACTIVATIONS, "se_gate": ACTIVATIONS, "shortcut": SHORTCUTS}
        for flag, values in known.items():
            if getattr(self, flag) not in values:
                raise ValueError(f"{flag} {getattr(self, flag)!r} of block {self.name!r} is unknown; expected one of {', '.join(values)}")
        for flag in self._FLAGS:
            if getattr(self, flag) < 1:
                raise ValueError(f"{flag} of block {self.name!r} is {getattr(self, flag)}; expected at least 1")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size of block {self.name!r} is {self.kernel_size}; expected an odd number")
        if (self.operator in ("mbconv", "bottleneck")) != (self.mid_channels > 0):
            raise ValueError(
                f"mid_channels of {self.operator} block {self.name!r} is {self.mid_channels}; only mbconv and bottleneck have it, and need it"
            )
        self._reset_unused()
        same_width = self.in_channels == self.out_channels
        fits = {"identity": same_width and self.stride == 1, "pool": same_width and self.stride == 2}
        if self.residual and not fits.get(self.shortcut, self.stride <= 2 and not fits["identity"]):
            how = "" if self.shortcut == "identity" else f" by the shortcut {self.shortcut!r}"
            raise ValueError(f"block {self.name!r} cannot be residual{how}: stride {self.stride}, {self.in_channels} to {self.out_channels} channels")
        ends = (self.mid_channels, self.mid_channels) if self.operator == "bottleneck" else (self.in_channels, self.out_channels)
        if ends[0] % self.groups or ends[1] % self.groups:
            raise ValueError(f"groups of block {self.name!r} is {self.groups}; it must divide {ends[0]} and {ends[1]} channels")

    def _reset_unused(self) -> None:
        unused = (["se_activation", "se_gate"] if not self.se_channels else []) + ([] if self.residual else ["shortcut"])
        for flag in unused:
            object.__setattr__(self, flag, self._DETAILS[flag])

    @property
    def key(self) -> str:
        """The block's identity in a latency table: all that decides its computation, and not its place."""
        details = "".join(f"-{flag}.{getattr(self, flag)}" for flag, usual in self._DETAILS.items() if getattr(self, flag) != usual)
        return (
            f"{self.operator}-s{self.input_side}-i{self.in_channels}-m{self.mid_channels}-o{self.out_channels}"
            f"-k{self.kernel_size}-t{self.stride}-se{self.se_channels}-{self.activation}-r{int(self.residual)}-g{self.groups}{details}"
        )

    @property
    def sum_activation(self) -> str:
        """What follows the residual sum."""
        return self.activation if self.operator == "bottleneck" else "none"

    @property
    def output_side(self) -> int:
        """Side of the block's result."""
        return 1 if self.operator == "pool" else (self.input_side - 1) // self.stride + 1

    def convolutions(self) -> Iterator[Convolution]:
        """Yield the block's convolutions in order of execution (the shortcut's last); no other code computes their shapes."""
        if self.operator == "mbconv":
            yield from self._mbconv_convolutions()
        elif self.operator == "bottleneck":
            yield from self._bottleneck_convolutions()
        elif self.operator not in ("pool", "max_pool"):
            norm, bias = self.operator == "conv_bn", self.operator in ("conv_bias", "linear")
            yield self._convolution("conv", self.input_side, self.in_channels, self.out_channels, norm=norm, bias=bias, activation=self.activation,
                                    kernel_size=self.kernel_size, stride=self.stride, groups=self.groups)  # fmt: skip
            yield from self._gate_convolutions(self.out_channels)
        if self.shortcut in ("conv", "conv_bn"):
            yield self._convolution("shortcut", self.output_side, self.in_channels, self.out_channels, norm=self.shortcut == "conv_bn",
                                    activation="none")  # fmt: skip

    def _mbconv_convolutions(self) -> Iterator[Convolution]:
        mid = self.mid_channels
        if mid != self.in_channels:
            yield self._convolution("expand", self.input_side, self.in_channels, mid, norm=True, activation=self.activation)
        yield self._convolution("depthwise", self.input_side, mid, mid, norm=True, activation=self.activation,
                                kernel_size=self.kernel_size, stride=self.stride, groups=mid)  # fmt: skip
        yield from self._gate_convolutions(mid)
        yield self._convolution("project", self.output_side, mid, self.out_channels, norm=True, activation="none")

    def _bottleneck_convolutions(self) -> Iterator[Convolution]:
        mid = self.mid_channels
        yield self._convolution("reduce", self.input_side, self.in_channels, mid, norm=True, activation=self.activation)
        yield self._convolution("spatial", self.input_side, mid, mid, norm=True, activation=self.activation,
                                kernel_size=self.kernel_size, stride=self.stride, groups=self.groups)  # fmt: skip
        yield from self._gate_convolutions(mid)
        yield self._convolution("restore", self.output_side, mid, self.out_channels, norm=True, activation="none")

    def _gate_convolutions(self, channels: int) -> Iterator[Convolution]:
        if self.se_channels:
            yield self._convolution("se_reduce", 1, channels, self.se_channels, bias=True, activation=self.se_activation)
            yield self._convolution("se_expand", 1, self.se_channels, channels, bias=True, activation=self.se_gate)

    def _convolution(self, part: str, input_side: int, in_channels: int, out_channels: int, *, activation: str, kernel_size: int = 1,
                     stride: int = 1, groups: int = 1, norm: bool = False, bias: bool = False) -> Convolution:  # fmt: skip
        return Convolution(f"{self.name}.{part}", input_side, in_channels, out_channels, kernel_size, stride, groups, norm, bias, activation)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-serialisable mapping; details at their defaults are left out, as files of older versions have none."""
        return {field: value for field, value in asdict(self).items() if value != self._DETAILS.get(field)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> BlockSpec:
        """Return the block that `to_dict` described.

        Raises:
            ValueError: an unknown field, or a value `BlockSpec` refuses.
        """
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"a block has no field {', '.join(unknown)}; known fields: {', '.join(f.name for f in fields(cls))}")
        return cls(**values)
