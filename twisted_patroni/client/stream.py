"""The body of an answer that does not end as long as all is well: messages, one after the other."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone

from twisted_patroni.client.reasons import NoAnswer, reason_of
from twisted_patroni.client.shapes import mapping, text
from twisted_patroni.client.sse import Message, SseParser, TooLong

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.iweb import IResponse

#: Seconds between two signs of life of a node that has nothing to tell.
HEARTBEAT = 15.0
#: Seconds without any after which it counts as dead.
SILENCE = 2.5 * HEARTBEAT
#: Characters of an event's id that is remembered.
LONGEST_POSITION = 200


def is_position(name: str) -> bool:
    """Tell whether an id is one that can be sent back in a header.

    :param name: the id.
    """
    return 0 < len(name) <= LONGEST_POSITION and name.isascii() and name.isprintable()


def events_request(types: Iterable[str], after: str | None) -> tuple[str, dict[str, str]]:
    """Return path and headers of a request for a stream of events.

    :param types: the types of events to be told; none for all.
    :param after: the position to go on after; ``None`` to begin with a snapshot.
    """
    wanted = quote(",".join(types), safe=",")
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after is not None:
        headers["Last-Event-ID"] = after
    return f"/events?types={wanted}" if wanted else "/events", headers


def is_stream(response: IResponse) -> bool:
    """Tell whether an answer is a stream of events.

    :param response: the answer.
    """
    kinds = response.headers.getRawHeaders("Content-Type") or [""]
    right: bool = kinds[0].lower().startswith("text/event-stream")
    return right and response.code == HTTPStatus.OK


def farewell(document: Mapping[str, Any]) -> NoAnswer:
    """Return why a node ends its stream, by what it says at last.

    :param document: the message's object, of the type ``end``.
    """
    reason = text(mapping(document.get("data", document)).get("reason"))
    return NoAnswer("ended it" if reason is None else f"ended it: {reason}")


class Stream(Protocol):
    """A stream of events.

    :param clock: tells when it has been silent for too long.
    :param take: takes each message; what it raises ends the stream.
    :ivar ended: fails when it has ended, with the reason as :class:`NoAnswer`.
    :ivar gone: fires when its connection has ended, which with TLS takes the node's consent.
    """

    def __init__(self, clock: IReactorTime, take: Callable[[Message], None]) -> None:
        self._clock = clock
        self._take = take
        self._parser = SseParser()
        self._silence: IDelayedCall | None = clock.callLater(SILENCE, self._silent)
        self.ended: Deferred[None] = Deferred(lambda _: self.stop())
        self.gone: Deferred[None] = Deferred()

    def stop(self) -> None:
        """Wait for nothing more."""
        self._hush()
        if self.transport is not None:
            self.transport.loseConnection()

    def pause(self) -> None:
        """Read nothing until :meth:`resume`, and expect no sign of life meanwhile."""
        self._hush()
        if self.transport is not None:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    def resume(self) -> None:
        """Read again."""
        if self._silence is None and not self.ended.called:
            self._silence = self._clock.callLater(SILENCE, self._silent)
            if self.transport is not None:
                self.transport.resumeProducing()  # type: ignore[attr-defined]

    def _hush(self) -> None:
        silence, self._silence = self._silence, None
        if silence is not None and silence.active():
            silence.cancel()

    def end(self, reason: Exception) -> None:
        """Read nothing more.

        :param reason: why.
        """
        self._hush()
        if not self.ended.called:
            self.ended.errback(reason)

    def _silent(self) -> None:
        self.end(NoAnswer(f"has been silent for {SILENCE:g} seconds"))

    def dataReceived(self, data: bytes) -> None:
        """Pass on the messages that are complete by now."""
        if self.ended.called:
            return
        if self._silence is not None:
            self._silence.reset(SILENCE)
        try:
            for message in self._parser.feed(data):
                self._take(message)
                if self.ended.called:
                    return
        except TooLong as error:
            self.end(NoAnswer(f"tells too much: {error}"))
        except Exception as error:  # of who takes them, too: whoever waits for the end is to know
            self.end(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Know that there are no more."""
        self.end(NoAnswer(reason_of(reason.value)))
        if not self.gone.called:
            self.gone.callback(None)
