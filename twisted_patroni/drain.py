"""A drained node: load balancers are told to send nobody here, though nothing else has changed."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime

_log = Logger()

#: Characters of a text that a client gives.
LONGEST = 200
_KEYS = ("reason", "owner", "expires", "primary")
#: Control characters, invisible ones that change how others look, half characters, line ends.
_UNWANTED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class BadDrain(ValueError):
    """What is asked for is not possible; the text begins with the key that is wrong."""


@frozen
class Drain:
    """One drain.

    :param since: when it was asked for.
    :param owner: by whom, if that is known.
    :param reason: what for, if that was said.
    :param expires: when it ends by itself, ``None`` for never.
    :param primary: it covers the checks that look for a primary, too.
    """

    since: datetime
    owner: str | None = None
    reason: str | None = None
    expires: datetime | None = None
    primary: bool = False

    @property
    def document(self) -> dict[str, Any]:
        """It as JSON."""
        return {
            "since": self.since.isoformat(),
            "owner": self.owner,
            "reason": self.reason,
            "expires": self.expires and self.expires.isoformat(),
            "primary": self.primary,
        }


@define(eq=False)
class Drains:
    """Whether this node is drained, and until when. A restart forgets it.

    :param clock: tells Unix time, and when a drain expires.
    :ivar current: the drain, ``None`` while there is none.
    :ivar on_change: called without arguments after each change.
    """

    clock: IReactorTime
    current: Drain | None = field(default=None, init=False)
    on_change: list[Callable[[], None]] = field(factory=list, init=False)
    _expiry: IDelayedCall | None = field(default=None, init=False)

    def document(self) -> dict[str, Any] | None:
        """Return the drain as JSON, ``None`` while there is none."""
        return None if self.current is None else self.current.document

    def now(self) -> datetime:
        """Return the present time, in UTC."""
        return datetime.fromtimestamp(self.clock.seconds(), UTC)

    def begin(
        self,
        *,
        reason: str | None = None,
        owner: str | None = None,
        expires: datetime | None = None,
        primary: bool = False,
    ) -> Drain:
        """Drain the node, in place of a drain that there may be; see :class:`Drain`.

        :param reason: what for.
        :param owner: who wants it.
        :param expires: when it ends by itself.
        :param primary: cover the checks that look for a primary, too.
        :return: the drain.
        """
        self.stop()
        now = self.now()
        drain = Drain(now, owner, reason, expires, primary)
        if expires is not None:
            seconds = max(0.0, (expires - now).total_seconds())
            self._expiry = self.clock.callLater(seconds, self._expire)
        _log.info(
            "This node is drained{also} until {until}, by {owner}, reason: {reason}",
            also=", also as primary," if primary else "",
            until=expires.isoformat() if expires else "further notice",
            owner=owner or "nobody known",
            reason=reason or "not given",
        )
        self._change(drain)
        return drain

    def end(self) -> bool:
        """Let load balancers come back.

        :return: whether there was a drain to end.
        """
        self.stop()
        if self.current is None:
            return False
        _log.info("This node is not drained any more")
        self._change(None)
        return True

    def stop(self) -> None:
        """Leave things as they are, whatever time it becomes."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire(self) -> None:
        self._expiry = None
        _log.info("The drain of this node has expired")
        self._change(None)

    def _change(self, drain: Drain | None) -> None:
        self.current = drain
        for listener in tuple(self.on_change):
            try:
                listener()
            except Exception:  # what others make of it is nothing to the client who asked
                _log.failure("A listener to drains has failed")


def parse_drain(
    body: Mapping[str, Any], parse_seconds: Callable[[Any], int | None], now: datetime
) -> dict[str, Any]:
    """Read what a client sends to drain a node.

    :param body: the JSON object.
    :param parse_seconds: parses durations with units.
    :param now: the present time, aware of its zone.
    :return: the parameters of :meth:`Drains.begin` that it gives.
    :raise BadDrain: if one is wrong.
    """
    for key in body:
        if key not in _KEYS:
            known = ", ".join(_KEYS)
            raise BadDrain(f"{_shown(key)} is not known here, only {known}")
    texts = {key: body.get(key) for key in ("reason", "owner")}
    given = {key: _text(key, text) for key, text in texts.items() if text not in (None, "")}
    primary = body.get("primary", False)
    if not isinstance(primary, bool):
        raise BadDrain(f"primary: expected true or false, but got {_shown(primary)}")
    expires = body.get("expires")
    end = None if expires is None else _end(expires, parse_seconds, now)
    return {**given, "expires": end, "primary": primary}


def fit(text: str) -> str:
    """Return a name of somebody else's making as it may stand in a drain.

    :param text: the name.
    """
    return "".join(each if _is_plain(each) else "?" for each in text[:LONGEST])


def _is_plain(character: str) -> bool:
    return unicodedata.category(character) not in _UNWANTED


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadDrain(f"{key}: expected a text, but got {_shown(value)}")
    if len(value) > LONGEST:
        raise BadDrain(f"{key}: expected at most {LONGEST} characters, but got {len(value)}")
    if not all(map(_is_plain, value)):
        raise BadDrain(f"{key}: expected a text without control characters")
    return value


def _end(value: Any, parse_seconds: Callable[[Any], int | None], now: datetime) -> datetime:
    try:
        expires = _moment(value, parse_seconds, now)
    except OverflowError:
        raise BadDrain(f"expires: {_shown(value)} is out of range") from None
    if expires is None:
        raise BadDrain(
            'expires: expected seconds, a duration such as "30min" or an ISO 8601 time with its'
            f' zone such as "2026-07-01T12:00:00+00:00", but got {_shown(value)}'
        )
    if expires <= now:
        raise BadDrain(f"expires: {_shown(value)} is not in the future")
    return expires


def _moment(
    value: Any, parse_seconds: Callable[[Any], int | None], now: datetime
) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > LONGEST:
        return None
    seconds = parse_seconds(value)
    if seconds is not None:
        return now + timedelta(seconds=seconds)
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return None if when is None or when.tzinfo is None else when.astimezone(UTC)
