"""The REST API as one object: put together, opened, reloaded and shut, on the reactor."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from socket import socket
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.web.server import version as library_version

from twisted_patroni.addresses import AddressBook
from twisted_patroni.metrics import ApiMetrics
from twisted_patroni.operations import Operations
from twisted_patroni.postgres import PostgresLink
from twisted_patroni.status import DEADLINE, Link, StatusSource
from twisted_patroni.web.cluster import ClusterPages
from twisted_patroni.web.config import Configuration
from twisted_patroni.web.failsafe import Failsafe
from twisted_patroni.web.gatekeeper import Gatekeeper
from twisted_patroni.web.health import HealthChecks
from twisted_patroni.web.monitoring import Monitoring
from twisted_patroni.web.operations import OperationPages
from twisted_patroni.web.resource import Responder
from twisted_patroni.web.routing import Endpoint, build_tree, endpoints_of
from twisted_patroni.web.site import ApiSite, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted.internet.interfaces import IListeningPort

    from twisted_patroni.engine.interface import Engine, Look
    from twisted_patroni.engine.lanes import Lanes
    from twisted_patroni.events import Hub
    from twisted_patroni.settings import Settings


_log = Logger()

#: Seconds that requests in flight have when the API shuts.
GRACE = 2.0


def local_link(reactor: Any, conninfo: Callable[[], Mapping[str, Any]]) -> Link:
    """Return the connection over which PostgreSQL is asked for its status.

    :param reactor: the reactor.
    :param conninfo: libpq parameters for the local PostgreSQL.
    """
    return PostgresLink(reactor, conninfo, deadline=DEADLINE - 0.5, prepare=True)


@define(eq=False)
class RestApi:
    """The API of one node.

    :param reactor: the reactor, with sockets, timers and descriptors.
    :param engine: what the API shows and changes.
    :param hub: tells what the DCS shows.
    :param lanes: where blocking calls run; shown in the metrics.
    :param settings: the validated ``restapi`` section.
    :param limits: what clients may take.
    :param make_link: builds the connection to the local PostgreSQL.
    """

    reactor: Any
    engine: Engine
    hub: Hub
    lanes: Lanes
    settings: Settings
    limits: Limits = field(factory=Limits)
    make_link: Callable[[Any, Callable[[], Mapping[str, Any]]], Link] = local_link
    site: ApiSite = field(init=False)
    endpoints: list[Endpoint] = field(init=False)
    metrics: ApiMetrics = field(factory=ApiMetrics, init=False)
    _link: Link = field(init=False)
    _status: StatusSource = field(init=False)
    _gatekeeper: Gatekeeper = field(init=False)
    _port: IListeningPort | None = field(default=None, init=False)
    _closing: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._link = self.make_link(self.reactor, self.engine.conninfo)
        self._status = StatusSource(self.engine, self._link, self.reactor)
        self._gatekeeper = Gatekeeper(
            AddressBook(self.reactor, self.lanes.names.call), lambda: self.engine.node().cluster
        )
        responder = Responder(self._gatekeeper.refusal)
        self.endpoints = endpoints_of(self._handlers())
        self.site = ApiSite(
            build_tree(self.endpoints, responder.render),
            self.reactor,
            self.limits,
            responder.admit,
        )
        self.site.on_answered = lambda request, code, seconds: self.metrics.answered(
            request.method, code, seconds
        )
        self._show_gauges()
        self._apply(self.settings)

    def _handlers(self) -> tuple[object, ...]:
        def now() -> datetime:
            return datetime.fromtimestamp(self.reactor.seconds(), UTC)

        operations = Operations(self.engine, self.hub, self.reactor, now)
        return (
            HealthChecks(
                self.engine,
                self._status,
                lambda: self.settings.legacy_roles,
                self.reactor.seconds,
            ),
            ClusterPages(self.engine),
            Configuration(self.engine),
            Failsafe(self.engine),
            Monitoring(self._status, self.metrics),
            OperationPages(self.engine, operations),
        )

    def adopt(self, listener: socket) -> None:
        """Begin to answer on a listening socket; an earlier one is closed after that.

        :param listener: the socket, which the API closes.
        """
        earlier, self._port = self._port, None
        with listener:
            self._port = self.reactor.adoptStreamPort(listener.fileno(), listener.family, self.site)
        if earlier is not None:
            maybeDeferred(earlier.stopListening).addErrback(
                lambda failure: _log.failure("Closing the former listener failed", failure)
            )

    def open(self, listener: socket) -> None:
        """Begin to answer.

        :param listener: where.
        """
        if self._closing:
            listener.close()
            return
        self.hub.listen(self._looked)
        self._gatekeeper.addresses.start()
        self.adopt(listener)

    def close(self) -> Deferred[None]:
        """Stop listening at once, and after a short grace leave no connection.

        :return: fires within :data:`GRACE` and a moment, whatever clients do.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if self._closing:
            if self._closed:
                self._end(None)
            return waiting
        self._closing = True
        port, self._port = self._port, None
        stopped = succeed(None) if port is None else maybeDeferred(port.stopListening)
        stopped.addErrback(lambda failure: _log.failure("Closing the listener failed", failure))
        self.site.shut(GRACE).addBoth(self._end)
        return waiting

    def _end(self, result: object) -> None:
        if not self._closed:
            self._closed = True
            self.hub.stop()
            self._gatekeeper.addresses.stop()
            self._link.close()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def listener(self) -> socket | None:
        """Return a copy of the socket listened on, which the caller closes soon."""
        port: Any = self._port  # the reactor's own, which are descriptors as well
        return None if port is None else socket(fileno=os.dup(port.fileno()))

    def apply(self, settings: Settings, listener: socket | None) -> None:
        """Let changed settings count for every request from now on.

        :param settings: the settings.
        :param listener: the socket to listen on, if that changed.
        """
        if listener is not None and self._closing:
            listener.close()
        elif listener is not None:
            self.adopt(listener)
        self._apply(settings)

    def _apply(self, settings: Settings) -> None:
        self.settings = settings
        self.site.extra_headers = settings.extra_headers
        token = settings.server_token
        self.site.server_token = library_version if token is None else token.encode("latin-1")
        self._gatekeeper.apply(settings)
        if settings.open_to_network:
            _log.warn(
                "SECURITY: anybody who reaches {listen} can restart, switch over, reinitialize and"
                " reconfigure this cluster: set restapi.authentication or restapi.allowlist",
                listen=settings.listen_text,
            )

    def _looked(self, look: Look) -> None:
        self.metrics.looks += 1
        self._gatekeeper.know(look.cluster)

    def _show_gauges(self) -> None:
        site, status, gauge = self.site, self._status, self.metrics.gauge
        gauge("patroni_api_connections", "Open connections.", lambda: site.connections)
        gauge("patroni_api_in_flight", "Requests being answered.", lambda: site.in_flight)
        gauge("patroni_api_refused", "Connections refused so far.", lambda: site.refused)
        gauge("patroni_api_timeouts", "Clients too slow so far.", lambda: site.timeouts.total())
        errors = site.protocol_errors
        gauge("patroni_api_protocol_errors", "Unreadable requests so far.", lambda: errors.total())
        gauge("patroni_status_statements", "Status statements so far.", lambda: status.statements)
        gauge("patroni_status_failures", "Status answers without one.", lambda: status.failures)
        for lane in self.lanes.each():
            gauge(
                f"patroni_api_lane_{lane.name}_busy",
                f"Calls in the {lane.name} lane, waiting ones included.",
                lambda lane=lane: lane.busy,  # type: ignore[misc]
            )
