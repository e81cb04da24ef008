"""What a client prefers (RFC 7240), and the key by which it marks a request it may repeat. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Seconds that a client can have a request wait for the end of its operation, at most.
LONGEST_WAIT = 60
#: Characters of an idempotency key, at most.
LONGEST_KEY = 255

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_PAIR = re.compile(rf"(?P<name>{_TOKEN})(?:[ \t]*=[ \t]*(?P<value>{_TOKEN}|{_QUOTED}))?")
_BLANKS = re.compile(r"[ \t]*")
_KEY = re.compile(r"[!-~]+")


class BadHeader(ValueError):
    """A header cannot be understood; the text is the sentence for the client."""


@frozen
class Preferences:
    """What is honoured of what a client prefers.

    :param respond_async: be answered before the operation has ended.
    :param wait: but wait for its end for so many seconds first.
    """

    respond_async: bool = False
    wait: int = 0


def parse_prefer(lines: Iterable[str]) -> Preferences:
    """Read the ``Prefer`` headers of a request; what is unknown is ignored.

    :param lines: their values, in the order sent.
    :raise BadHeader: if they cannot be read.
    """
    found: dict[str, str] = {}
    for line in lines:
        for name, value in _preferences(line):
            found.setdefault(name.lower(), value)  # the first of each name counts
    wait = found.get("wait", "0")
    if not (wait.isascii() and wait.isdigit()):
        raise BadHeader(f"Prefer: wait takes a whole number of seconds, but got {wait[:40]!r}")
    seconds = LONGEST_WAIT if len(wait.lstrip("0")) > 2 else min(int(wait), LONGEST_WAIT)
    return Preferences(found.get("respond-async") == "", seconds)


def _preferences(line: str) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the preferences in a header; parameters are only checked."""
    place, end = 0, len(line)
    first = True  # of what is between two commas; what follows are its parameters
    while True:
        place = _after_blanks(line, place)
        pair = _PAIR.match(line, place)
        if pair is not None:
            if first:
                yield pair["name"], _unquoted(pair["value"] or "")
            first = False
            place = _after_blanks(line, pair.end())
        if place == end:
            return
        if line[place] == ",":
            first = True
        elif line[place] != ";" or first:
            raise BadHeader(f"Prefer: {line[place:][:40]!r} is not expected there")
        place += 1


def _after_blanks(line: str, place: int) -> int:
    blanks = _BLANKS.match(line, place)
    assert blanks is not None
    return blanks.end()


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def parse_key(lines: list[str]) -> str | None:
    """Read the ``Idempotency-Key`` header of a request, with or without quotation marks.

    :param lines: the values of these headers.
    :return: the key, ``None`` if there is none.
    :raise BadHeader: if it is not one key of visible ASCII characters.
    """
    if not lines:
        return None
    if len(lines) > 1:
        raise BadHeader("Idempotency-Key: there is more than one")
    key = lines[0].strip(" \t")
    if key.startswith('"'):
        if re.fullmatch(r'"(?:[ !#-\[\]-~]|\\["\\])*"', key) is None:
            raise BadHeader("Idempotency-Key: the quoted text cannot be read")
        key = _unquoted(key)
    if _KEY.fullmatch(key) is None or len(key) > LONGEST_KEY:
        raise BadHeader(
            f"Idempotency-Key: expected 1 to {LONGEST_KEY} visible ASCII characters, but got"
            f" {len(key)} characters" + ("" if len(key) > LONGEST_KEY else ", not all of that kind")
        )
    return key
