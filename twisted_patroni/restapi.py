"""The REST API as one object: put together, opened, reloaded and shut, on the reactor."""

from __future__ import annotations

import gc
from collections import Counter
from datetime import UTC, datetime
from random import random
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import version as library_version

from twisted_patroni.addresses import AddressBook
from twisted_patroni.audit import AuditLog
from twisted_patroni.doors import Doors
from twisted_patroni.drain import Drains
from twisted_patroni.events import EventStream, Watcher
from twisted_patroni.figures import Figures
from twisted_patroni.memory import give_back
from twisted_patroni.metrics import ApiMetrics, endpoint_label
from twisted_patroni.operations import Desk
from twisted_patroni.passwords import PasswordBook
from twisted_patroni.postgres import PostgresLink
from twisted_patroni.renewal import Renewal
from twisted_patroni.slowing import Slowing
from twisted_patroni.status import DEADLINE, Link, StatusSource
from twisted_patroni.web.cluster import ClusterPages
from twisted_patroni.web.config import Configuration
from twisted_patroni.web.drain import DrainPages
from twisted_patroni.web.events import EventPages, Snapshots
from twisted_patroni.web.failsafe import Failsafe
from twisted_patroni.web.gatekeeper import Gatekeeper
from twisted_patroni.web.health import HealthChecks
from twisted_patroni.web.monitoring import Monitoring
from twisted_patroni.web.operation_book import BookPages
from twisted_patroni.web.operations import OperationPages
from twisted_patroni.web.orders import Orders
from twisted_patroni.web.resource import Responder
from twisted_patroni.web.routing import Endpoint, build_tree, endpoints_of
from twisted_patroni.web.site import ApiSite
from twisted_patroni.web.subscribers import Subscribers
from twisted_patroni.webhooks import Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from socket import socket

    from twisted_patroni.engine.interface import Cycle, Engine, Look
    from twisted_patroni.engine.lanes import Lanes
    from twisted_patroni.looks import Looks
    from twisted_patroni.operations import OperationBook
    from twisted_patroni.settings import Settings
    from twisted_patroni.tls import TlsMaterial
    from twisted_patroni.web.request import ApiRequest


_log = Logger()

#: Seconds that requests in flight have when the API shuts.
GRACE = 2.0
#: Seconds between two warnings of a certificate that expires.
REMINDER_INTERVAL = 86400.0


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
    :param looks: tells what the DCS shows.
    :param lanes: where blocking calls run; shown in the metrics.
    :param settings: the validated ``restapi`` section; :meth:`apply` makes it count.
    :param make_link: builds the connection to the local PostgreSQL.
    :ivar doors: the listeners.
    :ivar drains: whether load balancers are to leave this node.
    :ivar stream: the events of this node.
    :ivar subscribers: who follows them.
    :ivar watcher: makes them of what the engine tells.
    :ivar webhooks: who is told of them over HTTP.
    :ivar desk: has operations carried out.
    :ivar material: the certificate in use, and what belongs to it; ``None`` without TLS.
    :ivar reloads: how often other settings were to count so far, by ``success`` and ``failure``.
    """

    reactor: Any
    engine: Engine
    looks: Looks
    lanes: Lanes
    settings: Settings
    make_link: Callable[[Any, Callable[[], Mapping[str, Any]]], Link] = local_link
    site: ApiSite = field(init=False)
    doors: Doors = field(init=False)
    drains: Drains = field(init=False)
    stream: EventStream = field(init=False)
    subscribers: Subscribers = field(init=False)
    watcher: Watcher = field(init=False)
    desk: Desk = field(init=False)
    webhooks: Webhooks = field(init=False)
    material: TlsMaterial | None = field(default=None, init=False)
    endpoints: list[Endpoint] = field(init=False)
    metrics: ApiMetrics = field(factory=ApiMetrics, init=False)
    reloads: Counter[str] = field(factory=Counter, init=False)
    _audit: AuditLog = field(init=False)
    _link: Link = field(init=False)
    _status: StatusSource = field(init=False)
    _gatekeeper: Gatekeeper = field(init=False)
    _renewal: Renewal = field(init=False)
    _reminder: LoopingCall = field(init=False)
    _told: set[str] = field(factory=set, init=False)
    _closing: bool = field(default=False, init=False)
    _closed: bool = field(default=False, init=False)
    _waiting: list[Deferred[None]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._link = self.make_link(self.reactor, self.engine.conninfo)
        self._status = StatusSource(self.engine, self._link, self.reactor)
        self.drains = Drains(self.reactor)
        self.stream = EventStream(self.reactor)
        self.subscribers = Subscribers(self.stream, self.reactor)
        self.watcher = Watcher(
            self.engine, self.looks, self.stream, self.reactor, self.drains.document
        )
        self.drains.on_change.append(self.watcher.refresh)
        self.webhooks = Webhooks(
            self.reactor,
            self.stream,
            self._identity,
            self.lanes.webhooks.call,
            self.lanes.local.call,
            random,
        )
        self._gatekeeper = Gatekeeper(
            AddressBook(self.reactor, self.lanes.names.call),
            lambda: self.engine.node().cluster,
            PasswordBook(self.reactor, self.lanes.passwords.call),
            Slowing(self.reactor),
        )
        self.desk = Desk(
            self.engine,
            self.looks,
            self.reactor,
            self._now,
            self.stream,
            self._postmaster_start,
            lambda: self.reloads["failure"],
        )
        responder = Responder(self._gatekeeper.judge)
        self.endpoints = endpoints_of(self._handlers())
        self.site = ApiSite(
            build_tree(self.endpoints, responder.render),
            self.reactor,
            self.settings.limits,
            responder.admit,
        )
        self.site.connections.trusts = self._gatekeeper.is_trusted
        self.site.on_answered = self._answered
        self.site.on_left = self._left
        self.site.on_crowd_left = self._tidy
        self.doors = Doors(self.reactor, self.site)
        self._reminder = LoopingCall(self._warn_of_certificates)
        self._reminder.clock = self.reactor
        self._renewal = Renewal(self.reactor, self.lanes.local.call, self._renewed)
        self._audit = AuditLog(self.reactor)
        Figures(
            self.site,
            self._status,
            self.lanes,
            self._gatekeeper.slowing,
            self._audit,
            self.reloads,
            lambda: self.material,
            self.subscribers,
            self.drains,
            self.webhooks,
            self.desk.book,
        ).show(self.metrics)

    def _identity(self) -> tuple[str, str]:
        node = self.engine.node()
        return node.scope, node.name

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.reactor.seconds(), UTC)

    def _postmaster_start(self) -> Deferred[datetime | None]:
        return self._status.current().addCallback(lambda seen: seen.status.start_time)

    @property
    def operations(self) -> OperationBook:
        """The operations of this node."""
        return self.desk.book

    def cycled(self, cycle: Cycle) -> None:
        """Take note of an HA cycle.

        :param cycle: when it began and ended.
        """
        self.metrics.cycled(cycle)
        self.watcher.refresh()
        self.desk.cycled()

    def _handlers(self) -> tuple[object, ...]:
        orders = Orders(self.desk, self.reactor)
        return (
            HealthChecks(
                self.engine,
                self._status,
                self.drains,
                lambda: self.settings.legacy_roles,
                self.reactor.seconds,
            ),
            ClusterPages(self.engine, self.drains),
            DrainPages(self.engine, self.drains),
            EventPages(
                self.subscribers,
                Snapshots(self.subscribers, self.engine, self.desk.book.unfinished),
                lambda: self.settings.origins,
            ),
            Configuration(self.engine, orders),
            Failsafe(self.engine),
            Monitoring(self._status, self.metrics),
            OperationPages(self.engine, self.desk, orders),
            BookPages(self.desk, self.reactor),
        )

    def open(self, listener: socket) -> None:
        """Begin to answer, at the further listeners as well.

        :param listener: the main one.
        """
        if self._closing:
            listener.close()
            return
        self.looks.listen(self._looked)
        self._gatekeeper.addresses.start()
        self._reminder.start(REMINDER_INTERVAL, now=False).addErrback(
            lambda failure: _log.failure("Reminding of certificates has ended", failure)
        )
        self.doors.adopt(listener)
        self.doors.answer()

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
        self._renewal.stop()
        if self._reminder.running:
            self._reminder.stop()
        self.doors.close()
        self.webhooks.close()
        self.site.shut(GRACE).addBoth(self._end)
        return waiting

    def _end(self, result: object) -> None:
        if not self._closed:
            self._closed = True
            self.desk.stop()
            self.looks.stop()
            self._gatekeeper.addresses.stop()
            self.drains.stop()
            self._link.close()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def apply(
        self,
        settings: Settings,
        material: TlsMaterial | None,
        listener: socket | None = None,
    ) -> Deferred[None]:
        """Let settings count for every connection and request from now on.

        :param settings: the settings.
        :param material: the certificate and what belongs to it, ``None`` without TLS.
        :param listener: the main socket to listen on, if that changed.
        :return: fires when they do; fails with :class:`~twisted_patroni.settings.SettingsError` if
            a further listener cannot be opened, and then nothing has changed.
        """
        return Deferred.fromCoroutine(self._apply(settings, material, listener))

    async def _apply(
        self, settings: Settings, material: TlsMaterial | None, listener: socket | None
    ) -> None:
        if self._closing:
            if listener is not None:
                listener.close()
            return
        await self.webhooks.check(settings.webhooks)
        await self.doors.apply(settings, {} if material is None else material.contexts)
        if listener is not None:
            self.doors.adopt(listener)
        renewed = material is not None and (
            self.material is None or self.material.digest != material.digest
        )
        if material is not None and renewed:
            _log.info(
                "The certificate with serial number {serial} is in use, valid until {end}",
                serial=material.certificate.serial,
                end=material.certificate.not_after,
            )
        rules_changed = settings.judging != self.settings.judging
        authorities_changed = renewed and settings.asks_for_certificates
        self.settings, self.material = settings, material
        self.site.apply(settings.limits)
        token = settings.server_token
        self.site.server_token = library_version if token is None else token.encode("latin-1")
        self._gatekeeper.apply(settings)
        self.webhooks.apply(settings.webhooks)
        if rules_changed or authorities_changed:
            self.subscribers.dismiss()  # who was let in by other rules need not be now
        self._renewal.watch(settings, material)
        self._told.clear()
        self._warn()

    def _renewed(self, settings: Settings, material: TlsMaterial) -> Deferred[None]:
        self.reloads["success"] += 1
        return self.apply(settings, material)

    def _warn(self) -> None:
        """Say in the log what the operator should know of the settings."""
        for line in self.settings.warnings:
            _log.warn("{line}", line=line)
        self._warn_of_certificates()
        for name in self.doors.unguarded(self.settings):
            _log.warn(
                "SECURITY: anybody who reaches {listen} can restart, switch over, reinitialize and"
                " reconfigure this cluster: set restapi.authentication or restapi.allowlist",
                listen=name,
            )

    def _warn_of_certificates(self) -> None:
        now = self._now()
        for line in () if self.material is None else self.material.warnings(now):
            _log.warn("{line}", line=line)

    def _answered(self, request: ApiRequest, code: int, seconds: float) -> None:
        declared = None if request.endpoint is None else request.endpoint.path
        label = endpoint_label(declared, request.target_path)
        self.metrics.answered(request.method, code, seconds, label)
        self._audit.record(request, code, seconds)

    def _tidy(self) -> None:
        gc.collect()  # some 20 ms, once, when nobody is in a hurry
        self.lanes.local.call(give_back).addErrback(
            lambda failure: _log.debug("No memory is given back: {error}", error=failure.value)
        )

    def _left(self, request: ApiRequest, seconds: float) -> None:
        self._audit.record(request, None, seconds)

    def _looked(self, look: Look) -> None:
        self.metrics.looks += 1
        self._gatekeeper.know(look.cluster)
        for line in self._gatekeeper.shut_out(self.engine.node().name):
            if line not in self._told:
                self._told.add(line)
                _log.warn("{line}", line=line)
        self.watcher.looked(look)
        self.desk.looked(look)
