"""Which populations a predictor accepts: codes of its own space, canonical, within what the space allows."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from supernets.space import OFF, Choice, Population, SearchSpace

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]

CHUNK_ROWS = 16_384  # architectures checked at once: their codes stay in the cache


class PopulationCheck:
    """Checks populations of one space; the comparisons run over whole arrays, the wording only after a failure."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._lowest = np.array([OFF if choice.depends_on else choice.allowed_codes.min() for choice in space.choices], dtype=np.int8)
        self._highest = np.array([choice.allowed_codes.max() for choice in space.choices], dtype=np.int8)
        self._gaps = [(column, flags) for column, choice in enumerate(space.choices) if not (flags := _known_codes(choice)).all()]
        self._switches = _switches(space)

    def __call__(self, population: Any) -> Population:
        """Return the population as int8 codes.

        Raises:
            ValueError: another shape, something that is no code, a code the space does not allow, or a row that is not canonical.
        """
        codes = np.asarray(population)
        if codes.ndim != 2 or codes.shape[1] != len(self.space.choices):
            wanted = f"(n_architectures, {len(self.space.choices)})"
            raise ValueError(f"a population of space {self.space.name!r} has the shape {wanted}, but this array has {codes.shape}; use space.encode")
        codes = _as_int8(codes)
        for start in range(0, len(codes), CHUNK_ROWS):
            if not self._allowed(codes[start : start + CHUNK_ROWS]):
                self._refuse(codes)
        return codes

    def _allowed(self, codes: Population) -> bool:
        if (codes.min(axis=0) < self._lowest).any() or (codes.max(axis=0) > self._highest).any():
            return False
        for column, known in self._gaps:
            if not known[codes[:, column]].all():
                return False
        for controller, on_codes, columns in self._switches:
            on = on_codes[codes[:, controller]]
            if ((codes[:, columns] != OFF) != on[:, None]).any():
                return False
        return True

    def _refuse(self, codes: Population) -> NoReturn:
        for row, values in enumerate(codes.tolist()):
            for choice, code in zip(self.space.choices, values, strict=True):
                complaint = self._complaint(choice, code, values)
                if complaint:
                    raise ValueError(f"architecture {row} of the population is not in space {self.space.name!r}: {complaint}")
        raise ValueError(f"the population is not in space {self.space.name!r}; use space.encode")

    def _complaint(self, choice: Choice, code: int, values: list[int]) -> str:
        allowed = choice.allowed_codes.tolist()
        on = True
        if choice.depends_on is not None:
            controlling = self.space.choices[self.space.position[choice.depends_on]]
            controlling_code = values[self.space.position[choice.depends_on]]
            on = controlling_code != OFF and controlling.values[controlling_code] in choice.on_for
        if on and code not in allowed:
            known = choice.values[code] if 0 <= code < len(choice.values) else None
            value = f"the value {known!r}" if known is not None else f"the code {code}"
            return f"slot {choice.name!r} has {value}; expected one of {list(choice.allowed)} (codes {allowed})"
        if not on and code != OFF:
            return f"slot {choice.name!r} has the code {code} though {choice.depends_on!r} switches it off; use space.switched_off"
        return ""


def _known_codes(choice: Choice) -> Flags:
    """Return whether each code up to the highest allowed one may occur; the last item is read by the code -1."""
    allowed = choice.allowed_codes.tolist()
    return np.array([*(code in allowed for code in range(allowed[-1] + 1)), True])


def _switches(space: SearchSpace) -> list[tuple[int, Flags, list[int]]]:
    """Return (controlling column, whether it switches on by its code, switched columns); the code -1 reads the last item, False."""
    groups: dict[tuple[str, tuple[Any, ...]], list[int]] = {}
    for column, choice in enumerate(space.choices):
        if choice.depends_on is not None:
            groups.setdefault((choice.depends_on, choice.on_for), []).append(column)
    switches = []
    for (name, on_for), columns in groups.items():
        values = space.choices[space.position[name]].values
        switches.append((space.position[name], np.array([*(value in on_for for value in values), False]), columns))
    return switches


def _as_int8(codes: np.ndarray[Any, Any]) -> Population:
    if codes.dtype == np.int8:
        return codes
    if codes.dtype.kind not in "iuf":
        raise ValueError(f"a population holds integer codes, but this array holds {codes.dtype}; use space.encode")
    wrong = ~np.isfinite(codes) | (codes < -128) | (codes > 127)
    if not wrong.any():
        wrong = codes != np.trunc(codes)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise ValueError(f"row {row}, column {column} of the population is {codes[row, column]}; expected an integer code; use space.encode")
    return codes.astype(np.int8)


def checked_figures(figures: Any, count: int, what: str, lowest: float, highest: float) -> Numbers:
    """Return one finite float64 for each architecture.

    Raises:
        ValueError: another shape or number of them, NaN, or a value out of range; `what` names the figures.
    """
    checked = np.asarray(figures)
    if checked.dtype.kind not in "iuf":
        raise ValueError(f"{what} are {checked.dtype}; expected numbers")
    if checked.shape != (count,):
        raise ValueError(f"{what} have the shape {checked.shape}; expected ({count},), one for each architecture")
    checked = checked.astype(np.float64)
    wrong = ~((checked >= lowest) & (checked <= highest))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"number {first} of the {what} is {checked[first]}; expected {lowest:g} to {highest:g}")
    return checked
