"""Metrics: the engine's, under the names dashboards know, and the API's own."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from twisted_patroni.engine.interface import RUNNING, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from twisted_patroni.engine.interface import NodeView
    from twisted_patroni.status import Status

_STATE_NUMBERS = {text: number for number, (_, text) in enumerate(STATES)}
_SINCE_REPLICATION_STATE = 90600
#: Methods that have a label of their own; a client cannot make more.
_KNOWN_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"PATCH", b"DELETE"})
#: Upper bounds of the histogram of answer times, in seconds.
_BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 3.0, 10.0)
_LABELS = (*_BOUNDS, "+Inf")


@frozen
class _Sample:
    """One metric of the engine: a name, a type and one value."""

    name: str
    kind: str
    value: int | float | str
    summary: str
    note: str | None = None


def _escape(value: str) -> str:
    """Escape a label's value as the text format asks (upstream does not)."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _epoch(moment: datetime | None) -> float | int:
    return moment.timestamp() if moment else 0


def _version_number(version: str) -> str:
    """Return ``040105`` for 4.1.5; dashboards know it with the leading zero."""
    return "".join(part.zfill(2) for part in version.split("."))


def _samples(node: NodeView, status: Status) -> Iterable[_Sample]:
    yield _Sample(
        "patroni_version", "gauge", _version_number(node.version), "The engine's version."
    )
    yield _Sample(
        "patroni_postgres_running", "gauge", status.state == RUNNING, "Whether PostgreSQL runs."
    )
    yield _Sample(
        "patroni_postmaster_start_time",
        "gauge",
        _epoch(status.start_time),
        "When PostgreSQL started, in seconds since the epoch.",
    )
    primary = status.role == "primary"
    yield _Sample("patroni_primary", "gauge", primary, "Whether PostgreSQL is a primary.")
    yield _Sample("patroni_master", "gauge", primary, "The same as patroni_primary.")
    yield from _position_samples(status)
    yield from _replication_samples(status)
    yield from _engine_samples(node, status)
    yield _Sample(
        "patroni_postgres_state",
        "gauge",
        _STATE_NUMBERS.get(status.state, -1),
        "PostgreSQL's state as a number, -1 if unknown.",
        "Values: " + ", ".join(f"{number}={name}" for number, (name, _) in enumerate(STATES)),
    )


def _position_samples(status: Status) -> Iterable[_Sample]:
    known = status.server_version != 0
    standby = known and status.in_recovery
    yield _Sample(
        "patroni_xlog_location",
        "counter",
        status.location or 0,
        "WAL position of a primary in bytes, else 0.",
    )
    yield _Sample(
        "patroni_standby_leader",
        "gauge",
        status.role == "standby_leader",
        "Whether this is a standby leader.",
    )
    yield _Sample(
        "patroni_replica", "gauge", status.role == "replica", "Whether this is a replica."
    )
    yield _Sample(
        "patroni_sync_standby",
        "gauge",
        status.sync_standby,
        "Whether this is a synchronous standby.",
    )
    yield _Sample(
        "patroni_quorum_standby",
        "gauge",
        status.quorum_standby,
        "Whether this is a quorum standby.",
    )
    yield _Sample(
        "patroni_xlog_received_location",
        "counter",
        (status.received or 0) if standby else 0,
        "WAL position received by a replica in bytes, else 0.",
    )
    yield _Sample(
        "patroni_xlog_replayed_location",
        "counter",
        (status.replayed or 0) if standby else 0,
        "WAL position replayed by a replica in bytes, else 0.",
    )
    yield _Sample(
        "patroni_xlog_replayed_timestamp",
        "gauge",
        _epoch(status.replayed_timestamp) if standby else 0,
        "Commit time of the last replayed transaction, in seconds since the epoch.",
    )
    yield _Sample(
        "patroni_xlog_paused",
        "gauge",
        standby and status.replay_paused is True,
        "Whether WAL replay is paused.",
    )


def _replication_samples(status: Status) -> Iterable[_Sample]:
    if status.server_version >= _SINCE_REPLICATION_STATE:
        yield _Sample(
            "patroni_postgres_streaming",
            "gauge",
            status.replication_state == "streaming",
            "Whether a replica streams.",
        )
        yield _Sample(
            "patroni_postgres_in_archive_recovery",
            "gauge",
            status.replication_state == "in archive recovery",
            "Whether a replica restores from the archive.",
        )
    yield _Sample(
        "patroni_postgres_server_version", "gauge", status.server_version, "PostgreSQL's version."
    )


def _engine_samples(node: NodeView, status: Status) -> Iterable[_Sample]:
    unlocked = node.cluster is None or node.cluster.unlocked
    members = node.failsafe_members or {}
    for name, value, summary in (
        ("patroni_cluster_unlocked", unlocked, "Whether nobody holds the leader key."),
        ("patroni_failsafe_mode_is_active", node.failsafe_active, "Whether failsafe mode acts."),
        ("patroni_failsafe_mode_enabled", node.failsafe_mode, "Whether it is configured."),
        ("patroni_failsafe_member", node.name in members, "Whether it would ask this node."),
        ("patroni_failover_priority", node.failover_priority, "0 if it must not be promoted."),
        ("patroni_postgres_timeline", status.timeline or 0, "The timeline, 0 if unknown."),
        ("patroni_dcs_last_seen", node.dcs_last_seen, "Last contact with the DCS, epoch seconds."),
        ("patroni_pending_restart", bool(node.pending_restart), "Whether a restart is needed."),
        ("patroni_is_paused", node.mode.paused, "Whether automatic failover is off."),
    ):
        yield _Sample(name, "gauge", value, summary)


def engine_metrics(node: NodeView, status: Status) -> str:
    """Return the metrics of engine and PostgreSQL in Prometheus' text format.

    Written here because prometheus-client would rename the counters (``_total``) and drop the
    version's leading zero, and dashboards depend on both.

    :param node: the engine's view.
    :param status: PostgreSQL's status.
    """
    labels = f'{{scope="{_escape(node.scope)}",name="{_escape(node.name)}"}}'
    lines: list[str] = []
    for sample in _samples(node, status):
        value = int(sample.value) if isinstance(sample.value, bool) else sample.value
        lines.append(f"# HELP {sample.name} {sample.summary}")
        if sample.note:
            lines.append(f"# {sample.note}")
        lines.append(f"# TYPE {sample.name} {sample.kind}")
        lines.append(f"{sample.name}{labels} {value}")
    return "\n".join(lines) + "\n"


@define(eq=False)
class ApiMetrics(Collector):
    """What the API counts about itself: plain numbers, made into metrics when they are asked for.

    :ivar requests: requests answered, by method and status.
    :ivar looks: looks at the DCS.
    """

    requests: dict[tuple[bytes, int], int] = field(factory=dict, init=False)
    looks: int = field(default=0, init=False)
    _buckets: list[int] = field(factory=lambda: [0] * (len(_BOUNDS) + 1), init=False)
    _seconds: float = field(default=0.0, init=False)
    _gauges: list[tuple[str, str, Callable[[], float]]] = field(factory=list, init=False)
    _registry: CollectorRegistry = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, method: bytes, code: int, seconds: float) -> None:
        """Count an answered request.

        :param method: its method.
        :param code: the answer's status.
        :param seconds: how long the answer took.
        """
        key = (method if method in _KNOWN_METHODS else b"other", code)
        self.requests[key] = self.requests.get(key, 0) + 1
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def gauge(self, name: str, summary: str, value: Callable[[], float]) -> None:
        """Show a number that is kept elsewhere.

        :param name: the metric's name.
        :param summary: what it tells.
        :param value: called at each scrape.
        """
        self._gauges.append((name, summary, value))

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        requests = CounterMetricFamily(
            "patroni_api_requests", "Requests answered.", labels=("method", "code")
        )
        for (method, code), count in self.requests.items():
            requests.add_metric((method.decode(), str(code)), count)
        yield requests
        totals = accumulate(self._buckets)
        yield HistogramMetricFamily(
            "patroni_api_request_seconds",
            "Time from a complete request to its answer.",
            buckets=[(str(bound), total) for bound, total in zip(_LABELS, totals, strict=True)],
            sum_value=self._seconds,
        )
        yield CounterMetricFamily("patroni_dcs_looks", "Looks at the DCS.", value=self.looks)
        for name, summary, value in self._gauges:
            yield GaugeMetricFamily(name, summary, value=value())

    def text(self) -> str:
        """Return these metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode("utf-8")
