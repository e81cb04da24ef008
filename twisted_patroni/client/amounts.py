"""Amounts as people write them: bytes that a replica may be behind (``1MB``), and seconds."""

from __future__ import annotations

import re
from decimal import Decimal

_AMOUNT = re.compile(
    r"\s*(?P<number>\d{1,18}(\.\d{0,18})?(e\+?\d{1,2})?)\s*(?P<unit>|B|kB|MB|GB|TB)\s*", re.ASCII
)
#: Seconds that may be waited at the most.
LONGEST = 1e6
_UNITS = {"": 1, "B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def size_of(text: str) -> int:
    """Return a number of bytes, written alone or with a unit of PostgreSQL's.

    >>> size_of("1MB"), size_of("1.5 kB"), size_of("500")
    (1048576, 1536, 500)

    :param text: the number.
    :raise ValueError: if it is none.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a number of bytes like 1MB")
    return int(Decimal(found["number"]) * _UNITS[found["unit"]])


def bytes_of(lag: int | str | None) -> int | None:
    """Return how many bytes a replica may be behind.

    :param lag: their number, or one with a unit; ``None`` for any number.
    :raise ValueError: if it is none; it begins with the parameter's name.
    """
    if lag is None:
        return None
    try:
        return size_of(str(lag))
    except ValueError as error:
        raise ValueError(f"lag: {error}") from None


def query_of(lag: int | str | None) -> str | None:
    """Return how far a member may be behind, as it is written in a URL.

    Nodes take an amount that they cannot read for no bound at all.

    :param lag: bytes, or a number with a unit.
    :raise ValueError: if no node could read it.
    """
    return None if bytes_of(lag) is None else str(lag).strip()


def seconds_of(text: str) -> float:
    """Return a time to wait.

    :param text: its seconds.
    :raise ValueError: if it is none, or without an end.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= LONGEST:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return seconds
