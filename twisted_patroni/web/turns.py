"""Fair turns: clients that send requests ahead of their answers are answered one at a time."""

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
    more than a few of them before it, and most of the processor's time is left for others.

    :param reactor: the clock.
    :param interval: seconds from one turn to the next.
    """

    reactor: IReactorTime
    interval: float = 0.001
    _queue: dict[ApiChannel, None] = field(factory=dict, init=False)
    _call: IDelayedCall | None = field(default=None, init=False)

    def wait(self, channel: ApiChannel) -> None:
        """Give a connection one of the next turns.

        :param channel: the connection, which may be in the queue already.
        """
        self._queue[channel] = None
        if self._call is None:
            self._call = self.reactor.callLater(self.interval, self._next)

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
        channel = next(iter(self._queue))
        del self._queue[channel]
        if self._queue:
            self._call = self.reactor.callLater(self.interval, self._next)
        channel.take_turn()
