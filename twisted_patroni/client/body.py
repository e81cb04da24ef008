"""Bodies of requests and answers that are in memory as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from twisted_patroni.client.reasons import NoAnswer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConsumer
    from twisted.python.failure import Failure

#: Bytes of an answer that is read as a whole.
MAX_BODY = 4 * 1024 * 1024


@implementer(IBodyProducer)
@define(eq=False)
class Bytes:
    """A body that is there as a whole.

    :param content: the body.
    """

    content: bytes

    @property
    def length(self) -> int:
        """How long it is."""
        return len(self.content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Send it, at once."""
        consumer.write(self.content)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: it is sent already."""

    def resumeProducing(self) -> None:
        """Do nothing: it is sent already."""

    def stopProducing(self) -> None:
        """Do nothing: it is sent already."""


class Body(Protocol):
    """Collects a body; one without a length, as upstream sends them, ends with its connection.

    :ivar complete: the body; cancelling it closes the connection.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.complete: Deferred[bytes] = Deferred(lambda _: self._abandon())

    def _abandon(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Keep a piece, if it is not too much by now."""
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._parts.append(data)
        elif not self.complete.called:
            self.complete.errback(NoAnswer(f"answers with more than {MAX_BODY} bytes"))
            self._abandon()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Know that there are no more, and whether that is all."""
        if self.complete.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.complete.callback(b"".join(self._parts))
        else:
            self.complete.errback(reason)
