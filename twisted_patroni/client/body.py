"""A request's body that is in memory as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IConsumer


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
