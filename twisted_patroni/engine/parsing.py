"""Texts of configuration and requests, read as upstream reads them."""

from __future__ import annotations

from typing import Any

from patroni.exceptions import PostgresException
from patroni.postgresql.misc import postgres_version_to_int
from patroni.utils import parse_bool, parse_int


class Parsing:
    """The part of the engine that needs nothing but the text."""

    def parse_size(self, text: str) -> int | None:
        """Parse an amount with an optional unit into bytes as PostgreSQL's settings do."""
        return _parsed(text, "B")

    def parse_seconds(self, value: Any) -> int | None:
        """Parse a duration with an optional unit into seconds as PostgreSQL's settings do."""
        return _parsed(value, "s")

    def parse_version(self, text: str) -> int:
        """Parse a PostgreSQL version."""
        try:
            return postgres_version_to_int(text)
        except PostgresException as error:
            raise ValueError(error.value) from error

    def parse_bool(self, value: Any) -> bool | None:
        """Parse a truth value as the engine does, ``None`` if it is none."""
        return parse_bool(value)


def _parsed(value: Any, unit: str) -> int | None:
    try:
        return parse_int(value, unit)
    except OverflowError:  # "1e400" is infinite, which upstream's parser does not expect
        return None
