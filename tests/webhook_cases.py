"""What the tests of webhooks share: settings, messages, and a poster that the test answers for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from tests.sections import settings
from twisted_patroni.webhooks.judging import Answer, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted_patroni.settings import WebhookSettings

SECRET = "whsec_YSBzZWNyZXQgb2YgYXQgbGVhc3QgMjQgYnl0ZXM="


def webhook(url: str = "http://127.0.0.1:9000/in", **keys: Any) -> WebhookSettings:
    """Return the settings of one webhook."""
    (found,) = settings(webhooks=[{"url": url, **keys}]).webhooks
    return found


def message(number: int, event_type: str = "leader") -> Message:
    """Return a message with a number."""
    return Message(f"stream.{number}", event_type, f'{{"number":{number}}}'.encode())


@define(eq=False)
class FakePoster:
    """Keeps what it is to post; the test answers, or :attr:`answers` does at once.

    :ivar sent: headers and body of each attempt.
    :ivar waiting: the attempts that have no answer yet.
    :ivar answers: what is answered at once: statuses, answers and errors.
    """

    reactor: Any = None
    settings: WebhookSettings | None = None
    in_lane: Callable[..., Any] | None = None
    sent: list[tuple[Mapping[str, str], bytes]] = field(factory=list)
    waiting: list[Deferred[Answer]] = field(factory=list)
    answers: list[int | Answer | Exception] = field(factory=list)
    closed: bool = False

    def post(self, headers: Mapping[str, str], body: bytes) -> Deferred[Answer]:
        """Post a body."""
        self.sent.append((headers, body))
        self.waiting.append(Deferred())
        posted = self.waiting[-1]
        if self.answers:
            self.answer(self.answers.pop(0))
        return posted

    def answer(self, answer: int | Answer | Exception = 200) -> None:
        """Answer the attempt that waits."""
        posted = self.waiting.pop()
        if isinstance(answer, Exception):
            posted.errback(answer)
        else:
            posted.callback(Answer(answer) if isinstance(answer, int) else answer)

    def close(self) -> Deferred[None]:
        """End the connection."""
        self.closed = True
        return succeed(None)

    @property
    def ids(self) -> list[str]:
        """The ids of the attempts, without the stream's name."""
        return [headers["webhook-id"].rpartition(".")[2] for headers, _ in self.sent]
