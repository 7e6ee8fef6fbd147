"""Choices, architectures and search spaces: everything that asks which networks there are, and nothing of what they are made of.

An architecture is a canonical assignment: a choice that other choices switch off (a block beyond its stage's depth) has
the value None, so two architectures are equal exactly if their networks are. A *population* is the same as an int8 array
of shape (n_architectures, n_choices): positions in each choice's `values`, -1 where the choice is off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from supernets.blocks import BlockSpec

Value: TypeAlias = int | float | str
Population: TypeAlias = np.ndarray[Any, np.dtype[np.int8]]
OFF = -1  # code of a choice that others switch off
MOST_SHOWN = 200  # characters of what is no architecture
DRAWN_AT_ONCE = 1024  # whatever number of architectures is wanted, so that more of them begin with the same ones


@dataclass(frozen=True)
class Choice:
    """A named slot with ordered values, smallest first; on only while choice `depends_on` has one of the values `on_for`.

    `allowed` narrows the values without renumbering them, so codes mean the same in a restricted space.
    The last part of the name is its kind: `stage1.block0.kernel_size` is a `kernel_size`.

    Raises:
        ValueError: no values, a repeated value, or an allowed value that is not among them.
    """

    name: str
    values: tuple[Value, ...]
    depends_on: str | None = None
    on_for: tuple[Value, ...] = ()
    allowed: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values) or len(self.values) > 127:
            raise ValueError(f"values of choice {self.name!r} are {self.values}; expected 1 to 127 different ones")
        if not self.allowed:
            object.__setattr__(self, "allowed", self.values)
        strange = [value for value in self.allowed if value not in self.values]
        if strange:
            raise ValueError(f"choice {self.name!r} cannot be restricted to {strange}; its values are {list(self.values)}")
        object.__setattr__(self, "allowed", tuple(value for value in self.values if value in self.allowed))

    @property
    def kind(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @cached_property
    def allowed_codes(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """Codes of the allowed values, in order."""
        return np.array([code for code, value in enumerate(self.values) if value in self.allowed], dtype=np.int8)


class ArchitectureError(ValueError):
    """An architecture that its space does not contain; the text names the slot."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """One network of a space: choice name → value, None where the choice is off."""

    space: str
    values: Mapping[str, Value | None]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.space == other.space and self.values == other.values

    def __hash__(self) -> int:
        return hash((self.space, tuple(sorted(self.values.items(), key=lambda item: item[0]))))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Architecture, (self.space, dict(self.values)))  # a mapping proxy can be neither copied nor sent to another process

    def to_dict(self) -> dict[str, Any]:
        """Return the architecture as a JSON-serialisable mapping."""
        return {"space": self.space, "values": dict(self.values)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Architecture:
        """Return the architecture that `to_dict` described; `SearchSpace.architecture` checks it against its space.

        Raises:
            ArchitectureError: the mapping has other keys than `space` and `values`.
        """
        if not isinstance(data, Mapping) or set(data) != {"space", "values"} or not isinstance(data["values"], Mapping):
            found = json.dumps(data, default=str)
            shown = found if len(found) <= MOST_SHOWN else f"{found[:MOST_SHOWN]}…"
            raise ArchitectureError(f"an architecture is {{'space': NAME, 'values': {{CHOICE: VALUE, …}}}}, but this one is {shown}")
        return cls(str(data["space"]), data["values"])


@dataclass(frozen=True)
class SearchSpace:
    """Ordered choices and a lowering from an architecture to its blocks.

    `block_choices` says, for each place a block can stand at, which choices decide that block (the ones that can remove
    it included): additive costs read it to turn a whole population into table look-ups. Spaces are equal by name and choices.
    """

    name: str
    choices: tuple[Choice, ...]
    lowering: Callable[[Architecture], list[BlockSpec]] = field(compare=False)
    block_choices: Mapping[str, tuple[str, ...]] = field(compare=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for choice in self.choices:
            if choice.name in seen:
                raise ValueError(f"choice {choice.name!r} of space {self.name!r} is given twice")
            if choice.depends_on is not None and choice.depends_on not in seen:
                raise ValueError(f"choice {choice.name!r} depends on {choice.depends_on!r}, which must come before it")
            seen.add(choice.name)

    @cached_property
    def position(self) -> dict[str, int]:
        """Choice name → its column in a population."""
        return {choice.name: column for column, choice in enumerate(self.choices)}

    # --- one architecture -------------------------------------------------------------------------------------------

    def blocks(self, architecture: Architecture) -> list[BlockSpec]:
        """Return the architecture's blocks, shapes filled in, first to last.

        Raises:
            ArchitectureError: the architecture is of another space.
        """
        if architecture.space != self.name:
            raise ArchitectureError(f"architecture of space {architecture.space!r} given to space {self.name!r}; use its own space")
        return self.lowering(architecture)

    def architecture(self, values: Mapping[str, Any] | Architecture) -> Architecture:
        """Return the canonical architecture with these values; values of choices that are off are dropped.

        Raises:
            ArchitectureError: an unknown slot, a missing one, or a value outside its choice.
        """
        if isinstance(values, Architecture):
            if values.space != self.name:
                raise ArchitectureError(f"architecture of space {values.space!r} given to space {self.name!r}; use its own space")
            values = values.values
        unknown = [name for name in values if name not in self.position]
        if unknown:
            raise ArchitectureError(f"space {self.name!r} has no slot {unknown[0]!r}; its slots are {', '.join(self.position)}")
        canonical: dict[str, Value | None] = {}
        for choice in self.choices:
            canonical[choice.name] = self._checked(choice, values.get(choice.name), canonical)
        return Architecture(self.name, canonical)

    def _checked(self, choice: Choice, value: Any, before: Mapping[str, Value | None]) -> Value | None:
        on = choice.depends_on is None or before[choice.depends_on] in choice.on_for
        if value is None and not on:
            return None
        if value is None:
            raise ArchitectureError(f"slot {choice.name!r} has no value; expected one of {list(choice.allowed)}")
        expected = choice.allowed if on else choice.values  # a restriction says nothing about slots that are off
        if isinstance(value, bool) or value not in expected:
            raise ArchitectureError(f"slot {choice.name!r} has the value {value!r}; expected one of {list(expected)}")
        return expected[expected.index(value)] if on else None

    def largest(self) -> Architecture:
        """Return the architecture with the last allowed value everywhere."""
        return self.architecture({choice.name: choice.allowed[-1] for choice in self.choices})

    def smallest(self) -> Architecture:
        """Return the architecture with the first allowed value everywhere."""
        return self.architecture({choice.name: choice.allowed[0] for choice in self.choices})

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Return a random architecture: every slot uniform over its allowed values, each on its own."""
        return self.decode(self.sample_population(1, rng))[0]

    def mutate(self, architecture: Architecture, rng: np.random.Generator, probability: float = 0.1) -> Architecture:
        """Return the architecture with each slot redrawn with this probability."""
        return self.decode(self.mutate_population(self.encode([architecture]), rng, probability))[0]

    def crossover(self, mother: Architecture, father: Architecture, rng: np.random.Generator) -> Architecture:
        """Return a child that takes each slot from either parent with equal chance."""
        return self.decode(self.crossover_populations(self.encode([mother]), self.encode([father]), rng))[0]

    def neighbours(self, architecture: Architecture) -> list[Architecture]:
        """Return all different architectures one slot away; slots that a change switches on get each of their values in turn
        only through further steps, and start at the smallest."""
        found: dict[Architecture, None] = {}
        for choice in self.choices:
            if architecture[choice.name] is None:
                continue
            for value in choice.allowed:
                if value != architecture[choice.name]:
                    found[self._with(architecture, choice.name, value)] = None
        found.pop(architecture, None)
        return list(found)

    def _with(self, architecture: Architecture, name: str, value: Value) -> Architecture:
        values = {choice.name: choice.allowed[0] if architecture[choice.name] is None else architecture[choice.name] for choice in self.choices}
        return self.architecture({**values, name: value})

    # --- the whole space --------------------------------------------------------------------------------------------

    def restrict(self, allowed: Mapping[str, Iterable[Value]]) -> SearchSpace:
        """Return the sub-space in which these choices (by name, or all of a kind) keep only these values.

        Raises:
            ValueError: no choice has that name or kind, or it has no such value.
        """
        choices = list(self.choices)
        for name, values in allowed.items():
            columns = [i for i, choice in enumerate(choices) if name in (choice.name, choice.kind)]
            if not columns:
                kinds = sorted({choice.kind for choice in choices})
                raise ValueError(f"space {self.name!r} has no choice or kind of choice {name!r}; its kinds are {', '.join(kinds)}")
            wanted = tuple(values)
            for i in columns:
                strange = [value for value in wanted if value not in choices[i].allowed]
                if strange or not wanted:
                    raise ValueError(f"choice {choices[i].name!r} cannot be restricted to {list(wanted)}; its values are {list(choices[i].allowed)}")
                choices[i] = replace(choices[i], allowed=tuple(value for value in choices[i].values if value in wanted))
        return replace(self, choices=tuple(choices))

    def only(self, architecture: Architecture) -> SearchSpace:
        """Return the sub-space of this one network.

        Raises:
            ArchitectureError: the space has no such architecture.
        """
        values = self.architecture(architecture).values
        return self.restrict({name: (value,) for name, value in values.items() if value is not None})

    def size(self) -> int:
        """Return the number of different networks."""
        return math.prod(self._subtree_size(choice) for choice in self.choices if choice.depends_on is None)

    def _subtree_size(self, choice: Choice) -> int:
        dependants = [other for other in self.choices if other.depends_on == choice.name]
        return sum(math.prod(self._subtree_size(other) for other in dependants if value in other.on_for) for value in choice.allowed)

    def enumerate(self) -> Iterator[Architecture]:
        """Yield every architecture once, in lexical order of its values."""
        yield from self._extensions({}, 0)

    def _extensions(self, values: dict[str, Value | None], column: int) -> Iterator[Architecture]:
        if column == len(self.choices):
            yield Architecture(self.name, values)
            return
        choice = self.choices[column]
        on = choice.depends_on is None or values[choice.depends_on] in choice.on_for
        for value in choice.allowed if on else (None,):
            yield from self._extensions({**values, choice.name: value}, column + 1)

    # --- populations ------------------------------------------------------------------------------------------------

    def encode(self, architectures: Iterable[Architecture]) -> Population:
        """Return the population of these architectures, shape (n_architectures, n_choices).

        Raises:
            ArchitectureError: an architecture of another space, or one that is not in canonical form.
        """
        rows = []
        for architecture in architectures:
            if architecture.space != self.name:
                raise ArchitectureError(f"architecture of space {architecture.space!r} given to space {self.name!r}; use its own space")
            rows.append([self._code(choice, architecture.values.get(choice.name)) for choice in self.choices])
        population = np.array(rows, dtype=np.int8).reshape(len(rows), len(self.choices))
        self._refuse_other_forms(population)
        return population

    def _refuse_other_forms(self, population: Population) -> None:
        canonical = self.switched_off(np.where(population == OFF, 0, population))
        for row, column in np.argwhere(canonical != population)[:1]:
            fault = "has no value" if population[row, column] == OFF else "has a value though it is switched off"
            raise ArchitectureError(f"slot {self.choices[column].name!r} {fault}; bring architectures into canonical form with space.architecture()")

    @cached_property
    def _codes(self) -> dict[str, dict[Value, int]]:
        return {choice.name: {value: code for code, value in enumerate(choice.values)} for choice in self.choices}

    def _code(self, choice: Choice, value: Value | None) -> int:
        if value is None:
            return OFF
        try:
            return self._codes[choice.name][value]
        except KeyError:
            raise ArchitectureError(f"slot {choice.name!r} has the value {value!r}; expected one of {list(choice.values)}") from None

    def decode(self, population: Population) -> list[Architecture]:
        """Return the architectures of a population, in order."""
        tables = [[*choice.values, None] for choice in self.choices]
        names = [choice.name for choice in self.choices]
        return [Architecture(self.name, {n: t[c] for n, t, c in zip(names, tables, row, strict=True)}) for row in population.tolist()]

    def one_hot(self, population: Population, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
        """Return one column for each value of each choice, shape (n_architectures, n_values); all zero where a choice is off."""
        columns = [population[:, [i]] == np.arange(len(choice.values), dtype=np.int8) for i, choice in enumerate(self.choices)]
        return np.concatenate(columns, axis=1).astype(dtype)

    def sample_population(self, count: int, rng: np.random.Generator) -> Population:
        """Return `count` random architectures, repeats possible."""
        columns = [choice.allowed_codes[rng.integers(len(choice.allowed_codes), size=count)] for choice in self.choices]
        return self.switched_off(np.stack(columns, axis=1))

    def sample_different(self, count: int, rng: np.random.Generator) -> Population:
        """Return `count` different random architectures in random order, or all of them where the space has no more.

        They are drawn like `sample_population`'s, so that a larger count from the same seed begins with a smaller one's; when half
        of the space or more is wanted, every network is as likely as another.
        """
        wanted = min(count, self.size())
        if 2 * wanted >= self.size():  # drawing would find the last ones only after very many repeats
            return self.encode(self.enumerate())[rng.permutation(self.size())[:wanted]]
        found = self.sample_population(0, rng)
        while len(found) < wanted:
            draws = -(-(wanted - len(found)) // DRAWN_AT_ONCE)
            found = unique_rows(np.concatenate([found, *(self.sample_population(DRAWN_AT_ONCE, rng) for _ in range(draws))]))
        return found[:wanted]

    def mutate_population(self, population: Population, rng: np.random.Generator, probability: float | Mapping[str, float] = 0.1) -> Population:
        """Return the population with slots redrawn: with one probability, or one for each kind of choice (others stay)."""
        if not isinstance(probability, Mapping):
            probability = {choice.kind: probability for choice in self.choices}
        fresh = np.stack([c.allowed_codes[rng.integers(len(c.allowed_codes), size=len(population))] for c in self.choices], axis=1)
        chance = np.array([probability.get(choice.kind, 0.0) for choice in self.choices])
        redraw = (rng.random(population.shape) < chance) | (population == OFF)
        return self.switched_off(np.where(redraw, fresh, population))

    def crossover_populations(self, mothers: Population, fathers: Population, rng: np.random.Generator) -> Population:
        """Return children that take each slot from either parent; a slot off in one parent comes from the other."""
        from_mother = rng.random(mothers.shape) < 0.5
        children = np.where(from_mother, mothers, fathers)
        children = np.where(children == OFF, np.maximum(mothers, fathers), children)
        return self.switched_off(children)

    def switched_off(self, population: Population) -> Population:
        """Return the population in canonical form: choices that others switch off set to -1."""
        result = np.array(population, dtype=np.int8)
        for column, controller, off in self._switches:
            result[off[result[:, controller]], column] = OFF
        return result

    @cached_property
    def _switches(self) -> list[tuple[int, int, np.ndarray[Any, np.dtype[np.bool_]]]]:
        """Column of each choice that can be off, column of the one it depends on, and whether it is off by that one's code (-1 is the last)."""
        switches = []
        for column, choice in enumerate(self.choices):
            if choice.depends_on is not None:
                controller = self.position[choice.depends_on]
                off = np.ones(2**7, dtype=np.bool_)
                off[[self.choices[controller].values.index(value) for value in choice.on_for]] = False
                switches.append((column, controller, off))
        return switches


def unique_rows(population: Population) -> Population:
    """Return the different rows of a population, in order of first appearance."""
    rows = np.ascontiguousarray(population).view(np.dtype((np.void, population.shape[1]))).ravel()
    _, first = np.unique(rows, return_index=True)
    return population[np.sort(first)]
