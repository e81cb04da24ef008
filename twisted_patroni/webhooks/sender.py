"""Sends one receiver its events, one after the other, again and again where that may help."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from attrs import define, field
from OpenSSL import SSL
from service_identity.exceptions import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed
from twisted.logger import Logger
from twisted.web.client import ResponseDone

from twisted_patroni.pem import TlsError
from twisted_patroni.webhooks.judging import Verdict, headers, judge, pause

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

    from twisted_patroni.settings import WebhookSettings
    from twisted_patroni.webhooks.judging import Answer, Message

_log = Logger()


class Poster(Protocol):
    """Makes attempts; :class:`~twisted_patroni.webhooks.transport.Transport` is one."""

    def post(self, headers: Mapping[str, str], body: bytes) -> Deferred[Answer]:
        """Send a body.

        :param headers: the headers.
        :param body: the body.
        """

    def close(self) -> Deferred[None]:
        """End the connection."""


@define(eq=False)
class Sender:
    """The queue of one receiver, and who works on it.

    :param settings: the receiver.
    :param poster: makes the attempts.
    :param clock: the time.
    :param random: returns a number from 0 to 1.
    :param counts: how many events were ``success``, ``failure`` and ``dropped``, and how many
        ``attempts`` there were.
    :ivar on_idle: called when there is nothing to do any more.
    """

    settings: WebhookSettings
    poster: Poster
    clock: IReactorTime
    random: Callable[[], float]
    counts: Counter[str]
    on_idle: Callable[[], None] = field(default=lambda: None, init=False)
    _queue: deque[Message] = field(factory=deque, init=False)
    _current: Message | None = field(default=None, init=False)
    _running: Deferred[None] | None = field(default=None, init=False)
    _waiting: Deferred[None] | None = field(default=None, init=False)
    _complaint: str = field(default="", init=False)
    _gone: bool = field(default=False, init=False)
    _leaving: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)

    @property
    def pending(self) -> int:
        """How many events are on their way or wait for it."""
        return len(self._queue) + (self._current is not None)

    def put(self, message: Message) -> None:
        """Send a message when it is its turn; the oldest that waits goes if there is no room.

        :param message: the message.
        """
        if self._gone or self._closed:
            self.counts["dropped"] += 1
            return
        if len(self._queue) >= self.settings.queue:
            self._queue.popleft()
            self.counts["dropped"] += 1
        self._queue.append(message)
        if self._running is None:
            self._running = Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._crashed).addBoth(self._rest)

    def lost(self, events: int) -> None:
        """Count events that nobody can send any more.

        :param events: how many.
        """
        self.counts["dropped"] += events

    def resume(self) -> None:
        """Send events again to a receiver that had enough of them."""
        self._gone = False

    def hurry(self) -> None:
        """Wait no more between attempts: each event has one more."""
        self._leaving = True
        self._wake()

    def hand_over(self) -> list[Message]:
        """Send nothing more, and return what is not delivered."""
        messages = [*([] if self._current is None else [self._current]), *self._queue]
        self._queue.clear()
        self._current = None
        self.close()
        return messages

    def close(self) -> int:
        """Send nothing more, and end the connection.

        :return: how many events are not delivered.
        """
        pending = self.pending
        self._closed = True
        self._drop()
        if self._running is not None:
            self._running.cancel()
        self.poster.close().addErrback(
            lambda failure: _log.debug("Closing a connection: {error}", error=failure.value)
        )
        return pending

    def _drop(self) -> None:
        self.counts["dropped"] += self.pending
        self._queue.clear()
        self._current = None

    def _crashed(self, failure: Failure) -> None:
        if not self._closed:
            _log.failure("The webhook {name} has stopped", failure, name=self.settings.name)
            self._drop()

    def _rest(self, result: object) -> None:
        self._running = None
        self.on_idle()

    async def _run(self) -> None:
        while self._queue and not self._closed:
            self._current = self._queue.popleft()
            verdict = await self._deliver(self._current)
            if self._closed:
                return
            if verdict is Verdict.GONE:
                self._gone = True
                self._drop()
                _log.warn(
                    "The webhook {name} answers 410: it gets no events until the next reload",
                    name=self.settings.name,
                )
                return
            self._current = None
            self.counts["success" if verdict is Verdict.DELIVERED else "failure"] += 1

    async def _deliver(self, message: Message) -> Verdict:
        """Return what has become of a message at last."""
        attempts = 0
        while True:
            attempts += 1
            answer, reason = await self._attempt(message)
            verdict = Verdict.AGAIN if answer is None else judge(answer.code)
            self._note(verdict, reason, attempts)
            if verdict is not Verdict.AGAIN or self._closed:
                return verdict
            if self._leaving or attempts > self.settings.retries:
                return Verdict.FAILED
            now = self.clock.seconds()
            await self._wait(pause(attempts, answer, self.random, now))

    async def _attempt(self, message: Message) -> tuple[Answer | None, str]:
        self.counts["attempts"] += 1
        timestamp = int(self.clock.seconds())
        try:
            answer = await self.poster.post(
                headers(message, self.settings.secret, timestamp), message.body
            )
        except CancelledError:
            raise
        except Exception as error:
            return None, reason_of(error)
        return answer, f"it answers {answer.code}"

    async def _wait(self, seconds: float) -> None:
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        timer = self.clock.callLater(seconds, self._wake)
        try:
            await waiting
        finally:
            self._waiting = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _note(self, verdict: Verdict, reason: str, attempts: int) -> None:
        """Log what is new: not each event that fails for the same reason.

        What the second attempt mends is not worth a line.
        """
        name = self.settings.name
        if self._closed or verdict is Verdict.GONE:
            return
        if verdict is Verdict.DELIVERED:
            if self._complaint:
                _log.info("The webhook {name} works again", name=name)
            self._complaint = ""
        elif verdict is Verdict.AGAIN and attempts == 1 and self.settings.retries:
            return
        elif reason != self._complaint:
            self._complaint = reason
            _log.warn("The webhook {name} does not work: {reason}", name=name, reason=reason)


def reason_of(error: BaseException | None) -> str:
    """Say why there was no answer; nothing in it is of the URL.

    :param error: what the attempt failed with.
    """
    inner = getattr(error, "reasons", None)
    if inner:  # of a response or a request that was cut short
        return reason_of(inner[0].value)
    if isinstance(error, DeferredTimeout | CancelledError | ConnectingCancelledError):
        return "no answer in time"
    if isinstance(error, VerificationError):
        return "its certificate is for another name"
    if isinstance(error, SSL.Error):
        entries = error.args[0] if error.args else ()
        texts = [str(each[-1]) for each in entries] if isinstance(entries, list) else []
        return f"TLS fails: {', '.join(texts) or 'the connection was closed'}"
    if isinstance(error, ConnectionClosed | ResponseDone):
        return "it closed the connection"
    if isinstance(error, ConnectError):
        return f"it cannot be reached: {str(error).rstrip('.')}"
    if isinstance(error, TlsError):
        return str(error)
    if isinstance(error, OSError):
        return f"it cannot be reached: {error.strerror or type(error).__name__}"
    return f"it cannot be asked: {type(error).__name__}"
