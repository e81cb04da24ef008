"""What goes with each attempt, and what follows from how it ends. Pure."""

from __future__ import annotations

import base64
import enum
import hashlib
import hmac
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from attrs import field, frozen

from twisted_patroni import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds to the first new attempt, and between two of them, at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Seconds for which a receiver may ask to be left alone.
LONGEST_REQUEST = 300.0

_GONE = 410
_TRY_AGAIN = frozenset({408, 425, 429})


@frozen
class Message:
    """An event on its way.

    :param id: the same in each attempt.
    :param type: the event's type.
    :param body: what is sent.
    """

    id: str
    type: str
    body: bytes = field(repr=False)


@frozen
class Answer:
    """What a receiver has answered.

    :param code: the HTTP status.
    :param retry_after: its ``Retry-After`` header, if it has one.
    """

    code: int
    retry_after: str | None = None


class Verdict(enum.Enum):
    """What has become of an event by one attempt."""

    #: The receiver has it.
    DELIVERED = "delivered"
    #: It will never have it.
    FAILED = "failed"
    #: It may have it later.
    AGAIN = "again"
    #: It wants no events any more.
    GONE = "gone"


def judge(code: int) -> Verdict:
    """Tell what a status means.

    :param code: the status.
    """
    if 200 <= code <= 299:
        return Verdict.DELIVERED
    if code == _GONE:
        return Verdict.GONE
    return Verdict.AGAIN if code in _TRY_AGAIN or code >= 500 else Verdict.FAILED


def pause(attempts: int, answer: Answer | None, random: Callable[[], float], now: float) -> float:
    """Return how many seconds to wait before the next attempt.

    :param attempts: how many there were.
    :param answer: what came of the last one, ``None`` for no answer.
    :param random: returns a number from 0 to 1.
    :param now: Unix time.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempts - 1))
    asked = 0.0 if answer is None else _asked(answer.retry_after, now)
    return max(longest * random(), asked)


def _asked(text: str | None, now: float) -> float:
    """Return for how long a receiver wants to be left alone; nonsense counts as no time."""
    if text is None:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_REQUEST)
    try:
        moment = parsedate_to_datetime(text)
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_REQUEST)


def signature(secret: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """Return the signature as Standard Webhooks have it.

    :param secret: the key.
    :param identity: the message's id.
    :param timestamp: Unix time of the attempt.
    :param body: what is sent.
    """
    signed = f"{identity}.{timestamp}.".encode() + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def headers(message: Message, secret: bytes | None, timestamp: int) -> dict[str, str]:
    """Return the headers of one attempt.

    :param message: what is sent.
    :param secret: signs it, if there is one.
    :param timestamp: Unix time of the attempt.
    """
    found = {
        "Content-Type": "application/json",
        "User-Agent": f"twisted_patroni/{__version__}",
        "webhook-id": message.id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        found["webhook-signature"] = signature(secret, message.id, timestamp, message.body)
    return found
