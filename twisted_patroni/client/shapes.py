"""Parts of a JSON document, each as it should be, or as nothing: nodes may send anything."""

from __future__ import annotations

from datetime import datetime
from typing import Any

#: Objects and lists that may be within each other.
MAX_DEPTH = 32


def is_flat(value: object, depth: int = MAX_DEPTH) -> bool:
    """Tell whether a value can be written again, compared and shown without many calls.

    :param value: what a document holds.
    :param depth: how many objects and lists may be within each other.
    """
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(is_flat(each, depth - 1) for each in inner)


def text(value: object) -> str | None:
    """Return a text that is none but a text.

    :param value: anything.
    """
    return value if isinstance(value, str) else None


def number(value: object) -> int | None:
    """Return a whole number that is none but that, and of a size that PostgreSQL knows.

    :param value: anything.
    """
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**64:
        return None
    return value


def moment(value: object) -> datetime | None:
    """Return a time, ``None`` for a text that is none.

    :param value: anything.
    """
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def mapping(value: object) -> dict[str, Any]:
    """Return an object of JSON, an empty one for anything else.

    :param value: anything.
    """
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[Any]:
    """Return a list of JSON, an empty one for anything else.

    :param value: anything.
    """
    return value if isinstance(value, list) else []


def texts(value: object) -> tuple[str, ...]:
    """Return the texts in a list of JSON; what is none has none.

    :param value: anything.
    """
    return tuple(each for each in listed(value) if isinstance(each, str))


def documents(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list of JSON; what is none has none.

    :param value: anything.
    """
    return [each for each in listed(value) if isinstance(each, dict)]
