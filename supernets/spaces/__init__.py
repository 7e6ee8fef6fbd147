"""The search spaces by name. A name may carry options: `ofa-mobilenetv3-tiny:image_channels=3,classes=37`.

Options: `resolutions` (`128:224:4` or `20/24/32`), `image_channels` (1 or 3), `classes`; of some spaces `kernels` (one a `stage`
or one a `layer`), `shortcuts` (`projection` or `identity`) and `skeleton` (`a0` to `b3`). A space's own name holds the options
that differ from its table, in this order, so equal spaces have equal names wherever a name is stored.
Further spaces come through the entry-point group `elastic_latency.spaces`: name → function(options) → SearchSpace.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata

from supernets.space import SearchSpace

ENTRY_POINT_GROUP = "elastic_latency.spaces"
LARGEST_SIDE = 4096  # pixels; activations of larger images fit no device this is for
MOST_SIDES = 127  # as many values as a choice can have
MOST_CLASSES = 100_000
SPACES = {
    "ofa-mobilenetv3-w1.0": "supernets.spaces.ofa_mobilenetv3:w1_0",
    "ofa-mobilenetv3-w1.2": "supernets.spaces.ofa_mobilenetv3:w1_2",
    "ofa-mobilenetv3-tiny": "supernets.spaces.ofa_mobilenetv3:tiny",
    "ofa-mobilenetv3-tiny-w0.25": "supernets.spaces.ofa_mobilenetv3:tiny_w0_25",
    "ofa-proxyless-w1.0": "supernets.spaces.ofa_proxyless:w1_0",
    "ofa-proxyless-w1.3": "supernets.spaces.ofa_proxyless:w1_3",
    "ofa-proxyless-tiny": "supernets.spaces.ofa_proxyless:tiny",
    "ofa-resnet50": "supernets.spaces.ofa_resnet50:imagenet",
    "ofa-resnet50-tiny": "supernets.spaces.ofa_resnet50:tiny",
    "ofa-resnet50-tiny-w0.5": "supernets.spaces.ofa_resnet50:tiny_w0_5",
    "bignas": "supernets.spaces.bignas:imagenet",
    "bignas-tiny": "supernets.spaces.bignas:tiny",
    "attentivenas": "supernets.spaces.attentivenas:imagenet",
    "mnasnet": "supernets.spaces.mnasnet:imagenet",
    "mnasnet-small": "supernets.spaces.mnasnet:small",
    "mnasnet-tiny": "supernets.spaces.mnasnet:tiny",
    "repvgg": "supernets.spaces.repvgg:imagenet",
    "repvgg-tiny": "supernets.spaces.repvgg:tiny",
    "repnas": "supernets.spaces.repnas:imagenet",
    "repnas-tiny": "supernets.spaces.repnas:tiny",
}
OWN_OPTIONS: dict[str, tuple[str, ...]] = {  # of some spaces: option → its values, none where the space itself knows them
    "kernels": ("stage", "layer"),
    "shortcuts": ("projection", "identity"),
    "skeleton": (),
}


class UnknownSpaceError(KeyError):
    """No space has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class SpaceOptions:
    """What a user may change of a space's table; None keeps the table's own value.

    Raises:
        ValueError: a value out of range.
    """

    resolutions: tuple[int, ...] | None = None
    image_channels: int | None = None
    classes: int | None = None
    kernels: str | None = None
    shortcuts: str | None = None
    skeleton: str | None = None

    def __post_init__(self) -> None:
        if self.image_channels not in (None, 1, 3):
            raise ValueError(f"image_channels is {self.image_channels}; expected 1 (grey) or 3 (colour)")
        if self.classes is not None and not 2 <= self.classes <= MOST_CLASSES:
            raise ValueError(f"classes is {self.classes}; expected 2 to {MOST_CLASSES}")
        if self.resolutions is not None and not self.resolutions:
            raise ValueError("resolutions is empty; expected at least one, such as 128:224:4")
        for option, values in OWN_OPTIONS.items():
            given = getattr(self, option)
            if given is not None and values and given not in values:
                raise ValueError(f"{option} is {given!r}; expected one of {', '.join(values)}")


def parse_resolutions(text: str) -> tuple[int, ...]:
    """Return the sides in `160`, `128/160/224` (or with commas) or `128:224:4` (last included).

    Raises:
        ValueError: the text is none of these, or asks for too many sides or too large ones.
    """
    sides = _sides(text)
    if len(sides) > MOST_SIDES or sides[-1] > LARGEST_SIDE:
        raise ValueError(
            f"resolutions are given as {text!r}: {len(sides)} up to {sides[-1]} pixels; expected at most {MOST_SIDES}, and none above {LARGEST_SIDE}"
        )
    return tuple(sides)


def _sides(text: str) -> Sequence[int]:
    try:
        if ":" in text:
            first, last, *step = (int(part) for part in text.split(":"))
            (stride,) = step or [4]
            if stride < 1 or (last >= first and (last - first) % stride):
                raise ValueError
        else:
            return sorted({int(part) for part in text.replace(",", "/").split("/")})
    except ValueError:
        raise ValueError(f"resolutions are given as {text!r}; expected 128:224:4 (first:last:step), 160/192/224, or 160") from None
    if last < first:
        raise ValueError(f"resolutions are given as {text!r}, whose last side, {last}, is below the first, {first}; expected the smaller side first")
    return range(first, last + 1, stride)


def parse_name(name: str) -> tuple[str, SpaceOptions]:
    """Return the bare name and the options of a space's name.

    Raises:
        ValueError: an unknown option or a value it refuses.
    """
    bare, colon, text = name.partition(":")
    given: dict[str, object] = {}
    for part in text.split(",") if colon else ():
        option, _, value = part.partition("=")
        if option == "resolutions":
            given[option] = parse_resolutions(value)
        elif option in ("image_channels", "classes") and value.isascii() and value.isdigit():
            given[option] = int(value)
        elif option in OWN_OPTIONS and value:
            given[option] = value
        else:
            raise ValueError(
                f"option {part!r} of space {name!r} is not understood; expected resolutions=128:224:4, image_channels=3 or classes=37,"
                " and of some spaces kernels=layer, shortcuts=identity or skeleton=b1"
            )
    return bare, SpaceOptions(**given)  # type: ignore[arg-type]


def names() -> list[str]:
    """Return the names of all spaces, built in and from entry points."""
    return sorted({*SPACES, *(point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP))})


def space(name: str) -> SearchSpace:
    """Return the search space of this name.

    Raises:
        UnknownSpaceError: no space has that name.
        ValueError: an option is not understood.
    """
    bare, options = parse_name(name)
    return _maker(bare)(options)


def _maker(bare: str) -> Callable[[SpaceOptions], SearchSpace]:
    if bare in SPACES:
        module, _, function = SPACES[bare].partition(":")
        maker: Callable[[SpaceOptions], SearchSpace] = getattr(importlib.import_module(module), function)
        return maker
    for point in metadata.entry_points(group=ENTRY_POINT_GROUP, name=bare):
        loaded: Callable[[SpaceOptions], SearchSpace] = point.load()
        return loaded
    raise UnknownSpaceError(f"unknown space {bare!r}; known spaces: {', '.join(names())}")
