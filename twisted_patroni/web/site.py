"""The site: limits, counters, one sweeper for all connections, and an end in bounded time."""

from __future__ import annotations

import logging
import math
import resource
from collections import Counter
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.http import datetimeToString
from twisted.web.server import Site
from twisted.web.server import version as twisted_version

from twisted_patroni.settings import Limits
from twisted_patroni.web.answers import error_page
from twisted_patroni.web.channel import ApiChannel, Phase
from twisted_patroni.web.request import ApiRequest
from twisted_patroni.web.wire import header_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
    from twisted.web.resource import IResource

    from twisted_patroni.web.answers import Answer, Headers

__all__ = ["ApiRequest", "ApiSite", "Limits"]

# Users' `log.loggers` settings name upstream's logger, and the line is the one they know.
_access_log = logging.getLogger("patroni.api")
_SWEEP_INTERVAL = 1.0


def affordable_connections(wanted: int, descriptors: int) -> int:
    """Return how many connections leave descriptors for PostgreSQL, the DCS and files.

    :param wanted: the configured number.
    :param descriptors: how many the process may have open, negative for no limit.
    """
    if descriptors < 0:
        return wanted
    return min(wanted, max(descriptors // 2, descriptors - 256))


class _Turned(Protocol):
    """A connection that is closed as soon as it is there."""

    def connectionMade(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]


class ApiSite(Site):
    """The factory of all connections, whatever they arrive on.

    :ivar server_token: the value of the Server header; may be replaced at any time.
    :ivar extra_headers: headers added to all answers but bare ones; may be replaced at any time.
    :ivar on_answered: called with request, status and seconds after each answer.
    :ivar accepted: connections served so far.
    :ivar refused: connections closed for there were too many, at the accept or to make room.
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
        limits: Limits = Limits(),
        admit: Callable[[ApiRequest], Answer | None] | None = None,
    ) -> None:
        """Serve a tree of resources.

        :param root: the root of the tree.
        :param reactor: the clock.
        :param limits: what clients may take.
        :param admit: called at the end of each head, before the body is read: may return the
            answer that ends the request there, or set the request's ``body_limit``.
        """
        super().__init__(
            root, ApiRequest, timeout=None, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.limits = limits
        self.admit = admit
        self.allowance = {phase: getattr(limits, phase.value, math.inf) for phase in Phase}
        self.connection_limit = affordable_connections(
            limits.connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        )
        self.server_token: bytes = twisted_version
        self.extra_headers = ()
        self.on_answered: Callable[[ApiRequest, int, float], None] | None = None
        self.accepted = 0
        self.refused = 0
        self.timeouts: Counter[str] = Counter()
        self.protocol_errors: Counter[int] = Counter()
        # In the order of their accept.
        self._channels: dict[ApiChannel, None] = {}
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = reactor
        self._second = -1
        self._date = b""
        self._shut = False
        self._waiting: list[Deferred[None]] = []
        self._aborting: IDelayedCall | None = None

    # What every answer carries.

    @property
    def extra_headers(self) -> Headers:
        """Headers added to all answers but bare ones."""
        return self._extra_headers

    @extra_headers.setter
    def extra_headers(self, headers: Headers) -> None:
        self._extra_headers = headers
        self.extra_lines = header_lines(headers)

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

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._channels)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered, WebSockets included."""
        busy = (Phase.ANSWER, Phase.UPGRADED)
        return sum(channel.phase in busy for channel in self._channels)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Serve a connection, or close one if there are too many."""
        full = len(self._channels) >= self.connection_limit
        self.refused += self._shut or full
        if self._shut or (full and not self._make_room()):
            # Not None: a factory that wraps this one (TLS, PROXY protocol) would trip over it.
            return _Turned()
        return super().buildProtocol(addr)

    def _make_room(self) -> bool:
        """Close the oldest connection that waits for its client, so that idlers shut nobody out."""
        for channel in self._channels:
            if channel.dispensable:
                channel.abort()
                return True
        return False

    def joined(self, channel: ApiChannel) -> None:
        """Take note of a new connection."""
        self.accepted += 1
        self._channels[channel] = None
        if not self._sweeper.running:
            self._sweeper.start(_SWEEP_INTERVAL, now=False).addErrback(
                lambda failure: self._log.failure("the sweeper of connections failed", failure)
            )

    def left(self, channel: ApiChannel) -> None:
        """Take note of the end of a connection."""
        self._channels.pop(channel, None)
        if not self._channels:
            self._rest()
            self._gone()

    def startFactory(self) -> None:
        """Do nothing: Twisted's access log is not used."""

    def stopFactory(self) -> None:
        """Leave no timer behind; connections that remain are still watched."""
        if not self._channels:
            self._rest()

    def _rest(self) -> None:
        # With a port open the sweeper stops itself: most connections come and go within a second.
        if self._sweeper.running and not self.numPorts:
            self._sweeper.stop()

    def _sweep(self) -> None:
        if not self._channels:
            self._sweeper.stop()
        now = self.reactor.seconds()
        self._each(ApiChannel.overdue, [c for c in self._channels if c.deadline < now])

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
                request.client_host,
                line.decode("ascii", "backslashreplace"),
                request.code,
                1000.0 * seconds,
            )

    # The end.

    def shut(self, grace: float) -> Deferred[None]:
        """Close all connections; those with a request in flight after its answer.

        :param grace: for how many seconds answers may still be made.
        :return: fires when no connection is left, and in any case once the grace is over and
            what was left has been aborted.
        """
        self._shut = True
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        self._each(ApiChannel.retire, list(self._channels))
        if not self._channels:
            self._gone()
        elif self._aborting is None:
            self._aborting = self.reactor.callLater(grace, self._abort)
        return done

    def _abort(self) -> None:
        self._each(ApiChannel.abort, list(self._channels))
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
