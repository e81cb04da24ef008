"""What the parity test's node can be made to show: its settings, and the cluster in the DCS.

Each set-up changes the one engine, and so what both APIs show, and undoes that at its end.
"""

from __future__ import annotations

import copy
import json
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from patroni.dcs import (
    Cluster,
    ClusterConfig,
    Failover,
    Leader,
    Member,
    Status,
    SyncState,
    TimelineHistory,
)
from patroni.utils import patch_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.real.parity_node import Node

SetUp = AbstractContextManager[None]
#: All set-ups by name; another module adds those of the engine.
SETUPS: dict[str, Callable[..., SetUp]] = {}


def setup(function: Callable[..., Iterator[None]]) -> Callable[..., SetUp]:
    """Make a set-up of a generator that shows something, yields, and undoes it."""
    made = contextmanager(function)
    SETUPS[function.__name__] = made
    return made


# The APIs' own settings, and the cluster in the DCS.


@setup
def restapi(node: Node, changes: dict[str, Any]) -> Iterator[None]:
    """Reload the ``restapi`` section with these changes."""
    node.configure(changes)
    try:
        yield
    finally:
        node.configure({})


def _changed(cluster: Cluster, **changes: Any) -> Cluster:
    # Its own _replace() does not know about the optional last field.
    return Cluster(*(changes.get(name, getattr(cluster, name)) for name in Cluster._fields))


@contextmanager
def _altered(node: Node, alter: Callable[[Cluster], Cluster]) -> Iterator[None]:
    node.alterations.append(alter)
    node.look()
    try:
        yield
    finally:
        node.alterations.remove(alter)
        node.look()


@setup
def config(node: Node, changes: dict[str, Any]) -> Iterator[None]:
    """Merge changes into the dynamic configuration, as PATCH does."""

    def alter(cluster: Cluster) -> Cluster:
        assert cluster.config is not None
        data = copy.deepcopy(cluster.config.data)
        patch_config(data, copy.deepcopy(changes))
        return _changed(
            cluster,
            config=ClusterConfig(cluster.config.version, data, cluster.config.modify_version),
        )

    with _altered(node, alter):
        yield


@setup
def no_config(node: Node) -> Iterator[None]:
    """Have no dynamic configuration in the DCS."""
    with _altered(node, lambda cluster: _changed(cluster, config=None)):
        yield


def our_url(node: Node) -> str:
    """Return the URL of our API, as a member publishes it."""
    return f"http://{node.section['listen']}/patroni"


def _member(node: Node, name: str, data: dict[str, Any]) -> Member:
    usual = {
        "api_url": "http://127.0.0.1:1/patroni",
        "conn_url": "postgres://127.0.0.1:1/postgres",
        "state": "running",
        "role": "replica",
        "timeline": 1,
    }
    text = json.dumps({**usual, **data}).replace('"@self"', json.dumps(our_url(node)))
    return Member.from_node(1, name, "1", text)


@setup
def members(node: Node, added: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Have further members, each with what is unusual about it; ``@self`` is our API's URL."""
    more = [_member(node, name, data) for name, data in added.items()]
    with _altered(node, lambda cluster: _changed(cluster, members=[*cluster.members, *more])):
        yield


@setup
def leader(node: Node, name: str | None) -> Iterator[None]:
    """Have another leader, or none."""

    def alter(cluster: Cluster) -> Cluster:
        member = next((each for each in cluster.members if each.name == name), None)
        assert name is None or member is not None
        return _changed(cluster, leader=None if member is None else Leader(1, "1", member))

    with _altered(node, alter):
        yield


@setup
def sync(node: Node, leading: str, standbys: str) -> Iterator[None]:
    """Have a synchronisation key."""
    with _altered(node, lambda c: _changed(c, sync=SyncState(1, leading, standbys, 0))):
        yield


@setup
def failover(node: Node, content: dict[str, Any]) -> Iterator[None]:
    """Have a failover key."""
    key = Failover.from_node(1, json.dumps(content))
    with _altered(node, lambda cluster: _changed(cluster, failover=key)):
        yield


@setup
def history(node: Node, lines: list[Any]) -> Iterator[None]:
    """Have a history."""
    key = TimelineHistory.from_node(1, json.dumps(lines))
    with _altered(node, lambda cluster: _changed(cluster, history=key)):
        yield


@setup
def published(node: Node, last_lsn: int) -> Iterator[None]:
    """Have the leader publish a WAL position."""
    with _altered(node, lambda c: _changed(c, status=Status(last_lsn, None, []))):
        yield


@setup
def failsafe_members(node: Node, content: dict[str, str] | None) -> Iterator[None]:
    """Have a failsafe topology in the DCS."""
    with _altered(node, lambda cluster: _changed(cluster, failsafe=content)):
        yield


@setup
def dcs_lost(node: Node) -> Iterator[None]:
    """Have the DCS out of reach, and nothing cached."""
    node.lost = True
    node.daemon.dcs.reset_cluster()
    try:
        yield
    finally:
        node.lost = False
        node.look()
