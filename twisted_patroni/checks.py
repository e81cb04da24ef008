"""Is this node what a health check asks for? Pure rules over the engine's and PostgreSQL's state.

The paths are tested by substring where upstream tests them so (`do_GET` of its handler): load
balancers in the field ask for `/replica-1` or `/my-leader` and depend on the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.engine.interface import NodeView
    from twisted_patroni.status import Status

OK = 200
UNAVAILABLE = 503

_PRIMARY = "primary"
_REPLICA = "replica"
_STANDBY_LEADER = "standby_leader"
_STREAMING = "streaming"
_TAG = "tag_"


@frozen
class HealthQuery:
    """What a health check adds to its path.

    :param lag: the greatest tolerable replication lag in bytes, ``None`` for any.
    :param replication_state: the replication state asked for, if any.
    :param tags: tags asked for, by name.
    """

    lag: int | None = None
    replication_state: str | None = None
    tags: Mapping[str, str] = {}

    @classmethod
    def of(cls, query: Mapping[str, str], lag: int | None) -> HealthQuery:
        """Build it from query parameters.

        :param query: the parameters.
        :param lag: the parameter ``lag`` as bytes, ``None`` if absent or not an amount.
        """
        tags = {name[len(_TAG) :]: value for name, value in query.items() if name.startswith(_TAG)}
        return cls(lag, query.get("replication_state"), tags)


@frozen
class _Conditions:
    """The four conditions that the paths combine."""

    leader: bool
    primary: bool
    standby_leader: bool
    replica: bool

    @property
    def writable_or_standby_leader(self) -> bool:
        return self.primary or self.standby_leader


def _lagging(node: NodeView, status: Status, allowed: int | None) -> bool:
    published = node.cluster.last_lsn if node.cluster else 0
    reference = max(published, status.latest_end_lsn or 0)
    if allowed is None or not reference:
        return False
    return reference > (status.replayed or 0) + allowed


def _conditions(node: NodeView, status: Status, query: HealthQuery) -> _Conditions:
    role = status.role
    replica = (
        role == _REPLICA
        and status.state == "running"
        and not node.noloadbalance
        and not _lagging(node, status, query.lag)
        and query.replication_state in (None, status.replication_state)
    )
    if node.cluster is None and node.mode.paused:
        # Nobody can hold the lock for sure; in a pause PostgreSQL's own role is the best answer.
        return _Conditions(
            leader=role in (_PRIMARY, _STANDBY_LEADER),
            primary=role == _PRIMARY,
            standby_leader=role == _STANDBY_LEADER,
            replica=replica,
        )
    if not node.leader:
        return _Conditions(leader=False, primary=False, standby_leader=False, replica=replica)
    standby = node.mode.standby_cluster
    return _Conditions(
        leader=True,
        primary=not standby,
        standby_leader=standby and role in (_REPLICA, _STANDBY_LEADER),
        replica=replica and not standby,
    )


def _known_cluster_check(path: str, status: Status, is_: _Conditions) -> bool:
    """Decide on the paths that upstream compares in full and answers only with the DCS at hand."""
    match path:
        case "/sync" | "/synchronous":
            return status.sync_standby and is_.replica
        case "/quorum":
            return status.quorum_standby and is_.replica
        case "/async" | "/asynchronous":
            return not status.sync_standby and not status.quorum_standby and is_.replica
        case "/read-only-quorum":
            return is_.writable_or_standby_leader or (status.quorum_standby and is_.replica)
        case "/read-only-sync" | "/read-only-synchronous":
            return is_.writable_or_standby_leader or (status.sync_standby and is_.replica)
    return False


def _tags_match(node: NodeView, wanted: Mapping[str, str]) -> bool:
    for name, value in wanted.items():
        tag = node.tags.get(name)
        if tag is None:
            return False
        if (tag if isinstance(tag, str) else str(tag).lower()) != value:
            return False
    return True


def decide(path: str, query: HealthQuery, node: NodeView, status: Status) -> int:
    """Answer a health check.

    :param path: the path asked for, e.g. ``/replica``.
    :param query: its parameters.
    :param node: the engine's view of this node.
    :param status: PostgreSQL's status.
    :return: 200 if the node is what the path asks for, else 503.
    """
    path = "/primary" if path == "/" else path
    is_ = _conditions(node, status, query)
    if "standby_leader" in path or "standby-leader" in path:
        return OK if is_.standby_leader else UNAVAILABLE
    if "leader" in path:
        return OK if is_.leader else UNAVAILABLE
    if "master" in path or "primary" in path or "read-write" in path:
        return OK if is_.primary else UNAVAILABLE
    if "replica" in path:
        healthy = is_.replica
    elif "read-only" in path and "sync" not in path and "quorum" not in path:
        healthy = is_.writable_or_standby_leader or is_.replica
    elif "health" in path:
        healthy = status.state == "running"
    else:
        healthy = node.cluster is not None and _known_cluster_check(path, status, is_)
    return OK if healthy and _tags_match(node, query.tags) else UNAVAILABLE


def covers(path: str, *, primary: bool) -> bool:
    """Tell whether a drained node answers 503 to a health check, whatever else it is.

    `/read-only` and its kin are covered on a primary, too: it must be possible to empty a node.
    `/health` is not, for it asks whether PostgreSQL runs.

    :param path: the path asked for.
    :param primary: whether the drain covers the checks that look for a primary or leader, too.
    """
    if path == "/" or any(word in path for word in ("leader", "master", "primary", "read-write")):
        return primary
    if "replica" in path:
        return True
    if "read-only" in path and "sync" not in path and "quorum" not in path:
        return True
    return "health" not in path


def liveness(node: NodeView, now: float) -> bool | None:
    """Tell whether the HA loop runs on time.

    A primary may be late by one ttl, any other node by two.

    :param node: the engine's view of this node.
    :param now: Unix time in seconds.
    :return: the answer, or ``None`` if it depends on whether a primary's postmaster runs.
    """
    if node.mode.paused or node.next_run + node.ttl > now:
        return True
    if node.next_run + 2 * node.ttl <= now:
        return False
    return True if node.role != _PRIMARY else None


LagMode = Literal["write", "apply"]


def ready_without_status(node: NodeView) -> str | None:
    """Decide readiness from memory where that is enough.

    :param node: the engine's view of this node.
    :return: an empty text if ready, the reason if not, ``None`` if the status is needed.
    """
    if node.leader:
        return ""
    return None if node.state == "running" else "PostgreSQL is not running"


def unready_reason(node: NodeView, status: Status, lag: int | None, mode: LagMode) -> str | None:
    """Tell why a replica should get no traffic yet.

    :param node: the engine's view of this node.
    :param status: PostgreSQL's status.
    :param lag: the greatest tolerable lag in bytes; ``maximum_lag_on_failover`` if ``None``.
    :param mode: measure the lag by what is written or by what is replayed.
    :return: the reason, or ``None`` if it is ready.
    """
    if status.replication_state != _STREAMING:
        return "PostgreSQL replication state is not streaming"
    if node.cluster is None and not status.latest_end_lsn:
        return None if node.failsafe_active else "DCS is not accessible"
    reference = max(node.cluster.last_lsn if node.cluster else 0, status.latest_end_lsn or 0)
    position = status.received if mode == "write" else status.replayed
    behind = reference - (position or 0)
    allowed = node.mode.maximum_lag_on_failover if lag is None else lag
    if behind > allowed:
        return f"Replication {mode} lag {behind} exceeds maximum allowable {allowed}"
    return None
