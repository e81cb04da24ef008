"""What members of a cluster in memory answer to health checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted_patroni.client.amounts import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.client.testing.nodes import MemoryNode, Shared

_PRIMARY = ("", "primary", "master", "leader", "read-write")
#: Checks that a primary passes, too.
_ALSO = ("read-only", "read-only-sync", "read-only-synchronous", "read-only-quorum", "readiness")


def holds(shared: Shared, node: MemoryNode, name: str, query: Mapping[str, str]) -> bool:
    """Tell whether a member is what a health check asks for.

    :param shared: the cluster.
    :param node: the member.
    :param name: the check, without the slash.
    :param query: its parameters.
    """
    leads, runs = shared.leads(node), node.state in (None, "running", "streaming")
    if name == "liveness":
        return True
    if name == "health":
        return runs
    within = leads or _is_within(node, query.get("lag"))
    if name == "readiness":
        return runs and within and (leads or node.lag is not None)
    tagged = _is_tagged(node, query)
    if leads and name in _PRIMARY:
        spared = node.drain is not None and node.drain["primary"]
        return runs and tagged and not spared
    if leads or node.drain is not None:
        return leads and runs and tagged and name in _ALSO and node.drain is None
    state = query.get("replication_state", "streaming")
    fits = runs and tagged and within and not node.tags.get("noloadbalance")
    return fits and state == "streaming" and _is_kind(node, name)


def _is_kind(node: MemoryNode, name: str) -> bool:
    """Tell whether a check asks for replicas as this one."""
    if name in ("sync", "synchronous", "read-only-sync", "read-only-synchronous"):
        return node.sync
    if name in ("async", "asynchronous"):
        return not node.sync
    return name in ("replica", "read-only")


def _is_tagged(node: MemoryNode, query: Mapping[str, str]) -> bool:
    wanted = {name[4:]: value for name, value in query.items() if name.startswith("tag_")}
    shown = {
        name: value if isinstance(value, str) else str(value).lower()
        for name, value in node.tags.items()
    }
    return all(shown.get(name) == value for name, value in wanted.items())


def _is_within(node: MemoryNode, bound: str | None) -> bool:
    if bound is None:
        return True
    try:
        most = size_of(bound)
    except ValueError:  # nodes take an amount that they cannot read for no bound at all
        return True
    return node.lag is not None and node.lag <= most
