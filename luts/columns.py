"""Types of columns that refuse what is not of them: SQLite returns whatever a damaged file says."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine


class Checked(TypeDecorator[Any]):
    """A column type whose values must be of these Python types when read."""

    impl = Text
    cache_ok = True

    def __init__(self, stored: TypeEngine[Any], *kinds: type) -> None:
        super().__init__()
        self.stored, self.kinds = stored, kinds

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that the database keeps."""
        return self.stored.dialect_impl(dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value.

        Raises:
            TypeError: it is of another type.
        """
        if value is not None and not isinstance(value, self.kinds):
            raise TypeError(f"{value!r:.50} where {self.kinds[0].__name__} is expected")
        return value


TEXT, WHOLE, BYTES = Checked(Text(), str), Checked(Integer(), int), Checked(LargeBinary(), bytes)
NUMBER = Checked(Float(), float, int)
LARGE = Checked(BigInteger(), int)
