"""What the API tells about itself in ``/metrics``, apart from the requests it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from twisted_patroni.events import TYPES
from twisted_patroni.operations import ENDS, KINDS
from twisted_patroni.web.phases import ENDLESS, Phase
from twisted_patroni.web.subscribers import WAYS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from twisted_patroni.audit import AuditLog
    from twisted_patroni.drain import Drains
    from twisted_patroni.engine.lanes import Lane, Lanes
    from twisted_patroni.metrics import ApiMetrics
    from twisted_patroni.operations import OperationBook
    from twisted_patroni.slowing import Slowing
    from twisted_patroni.status import StatusSource
    from twisted_patroni.tls import TlsMaterial
    from twisted_patroni.web.site import ApiSite
    from twisted_patroni.web.subscribers import Subscribers
    from twisted_patroni.webhooks import Webhooks


@frozen
class Figures:
    """Where the numbers are; they are read at each scrape.

    :param site: connections, requests and TLS handshakes.
    :param status: the questions to PostgreSQL.
    :param lanes: the blocking calls.
    :param slowing: wrong passwords.
    :param audit: the lines written.
    :param reloads: those of the ``restapi`` section, by result.
    :param material: returns the certificate in use, ``None`` without TLS.
    :param subscribers: who follows the events.
    :param drains: whether load balancers are to leave this node.
    :param webhooks: what is sent to those who want to be told of events.
    :param operations: the operations.
    """

    site: ApiSite
    status: StatusSource
    lanes: Lanes
    slowing: Slowing
    audit: AuditLog
    reloads: Counter[str]
    material: Callable[[], TlsMaterial | None]
    subscribers: Subscribers
    drains: Drains
    webhooks: Webhooks
    operations: OperationBook

    def show(self, metrics: ApiMetrics) -> None:
        """Have all of them shown.

        :param metrics: shows them.
        """
        self._connections(metrics)
        self._clients(metrics)
        self._tls(metrics)
        self._lanes(metrics)
        self._events(metrics)
        self._work(metrics)
        self._webhooks(metrics)
        self._operations(metrics)

    def _connections(self, metrics: ApiMetrics) -> None:
        connections = self.site.connections
        metrics.gauge("twisted_patroni_connections", "Open connections.", lambda: len(connections))
        metrics.counter(
            "twisted_patroni_connections_accepted_total",
            "Connections served.",
            lambda: connections.accepted,
        )
        metrics.counter(
            "twisted_patroni_connections_refused_total",
            "Connections turned away, or for which another one had to go.",
            lambda: connections.refused,
            "reason",
            known=("total", "address", "proxy", "closing"),
        )

    def _clients(self, metrics: ApiMetrics) -> None:
        site, slowing = self.site, self.slowing
        metrics.gauge(
            "twisted_patroni_requests_in_flight", "Requests being answered.", lambda: site.in_flight
        )
        metrics.counter(
            "twisted_patroni_requests_refused_total",
            "Requests refused because too many were being answered.",
            lambda: site.overloads,
        )
        metrics.counter(
            "twisted_patroni_timeouts_total",
            "Connections that let a deadline pass.",
            lambda: site.timeouts,
            "phase",
            known=[phase.value for phase in Phase if phase not in ENDLESS],
        )
        metrics.counter(
            "twisted_patroni_protocol_errors_total",
            "Requests whose head could not be read.",
            lambda: site.protocol_errors,
            "code",
            known=(400, 408, 414, 431, 505),
        )
        metrics.counter(
            "twisted_patroni_authentication_failures_total",
            "Wrong passwords.",
            lambda: slowing.failures,
        )
        metrics.counter(
            "twisted_patroni_authentication_slowed_total",
            "Passwords that came too early after wrong ones.",
            lambda: slowing.slowed,
        )

    def _tls(self, metrics: ApiMetrics) -> None:
        site, material = self.site, self.material
        metrics.counter(
            "twisted_patroni_tls_handshakes_total", "TLS handshakes done.", lambda: site.handshakes
        )
        metrics.counter(
            "twisted_patroni_tls_handshake_failures_total",
            "TLS handshakes that failed.",
            lambda: site.handshake_failures,
            "reason",
        )

        def info() -> dict[tuple[str, str], int]:
            used = material()
            return {(used.certificate.serial, used.certificate.subject): 1} if used else {}

        def ends() -> dict[str, float]:
            used = material()
            return {used.certificate.serial: used.certificate.not_after.timestamp()} if used else {}

        metrics.gauge(
            "twisted_patroni_certificate_info",
            "The server's certificate.",
            info,
            "serial",
            "subject",
        )
        metrics.gauge(
            "twisted_patroni_certificate_not_after_timestamp_seconds",
            "When the server's certificate expires.",
            ends,
            "serial",
        )

    def _lanes(self, metrics: ApiMetrics) -> None:
        def by_lane(read: Callable[[Lane], int]) -> Callable[[], dict[str, int]]:
            return lambda: {lane.name: read(lane) for lane in self.lanes.each()}

        metrics.gauge(
            "twisted_patroni_lane_workers",
            "Calls that a lane makes at the same time.",
            by_lane(lambda lane: lane.size.workers),
            "lane",
        )
        metrics.gauge(
            "twisted_patroni_lane_busy",
            "Calls being made.",
            by_lane(lambda lane: min(lane.busy, lane.size.workers)),
            "lane",
        )
        metrics.gauge(
            "twisted_patroni_lane_queued",
            "Calls that wait for a worker.",
            by_lane(lambda lane: max(0, lane.busy - lane.size.workers)),
            "lane",
        )
        metrics.counter(
            "twisted_patroni_lane_refused_total",
            "Calls for which there was no room.",
            by_lane(lambda lane: lane.refused),
            "lane",
        )

    def _events(self, metrics: ApiMetrics) -> None:
        subscribers = self.subscribers
        metrics.counter(
            "twisted_patroni_events_total",
            "Events told.",
            lambda: subscribers.stream.published,
            "type",
            known=TYPES,
        )
        metrics.gauge(
            "twisted_patroni_subscribers",
            "Clients that wait for events.",
            lambda: subscribers.by_way,
            "way",
            known=WAYS,
        )
        metrics.counter(
            "twisted_patroni_subscribers_refused_total",
            "Clients turned away because too many wait for events.",
            lambda: subscribers.refused,
        )
        metrics.counter(
            "twisted_patroni_subscribers_dropped_total",
            "Clients dropped that waited for events.",
            lambda: subscribers.dropped,
            "reason",
            known=("slow", "overrun", "silent", "input", "protocol"),
        )

    def _work(self, metrics: ApiMetrics) -> None:
        status, audit, drains = self.status, self.audit, self.drains

        def drained() -> dict[str, int]:
            drain = drains.current
            return {"replica": drain is not None, "primary": drain is not None and drain.primary}

        metrics.counter(
            "twisted_patroni_status_statements_total",
            "Statements that asked PostgreSQL for its status.",
            lambda: status.statements,
        )
        metrics.counter(
            "twisted_patroni_status_failures_total",
            "Answers without PostgreSQL's status.",
            lambda: status.failures,
        )
        metrics.counter(
            "twisted_patroni_audit_records_total",
            "Lines of the audit log.",
            lambda: audit.records,
        )
        metrics.counter(
            "twisted_patroni_reloads_total",
            "Reloads of the restapi section.",
            lambda: self.reloads,
            "result",
            known=("success", "failure"),
        )
        metrics.gauge(
            "twisted_patroni_drained",
            "Whether load balancers are told to leave this node.",
            drained,
            "role",
        )

    def _webhooks(self, metrics: ApiMetrics) -> None:
        webhooks = self.webhooks
        metrics.counter(
            "twisted_patroni_webhook_deliveries_total",
            "Events for webhooks, by what has become of them.",
            webhooks.deliveries,
            "url",
            "result",
        )
        metrics.counter(
            "twisted_patroni_webhook_attempts_total",
            "Attempts to deliver an event to a webhook.",
            webhooks.attempts,
            "url",
        )
        metrics.gauge(
            "twisted_patroni_webhook_queue",
            "Events that are on their way to a webhook, or wait for it.",
            webhooks.queued,
            "url",
        )

    def _operations(self, metrics: ApiMetrics) -> None:
        metrics.counter(
            "twisted_patroni_operations_total",
            "Operations that have ended.",
            lambda: self.operations.ended,
            "kind",
            "state",
            known=[(kind, state) for kind in KINDS for state in ENDS],
        )
        metrics.gauge(
            "twisted_patroni_operations_unfinished",
            "Operations on their way.",
            lambda: len(self.operations.on_their_way()),
        )
