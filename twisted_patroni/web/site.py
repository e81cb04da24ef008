"""The site: limits, counters, one sweeper for all connections, and an end in bounded time."""

from __future__ import annotations

import logging
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from twisted.web.server import Site
from twisted.web.server import version as twisted_version

from twisted_patroni.settings import Limits
from twisted_patroni.web.answers import error_page
from twisted_patroni.web.channel import ApiChannel
from twisted_patroni.web.connections import Connections
from twisted_patroni.web.entrance import Door
from twisted_patroni.web.phases import Phase
from twisted_patroni.web.request import ApiRequest
from twisted_patroni.web.turns import Turns
from twisted_patroni.web.wire import plain_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.web.resource import IResource

    from twisted_patroni.web.answers import Answer

__all__ = ["ApiRequest", "ApiSite", "Limits"]

# Users' `log.loggers` settings name upstream's logger, and the line is the one they know.
_access_log = logging.getLogger("patroni.api")
# Often, and never many at once: to look at thousands of connections takes milliseconds, and so does
# the end of a hundred, who would come again together, too.
_SWEEP_INTERVAL = 0.1
_SWEEPS_PER_ROUND = 10
_SWEEP_AT_LEAST = 100
_ENDS_IN_A_TURN = 5
#: So many connections leave a mark in memory.
CROWD = 500
#: Seconds from the moment when most of them have gone until the others probably have, too.
CALM = 3.0


class ApiSite(Site):
    """The factory of all connections, whatever they arrive on.

    :ivar server_token: the value of the Server header; may be replaced at any time.
    :ivar door: the rules for connections that came through no other :class:`Entrance`.
    :ivar connections: all connections.
    :ivar turns: those whose requests have come ahead of their answers.
    :ivar on_answered: called with request, status and seconds after each answer.
    :ivar on_left: called with a request whose client left before it was answered, and seconds.
    :ivar on_crowd_left: called when most of many connections are gone.
    :ivar closing: whether the end has begun.
    :ivar in_flight: how many requests are being answered.
    :ivar overloads: how often a request was refused because too many were being answered.
    :ivar handshakes: TLS handshakes done so far.
    :ivar handshake_failures: those that failed, by reason.
    :ivar timeouts: how often each phase's deadline has passed.
    :ivar protocol_errors: how often a request ended, before its head did, with each status.
    """

    protocol = ApiChannel  # type: ignore[assignment]
    noisy = False
    _log = Logger()

    def __init__(
        self,
        root: IResource,
        reactor: IReactorTime,
        limits: Limits | None = None,
        admit: Callable[[ApiRequest], Answer | None] | None = None,
    ) -> None:
        """Serve a tree of resources.

        :param root: the root of the tree.
        :param reactor: the clock.
        :param limits: what clients may take; the usual limits by default.
        :param admit: called at the end of each head, before the body is read: may return the
            answer that ends the request there, or set the request's ``body_limit``.
        """
        super().__init__(
            root, ApiRequest, timeout=None, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.admit = admit
        self.connections = Connections(limits or Limits())
        self.turns = Turns(reactor)
        self.apply(self.connections.limits)
        self.server_token: bytes = twisted_version
        self.door = Door()
        self.on_answered: Callable[[ApiRequest, int, float], None] | None = None
        self.on_left: Callable[[ApiRequest, float], None] | None = None
        self.on_crowd_left: Callable[[], object] | None = None
        self.in_flight = 0
        self.overloads = 0
        self.handshakes = 0
        self.handshake_failures: Counter[str] = Counter()
        self.timeouts: Counter[str] = Counter()
        self.protocol_errors: Counter[int] = Counter()
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor
        self._unswept: list[ApiChannel] = []
        self._share = _SWEEP_AT_LEAST
        self._most = 0
        self._calm = math.inf
        self._second = -1
        self._date = b""
        self.closing = False
        self._waiting: list[Deferred[None]] = []
        self._aborting: IDelayedCall | None = None

    def apply(self, limits: Limits) -> None:
        """Let other limits count: for connections to come, and for phases that begin.

        :param limits: the limits.
        """
        self.limits = limits
        self.allowance = {phase: getattr(limits, phase.value, math.inf) for phase in Phase}
        self.connections.apply(limits)

    # What every answer carries.

    def date(self) -> bytes:
        """Return the value of the Date header, made once a second."""
        second = int(self.reactor.seconds())
        if second != self._second:
            self._second = second
            self._date = datetimeToString(second)
        return self._date

    def standard_headers(self) -> bytes:
        """Return the header lines that start an answer."""
        return b"Server: %s\r\nDate: %s\r\n" % (self.server_token, self.date())

    # Connections.

    def admits(self, door: Door, addr: IAddress | None) -> bool:
        """Decide on a new connection, before anything is spent on it.

        :param door: the way it comes.
        :param addr: where it comes from; a proxy, where the door knows proxies.
        """
        host = plain_host(getattr(addr, "host", ""))
        if self.closing:
            self.connections.refused["closing"] += 1
            return False
        if door.proxies is None:
            return self.connections.admits(host)
        if host and not door.is_proxy(host):
            self.connections.refused["proxy"] += 1
            return False
        return self.connections.admits(None)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Serve a connection that came through no :class:`Entrance`.

        :param addr: where it comes from.
        """
        return self.channel(self.door, addr)

    def channel(self, door: Door, addr: IAddress | None) -> ApiChannel:
        """Serve a connection that was let in.

        :param door: the way it came.
        :param addr: where it comes from.
        """
        channel = super().buildProtocol(addr)
        assert isinstance(channel, ApiChannel)
        channel.arrive(door, plain_host(getattr(addr, "host", "")))
        return channel

    def joined(self, channel: ApiChannel) -> None:
        """Take note of a new connection."""
        self.connections.joined(channel)
        if not self._sweeper.running:
            self._sweeper.start(_SWEEP_INTERVAL, now=False).addErrback(
                lambda failure: self._log.failure("the sweeper of connections failed", failure)
            )

    def left(self, channel: ApiChannel) -> None:
        """Take note of the end of a connection."""
        self.connections.left(channel)
        if not self.connections:
            self._unswept.clear()
            self._rest()
            self._gone()

    def startFactory(self) -> None:
        """Do nothing: Twisted's access log is not used."""

    def stopFactory(self) -> None:
        """Leave no timer behind; connections that remain are still watched."""
        if not self.connections:
            self._rest()

    def _rest(self) -> None:
        # With a port open the sweeper stops itself: most connections come and go within a second.
        if self._sweeper.running and not self.numPorts:
            self._sweeper.stop()

    def _sweep(self) -> None:
        if not self.connections and self._calm == math.inf and self._most < CROWD:
            self._sweeper.stop()
        self._watch_crowd()
        if not self._unswept:
            self._unswept = list(self.connections)
            self._share = max(_SWEEP_AT_LEAST, len(self._unswept) // _SWEEPS_PER_ROUND)
        now = self.reactor.seconds()
        share, self._unswept = self._unswept[-self._share :], self._unswept[: -self._share]
        self._end([c for c in share if c.deadline < now])

    def _end(self, late: list[ApiChannel]) -> None:
        """End connections whose time is up, a few in each turn of the reactor."""
        some, others = late[:_ENDS_IN_A_TURN], late[_ENDS_IN_A_TURN:]
        now = self.reactor.seconds()
        still = [c for c in some if c.deadline < now and c in self.connections]
        self._each(ApiChannel.overdue, still)
        if others:
            self.reactor.callLater(0, self._end, others)

    def _watch_crowd(self) -> None:
        present = len(self.connections)
        self._most = max(self._most, present)
        if self._most >= CROWD and present < self._most // 4:
            self._most = present
            self._calm = self.reactor.seconds() + CALM
        elif self.reactor.seconds() >= self._calm:
            self._calm = math.inf
            self._unswept.clear()
            if self.on_crowd_left is not None:
                self.on_crowd_left()

    def _each(self, end: Callable[[ApiChannel], None], channels: Iterable[ApiChannel]) -> None:
        # One connection that cannot be ended must not save the others.
        for channel in channels:
            try:
                end(channel)
            except Exception:
                self._log.failure("ending the connection of {peer} failed", peer=channel.getPeer())

    # Requests.

    def judge(self, request: ApiRequest) -> Answer | None:
        """Return the answer that a request gets at the end of its head, if any.

        :param request: the request.
        """
        if self.in_flight >= self.limits.requests and not request.channel.trusted:
            self.overloads += 1
            return error_page(503, headers=(("Retry-After", "1"),))
        if self.admit is None:
            return None
        try:
            return self.admit(request)
        except Exception:
            self._log.failure(
                "deciding about {method} {uri} failed", method=request.method, uri=request.uri
            )
            return error_page(500, close=True)

    def log(self, request: ApiRequest) -> None:  # type: ignore[override]
        """Count an answered request, and write upstream's log line if someone wants it.

        :param request: the request.
        """
        seconds = self.reactor.seconds() - request.started
        if self.on_answered is not None:
            self.on_answered(request, request.code, seconds)
        if _access_log.isEnabledFor(logging.DEBUG):
            line = b" ".join((request.method, request.uri, request.clientproto))
            _access_log.debug(
                'API thread: %s - - "%s" %s - latency: %0.3f ms',
                request.client_host or "unix",
                line.decode("ascii", "backslashreplace"),
                request.code,
                1000.0 * seconds,
            )

    def abandoned(self, request: ApiRequest) -> None:
        """Take note of a request whose client has left before it was answered.

        :param request: the request.
        """
        if self.on_left is not None:
            self.on_left(request, self.reactor.seconds() - request.started)

    # The end.

    def shut(self, grace: float) -> Deferred[None]:
        """Close all connections; those with a request in flight after its answer.

        :param grace: for how many seconds answers may still be made.
        :return: fires when no connection is left, and in any case once the grace is over and
            what was left has been aborted.
        """
        self.closing = True
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        self._each(ApiChannel.retire, list(self.connections))
        if not self.connections:
            self._gone()
        elif self._aborting is None:
            self._aborting = self.reactor.callLater(grace, self._abort)
        return done

    def _abort(self) -> None:
        self._each(ApiChannel.abort, list(self.connections))
        # Not when the last one is gone: nothing that a client does may delay the end. The losses
        # that the aborts cause are delivered before this call.
        self._aborting = self.reactor.callLater(0, self._gone)

    def _gone(self) -> None:
        if self._aborting is not None and self._aborting.active():
            self._aborting.cancel()
        self._aborting = None
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
