"""What the API may know of an engine: frozen views, one moment each."""

from __future__ import annotations

import json
from enum import Enum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrs import Factory, field, frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

UNKNOWN_STATE = "unknown"
RUNNING = "running"
#: The states in which PostgreSQL may answer a query (contract: node status).
QUERYABLE_STATES = frozenset({"running", "restarting", "starting"})
#: PostgreSQL states in the order of the metric ``patroni_postgres_state``, with their names there.
STATES: tuple[tuple[str, str], ...] = (
    ("initdb", "initializing new cluster"),
    ("initdb_failed", "initdb failed"),
    ("custom_bootstrap", "running custom bootstrap script"),
    ("custom_bootstrap_failed", "custom bootstrap failed"),
    ("creating_replica", "creating replica"),
    ("running", "running"),
    ("starting", "starting"),
    ("bootstrap_starting", "starting after custom bootstrap"),
    ("start_failed", "start failed"),
    ("restarting", "restarting"),
    ("restart_failed", "restart failed"),
    ("stopping", "stopping"),
    ("stopped", "stopped"),
    ("stop_failed", "stop failed"),
    ("crashed", "crashed"),
)


@frozen
class MemberView:
    """One member of the cluster as the DCS has it.

    :param name: its name.
    :param api_url: where its REST API is, as it published it.
    :param role: as `patronictl list` shows it: ``leader``, ``standby_leader``, ``sync_standby``,
        ``quorum_standby`` or ``replica``.
    :param state: PostgreSQL's state, or the replication state of a standby that has one.
    :param host: where its PostgreSQL is.
    :param port: where its PostgreSQL is.
    :param timeline: as it published it.
    :param lag: bytes behind the leader, ``None`` for the leader and where it is not known.
    :param tags: as it published them.
    :param pending_restart: parameters wait for a restart there.
    :param scheduled_restart: the restart scheduled there.
    """

    name: str
    api_url: str | None
    role: str = "replica"
    state: str = ""
    host: str | None = None
    port: int | None = None
    timeline: int | None = None
    lag: int | None = None
    tags: Mapping[str, Any] = field(factory=dict)
    pending_restart: bool = False
    scheduled_restart: Mapping[str, Any] | None = None


@frozen
class FailoverView:
    """The failover key of the DCS.

    :param leader: who is to step down, if named.
    :param candidate: who is to take over, if named.
    :param scheduled_at: when, for a scheduled switchover.
    :param version: the key's version, for a conditional write.
    """

    leader: str | None
    candidate: str | None
    scheduled_at: datetime | None
    version: Any = field(default=None, eq=False, repr=False)


@frozen
class ModeView:
    """What the cluster's dynamic configuration says about its way of working.

    :param paused: automatic failover is off.
    :param standby_cluster: the cluster follows another one.
    :param synchronous: synchronous replication is asked for.
    :param quorum: it is quorum based.
    :param maximum_lag_on_failover: in bytes.
    """

    paused: bool = False
    standby_cluster: bool = False
    synchronous: bool = False
    quorum: bool = False
    maximum_lag_on_failover: int = 1048576


@frozen
class ClusterView:
    """The cluster as one look at the DCS showed it.

    :param leader: name of the leader, or ``None``.
    :param unlocked: nobody holds the leader key.
    :param leader_timeline: the leader's timeline, if it published one.
    :param last_lsn: the last WAL position the leader published, in bytes; 0 if unknown.
    :param members: the members.
    :param sync_members: the standbys that the synchronisation key names, in lower case.
    :param failover: the failover key, if there is one.
    :param history: the lines of the history key.
    :param config: the dynamic configuration, or ``None`` if the key was never written.
    :param config_version: its version, for a conditional write.
    :param mode: what that configuration asks for.
    :param worker_members: members of MPP worker groups.
    :param leader_confirmed: the leader has published that it works as one; the timeline of one
        that is still to be promoted is the last leader's.
    """

    leader: str | None
    unlocked: bool
    leader_timeline: int | None
    last_lsn: int
    members: tuple[MemberView, ...]
    sync_members: frozenset[str]
    failover: FailoverView | None
    history: Sequence[Any] = field(eq=False)
    config: Mapping[str, Any] | None = field(eq=False)
    config_version: Any = field(eq=False, repr=False)
    mode: ModeView
    worker_members: tuple[MemberView, ...] = ()
    leader_confirmed: bool = True


class Stir(Enum):
    """What happened in the engine between two looks at the DCS and two HA cycles."""

    #: PostgreSQL's state or role, or the parameters that wait for a restart, have changed.
    NODE = "node"
    #: This node has taken the leader key.
    ACQUIRED = "acquired"
    #: This node has given the leader key up.
    RELEASED = "released"
    #: The DCS has told of a change to what is watched there, or the HA loop was woken.
    DCS = "dcs"


def config_digest(config: Mapping[str, Any]) -> str:
    """Return a short text that is the same for the same dynamic configuration, on every node.

    :param config: the configuration.
    """
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)
    return sha256(text.encode()).hexdigest()[:16]


@frozen
class Look:
    """One look at the DCS: what it showed, and when it began.

    :param number: counts the looks begun in this process; a look whose number is greater than
        :meth:`Engine.looks_begun` at some moment began after that moment.
    :param cluster: what it showed.
    """

    number: int
    cluster: ClusterView


@frozen
class Cycle:
    """One cycle of the HA loop, on the reactor's clock, without the wait for the next one."""

    began: float
    ended: float


@frozen
class NodeView:
    """This node, from the engine's memory, at one moment.

    :param name: the member's name.
    :param scope: the cluster's name.
    :param version: the engine's version.
    :param state: PostgreSQL's state text.
    :param role: PostgreSQL's role text.
    :param leader: this node holds an unexpired leader key.
    :param cluster: the cluster as last seen, ``None`` while the DCS is out of reach.
    :param mode: what the dynamic configuration asks for, also while ``cluster`` is ``None``.
    :param global_quorum: quorum commit as the HA loop last applied it.
    :param failsafe_active: the node stays up only because all members agree.
    :param failsafe_mode: failsafe mode is configured.
    :param failsafe_members: names and URLs of the failsafe topology, ``None`` if not known.
    :param dcs_last_seen: Unix time of the last good contact with the DCS, in whole seconds.
    :param next_run: Unix time of the next HA cycle.
    :param ttl: of the leader key, in seconds.
    :param loop_wait: between HA cycles, in seconds.
    :param tags: the configured tags.
    :param effective_tags: those, and what the engine has set for now.
    :param failover_priority: 0 for a node that must not be promoted.
    :param system_identifier: of the database, ``None`` if not known yet.
    :param pending_restart: parameters waiting for a restart, with old and new value.
    :param scheduled_restart: the scheduled restart, without what is internal to the engine.
    :param watchdog_healthy: the watchdog is what the configuration asks for.
    :param log_queue_size: records waiting in the log queue, when more than normal; else 0.
    :param log_records_lost: records lost because that queue was full.
    :param dcs_answers: the DCS has answered the last time it was asked, and the HA loop can work
        with it; ``cluster`` is also ``None`` for a moment after the leader key was given up.
    """

    name: str
    scope: str
    version: str
    state: str
    role: str
    leader: bool
    cluster: ClusterView | None
    mode: ModeView = ModeView()
    global_quorum: bool = False
    failsafe_active: bool = False
    failsafe_mode: bool = False
    failsafe_members: Mapping[str, str] | None = None
    dcs_last_seen: int = 0
    next_run: float = 0.0
    ttl: int = 30
    loop_wait: int = 10
    tags: Mapping[str, Any] = field(factory=dict)
    effective_tags: Mapping[str, Any] = field(factory=dict)
    failover_priority: int = 1
    system_identifier: str | None = None
    pending_restart: Mapping[str, Any] = field(factory=dict)
    scheduled_restart: Mapping[str, Any] | None = None
    watchdog_healthy: bool = True
    log_queue_size: int = 0
    log_records_lost: int = 0
    dcs_answers: bool = Factory(lambda self: self.cluster is not None, takes_self=True)

    @property
    def noloadbalance(self) -> bool:
        """Whether the node asks to be left out of load balancing."""
        return bool(self.tags.get("noloadbalance", False))


@frozen
class StatusQuery:
    """The statement to ask for PostgreSQL's status; its columns are :class:`StatusRow`'s."""

    sql: str


@frozen
class StatusRow:
    """The one row of the status statement.

    :param start_time: when the postmaster started.
    :param timeline: of a primary; 0 in recovery.
    :param location: WAL position of a primary in bytes.
    :param replayed: replayed WAL position in bytes.
    :param received: received WAL position in bytes.
    :param replay_paused: WAL replay is paused.
    :param replayed_timestamp: commit time of the last replayed transaction.
    :param latest_end: the position the WAL sender last reported.
    :param receiver_status: of the WAL receiver.
    :param restore_command: as PostgreSQL has it, since version 12.
    :param written: WAL position written by the receiver, since version 13.
    :param senders: one mapping for each WAL sender, or ``None``.
    """

    start_time: datetime | None
    timeline: int
    location: int | None
    replayed: int | None
    received: int | None
    replay_paused: bool | None
    replayed_timestamp: datetime | None
    latest_end: int | None
    receiver_status: str | None
    restore_command: str | None
    written: int | None
    senders: Sequence[Mapping[str, Any]] | None


@frozen
class Candidate:
    """What a member answered when asked whether it could take over.

    :param name: the member.
    :param limitation: why it could not, or ``None``.
    """

    name: str
    limitation: str | None
