"""Upstream's cluster object, read once into an immutable view."""

from __future__ import annotations

from copy import deepcopy
from math import isfinite
from typing import TYPE_CHECKING, Any

from patroni import global_config
from patroni.utils import cluster_as_json
from twisted.logger import Logger

from twisted_patroni.engine.interface import ClusterView, FailoverView, MemberView, ModeView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from patroni.dcs import Cluster, Member

_log = Logger()
#: Roles that a leader publishes once it works as one; the first is that of old versions.
_LEADING = ("master", "primary", "standby_leader")


def mode_view(cluster: Cluster | None) -> ModeView:
    """Return what the cluster's dynamic configuration asks for.

    :param cluster: as seen in the DCS; without one, or without a configuration in it, what the
        HA loop last applied counts.
    """
    config = global_config.from_cluster(cluster)
    return ModeView(
        paused=config.is_paused,
        standby_cluster=config.is_standby_cluster,
        synchronous=config.is_synchronous_mode,
        quorum=config.is_quorum_commit_mode,
        maximum_lag_on_failover=config.maximum_lag_on_failover,
    )


def _members(cluster: Cluster) -> tuple[MemberView, ...]:
    """Return the members as `patronictl list` shows them, in the DCS's order."""
    try:
        shown = {each["name"]: each for each in cluster_as_json(cluster)["members"]}
    except Exception as error:  # somebody else has written what no member writes
        _log.debug("A member's data cannot be read: {error!r}", error=error)
        shown = {}
    return tuple(_member(member, shown.get(member.name, {})) for member in cluster.members)


def _member(member: Member, shown: Mapping[str, Any]) -> MemberView:
    lag, tags = shown.get("lag"), shown.get("tags")
    return MemberView(
        name=member.name,
        api_url=member.api_url,
        role=shown.get("role", "replica"),
        state=str(shown.get("state", "")),
        host=shown.get("host"),
        port=shown.get("port"),
        timeline=shown.get("timeline"),
        lag=lag if isinstance(lag, int) else None,
        tags=_finite(tags) if isinstance(tags, dict) else {},
        pending_restart=bool(shown.get("pending_restart")),
        scheduled_restart=shown.get("scheduled_restart"),
    )


def _finite(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Make texts of numbers that JSON lacks, and that are not equal to themselves."""
    return {
        key: each if not isinstance(each, float) or isfinite(each) else str(each)
        for key, each in tags.items()
    }


def cluster_view(cluster: Cluster) -> ClusterView:
    """Return an immutable view of upstream's cluster object.

    :param cluster: as one of the engine's looks at the DCS returned it.
    """
    leader, failover, config = cluster.leader, cluster.failover, cluster.config
    if config is not None and not config.modify_version:
        config = None
    return ClusterView(
        leader=leader.name if leader else None,
        unlocked=cluster.is_unlocked(),
        leader_timeline=leader.timeline if leader else None,
        last_lsn=cluster.status.last_lsn or 0,
        members=_members(cluster),
        # Not the leader the key also names: it may be one that has become a replica since.
        sync_members=frozenset(name.lower() for name in cluster.sync.voters),
        failover=None
        if not failover
        else FailoverView(
            failover.leader or None,
            failover.candidate or None,
            failover.scheduled_at,
            failover.version,
        ),
        history=(cluster.history and cluster.history.lines) or [],
        config=deepcopy(config.data) if config else None,  # the engine edits its own
        config_version=config.version if config else None,
        mode=mode_view(cluster),
        worker_members=tuple(
            member for worker in cluster.workers.values() for member in _members(worker)
        ),
        leader_confirmed=leader is not None and leader.data.get("role") in _LEADING,
    )
