"""Text from the network for a terminal: without what would steer it, and as wide as it is shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from unicodedata import category, combining, east_asian_width

#: Characters of one text that are kept.
LONGEST = 300

_STRANGE = frozenset({"Zl", "Zp"})


def clean(value: Any, longest: int = LONGEST) -> str:
    """Return a text that only prints: whatever could steer a terminal is a question mark.

    :param value: anything; what is no text is written as one.
    :param longest: how many characters are kept.
    """
    text = value if isinstance(value, str) else str(value)
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join("?" if _steers(letter) else letter for letter in cut)


def _steers(letter: str) -> bool:
    # All of C: controls, marks of direction, surrogates, and what nobody has defined.
    kind = category(letter)
    return kind[0] == "C" or kind in _STRANGE


def width(text: str) -> int:
    """Return how many columns a text takes.

    :param text: a text that is clean.
    """
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    if combining(letter) or category(letter) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(letter) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return a text that takes no more columns than there are, marked where it was longer.

    :param text: a text that is clean.
    :param columns: how many there are.
    """
    if width(text) <= columns:
        return text
    taken, kept = 0, []
    for letter in text:
        taken += _columns(letter)
        if taken > columns - 1:
            break
        kept.append(letter)
    return "".join(kept) + ("…" if columns > 0 else "")


def fit(text: str, columns: int, *, right: bool = False) -> str:
    """Return a text that takes exactly so many columns.

    :param text: a text that is clean.
    :param columns: how many.
    :param right: put it to the right.
    """
    shown = cut(text, columns)
    space = " " * (columns - width(shown))
    return space + shown if right else shown + space


def size(count: int) -> str:
    """Return a number of bytes as people say it.

    :param count: the number.
    """
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def span(seconds: float) -> str:
    """Return a length of time as people say it, in one or two units.

    :param seconds: the length.
    """
    left = max(0, int(seconds))
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts: list[str] = []
    for length, name in units:
        count, left = divmod(left, length)
        if count or parts or length == 1:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def moment(value: Any) -> datetime | None:
    """Read a time of the wire format.

    :param value: perhaps a time.
    """
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo is not None else None


def at(value: Any, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time of the wire format as the clock on the wall shows it.

    :param value: perhaps a time; if not, it is shown as it is.
    :param form: how, as for :meth:`datetime.strftime`; by default with its date.
    """
    found = moment(value)
    if found is None:
        return clean(value)
    try:
        return found.astimezone().strftime(form)
    except (OverflowError, ValueError, OSError):  # a time nobody lives to see
        return clean(value)
