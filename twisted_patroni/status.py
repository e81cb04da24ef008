"""PostgreSQL's status for all callers from one statement at a time, and the document made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from twisted_patroni.engine.interface import (
    QUERYABLE_STATES,
    RUNNING,
    UNKNOWN_STATE,
    Engine,
    NodeView,
    StatusRow,
)
from twisted_patroni.postgres import PostgresError, Rows
from twisted_patroni.sharing import Patience, SharedNext

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from datetime import datetime

    from twisted.internet.interfaces import IReactorTime

_log = Logger()
_T = TypeVar("_T")

#: Seconds within which every caller has an answer, whatever PostgreSQL does.
DEADLINE = 3.0
_PRIMARY = "primary"
_REPLICA = "replica"


class Link(Protocol):
    """A connection to the local PostgreSQL."""

    def query(self, sql: str) -> Deferred[Rows]:
        """Run one statement."""

    def close(self) -> None:
        """Drop the connection for good."""


@frozen
class Status:
    """PostgreSQL's status as the API reports it.

    Without ``server_version`` it is the short form that is known without asking PostgreSQL.

    :param state: the engine's state text, or ``unknown`` when PostgreSQL should have answered.
    :param role: ``primary``, ``replica`` or what the engine says while PostgreSQL is silent.
    :param server_version: as PostgreSQL numbers it.
    :param start_time: when the postmaster started.
    :param location: WAL position of a primary in bytes.
    :param received: WAL position received by a replica.
    :param replayed: WAL position replayed by a replica.
    :param replayed_timestamp: commit time of the last replayed transaction.
    :param replay_paused: WAL replay is paused.
    :param sync_standby: this replica is a synchronous standby.
    :param quorum_standby: this replica is a quorum standby.
    :param timeline: the current timeline.
    :param latest_end_lsn: the position the WAL sender last reported.
    :param replication_state: ``streaming``, ``in archive recovery`` or ``None``.
    :param senders: the WAL senders.
    """

    state: str
    role: str
    server_version: int = 0
    start_time: datetime | None = None
    location: int | None = None
    received: int | None = None
    replayed: int | None = None
    replayed_timestamp: datetime | None = None
    replay_paused: bool | None = None
    sync_standby: bool = False
    quorum_standby: bool = False
    timeline: int | None = None
    latest_end_lsn: int | None = None
    replication_state: str | None = None
    senders: Sequence[Mapping[str, Any]] | None = None

    @property
    def in_recovery(self) -> bool:
        """Whether the positions are those of a server in recovery."""
        return self.location is None


@define(eq=False)
class Snapshot:
    """The node and PostgreSQL's status at one moment, shared by all who asked in time for it.

    :param node: the engine's view.
    :param status: PostgreSQL's status.
    """

    node: NodeView
    status: Status
    _answers: dict[Hashable, Any] = field(factory=dict, init=False)

    def once(self, key: Hashable, make: Callable[[Snapshot], _T]) -> _T:
        """Return what is made of this snapshot, made once for all who ask for the same.

        :param key: what is asked for.
        :param make: makes it.
        """
        answer: _T | None = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = make(self)
        return answer


@define(eq=False)
class StatusSource:
    """Asks PostgreSQL for its status, once for all who wait.

    Nobody gets a status whose statement began before the request for it: callers that arrive
    while one runs share the next.

    :param engine: whose PostgreSQL it is.
    :param link: the connection to it.
    :param clock: for the deadline.
    """

    engine: Engine
    link: Link
    clock: IReactorTime
    statements: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    _shared: SharedNext[Snapshot] = field(init=False)

    def __attrs_post_init__(self) -> None:
        # A statement costs as much as several answers: who asks in the same turn shares it.
        self._shared = SharedNext(
            self._take,
            Patience(self.clock, DEADLINE, self._silent),
            lambda: deferLater(self.clock, 0),
        )

    def current(self) -> Deferred[Snapshot]:
        """Return a snapshot that is not older than the call."""
        if self.engine.state() not in QUERYABLE_STATES:
            node = self.engine.node()
            return succeed(Snapshot(node, Status(node.state, node.role)))
        return self._shared.get()

    async def _take(self) -> Snapshot:
        try:
            row, version, timeline = await self._ask()
        except PostgresError as error:
            _log.debug("PostgreSQL did not tell its status: {error}", error=error)
            return self._silent()
        node = self.engine.node()
        state = self.engine.replication_state(row)
        return Snapshot(node, _status(node, row, version, timeline, state))

    def _silent(self) -> Snapshot:
        """Return what is known without PostgreSQL."""
        self.failures += 1
        node = self.engine.node()
        state = UNKNOWN_STATE if node.state == RUNNING else node.state
        return Snapshot(node, Status(state, node.role))

    async def _ask(self) -> tuple[StatusRow, int, int | None]:
        """Return what PostgreSQL says, its version and the timeline."""
        query = self.engine.status_query()
        if query is None:
            raise PostgresError("the server's version is not known yet")
        self.statements += 1
        result = await self.link.query(query.sql)
        row = StatusRow(*result.rows[0])
        return row, result.server_version, row.timeline or await self._replica_timeline()

    async def _replica_timeline(self) -> int | None:
        cluster = self.engine.node().cluster
        leaders = None if cluster is None or cluster.unlocked else cluster.leader_timeline
        known = self.engine.known_replica_timeline(leaders)
        if known is not None:
            return known
        try:
            return await self.engine.replica_timeline(leaders).addTimeout(1.0, self.clock)
        except CancelledError:
            raise
        except Exception as error:
            # A missing timeline must not cost the rest of the status.
            _log.debug("the replica's timeline is not known: {error}", error=error)
            return None


def _status(
    node: NodeView,
    row: StatusRow,
    server_version: int,
    timeline: int | None,
    replication_state: str | None,
) -> Status:
    primary = row.timeline != 0
    role = _PRIMARY if primary else _REPLICA
    if not primary and node.mode.standby_cluster:
        role = node.role
    synchronous = (
        role == _REPLICA
        and node.mode.synchronous
        and node.cluster is not None
        and node.name.lower() in node.cluster.sync_members
    )
    return Status(
        state=node.state,
        role=role,
        server_version=server_version,
        start_time=row.start_time,
        location=row.location if primary else None,
        received=row.written or row.received or row.replayed,
        replayed=row.replayed,
        replayed_timestamp=row.replayed_timestamp,
        replay_paused=row.replay_paused,
        sync_standby=synchronous and not node.global_quorum,
        quorum_standby=synchronous and node.global_quorum,
        timeline=timeline,
        latest_end_lsn=row.latest_end or None,
        replication_state=replication_state,
        senders=row.senders,
    )


def _positions(status: Status) -> dict[str, Any]:
    if not status.in_recovery:
        return {"location": status.location}
    return {
        # Members compare both as integers during a leader race, so neither may be null.
        "received_location": status.received or 0,
        "replayed_location": status.replayed or 0,
        "replayed_timestamp": status.replayed_timestamp,
        "paused": status.replay_paused,
    }


def document(
    node: NodeView,
    status: Status,
    *,
    legacy_roles: bool = False,
    drain: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the node status as health checks and ``GET /patroni`` send it.

    :param node: the engine's view.
    :param status: PostgreSQL's status.
    :param legacy_roles: say ``master`` for ``primary`` as Patroni 3 did.
    :param drain: why load balancers are to leave this node, if they are.
    """
    role = "master" if legacy_roles and status.role == _PRIMARY else status.role
    result: dict[str, Any] = {"state": status.state}
    if status.server_version:
        result["postmaster_start_time"] = status.start_time
    result["role"] = role
    if status.server_version:
        result["server_version"] = status.server_version
        result["xlog"] = _positions(status)
        if status.sync_standby:
            result["sync_standby"] = True
        if status.quorum_standby:
            result["quorum_standby"] = True
        result["timeline"] = status.timeline
        if status.replication_state:
            result["replication_state"] = status.replication_state
        if status.senders:
            result["replication"] = status.senders
    result |= _cluster_part(node) | _node_part(node)
    if drain is not None:
        result["drain"] = drain
    return result


def _cluster_part(node: NodeView) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if node.mode.paused:
        result["pause"] = True
    if node.cluster is None or node.cluster.unlocked:
        result["cluster_unlocked"] = True
    if node.failsafe_active:
        result["failsafe_mode_is_active"] = True
    result["dcs_last_seen"] = node.dcs_last_seen
    return result


def _node_part(node: NodeView) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if node.effective_tags:
        result["tags"] = node.effective_tags
    if node.system_identifier:
        result["database_system_identifier"] = node.system_identifier
    if node.pending_restart:
        result["pending_restart"] = True
        result["pending_restart_reason"] = dict(node.pending_restart)
    result["patroni"] = {"version": node.version, "scope": node.scope, "name": node.name}
    if node.scheduled_restart:
        result["scheduled_restart"] = node.scheduled_restart
    if not node.watchdog_healthy:
        result["watchdog_failed"] = True
    if node.log_queue_size:
        result["logger_queue_size"] = node.log_queue_size
        if node.log_records_lost:
            result["logger_records_lost"] = node.log_records_lost
    return result
