"""Fair turns: clients that send requests ahead of their answers are answered a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from twisted_patroni.web.channel import ApiChannel


@define(eq=False)
class Turns:
    """The queue of connections whose next request has arrived before the answer to the last.

    However many there are, and however fast they send, a client that waits for its answers finds no
    more than a few of them before it.

    :param reactor: in each of its turns some of them have theirs.
    :param places: so many.
    """

    reactor: IReactorTime
    places: int
    _queue: dict[ApiChannel, None] = field(factory=dict, init=False)
    _call: IDelayedCall | None = field(default=None, init=False)

    def wait(self, channel: ApiChannel) -> None:
        """Give a connection one of the next turns.

        :param channel: the connection, which may be in the queue already.
        """
        self._queue[channel] = None
        if self._call is None:
            self._call = self.reactor.callLater(0, self._next)

    def leave(self, channel: ApiChannel) -> None:
        """Forget a connection.

        :param channel: the connection, whether or not it is in the queue.
        """
        self._queue.pop(channel, None)
        if not self._queue and self._call is not None:
            self._call.cancel()
            self._call = None

    def _next(self) -> None:
        self._call = None
        first = [channel for channel, _ in zip(self._queue, range(self.places), strict=False)]
        for channel in first:
            del self._queue[channel]
        if self._queue:
            self._call = self.reactor.callLater(0, self._next)
        for channel in first:
            channel.take_turn()
