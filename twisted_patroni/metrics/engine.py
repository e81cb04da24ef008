"""The engine's metrics, under the names that upstream's dashboards know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from twisted_patroni.engine.interface import RUNNING, STATES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from twisted_patroni.engine.interface import NodeView
    from twisted_patroni.status import Status

_STATE_NUMBERS = {text: number for number, (_, text) in enumerate(STATES)}
_SINCE_REPLICATION_STATE = 90600


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
