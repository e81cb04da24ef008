"""Tests of twisted_patroni.engine.observer, with upstream's own classes without their servers."""

from __future__ import annotations

from threading import Event, Lock
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from patroni.dcs import AbstractDCS, Cluster, Leader, Member
from patroni.dcs.etcd3 import Etcd3, KVCache, PatroniEtcd3Client, base64_encode
from patroni.dcs.kubernetes import ObjectCache
from patroni.dcs.raft import KVStoreTTL, Raft
from patroni.exceptions import DCSError
from patroni.ha import Ha
from patroni.postgresql import Postgresql
from patroni.postgresql.misc import PostgresqlRole, PostgresqlState
from patroni.postgresql.mpp import get_mpp
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.engine.host import Patroni
from twisted_patroni.engine.interface import Stir
from twisted_patroni.engine.observer import observe_stirs

SECTION = {"name": "alpha", "scope": "demo", "namespace": "/service/"}


def make_postgresql() -> Any:
    """Return upstream's PostgreSQL without a data directory."""
    postgresql = Postgresql.__new__(Postgresql)
    postgresql._state_lock, postgresql._role_lock = Lock(), Lock()
    return postgresql


def make_dcs(kind: type[AbstractDCS]) -> Any:
    """Return upstream's client of a DCS, without a connection to one.

    :param kind: its class.
    """
    dcs = kind.__new__(kind)
    AbstractDCS.__init__(dcs, SECTION, get_mpp({}))
    return dcs


class ObserverCase(SynchronousTestCase):
    """Upstream's objects, observed."""

    def setUp(self) -> None:
        """Observe an etcd."""
        self.told: list[Stir] = []
        self.use(make_dcs(Etcd3))

    def use(self, dcs: Any) -> None:
        """Observe a node with another DCS.

        :param dcs: upstream's client.
        """
        self.dcs = dcs
        self.postgresql = make_postgresql()
        daemon: Any = Patroni.__new__(Patroni)
        self.daemon = daemon
        self.ha: Any = SimpleNamespace(_handle_dcs_error=lambda: "DCS is not accessible")
        daemon.dcs, daemon.postgresql, daemon.ha = dcs, self.postgresql, self.ha
        self.told.clear()
        observe_stirs(daemon, self.stirred)

    def stirred(self, stir: Stir) -> None:
        """Note what is told."""
        self.told.append(stir)


class NodeTests(ObserverCase):
    """What happens to PostgreSQL."""

    def test_state_and_role(self) -> None:
        """A state and a role are told of once they count."""
        seen = []
        self.postgresql._pending_restart_reason = {}
        observe_stirs(self.daemon, lambda stir: seen.append(str(self.postgresql.state)))
        self.postgresql.set_state(PostgresqlState.STOPPING)
        self.postgresql.set_role(PostgresqlRole.DEMOTED)
        self.postgresql.set_pending_restart_reason({"max_connections": {}})
        self.assertEqual(self.told, [Stir.NODE] * 3)
        self.assertEqual(seen, ["stopping"] * 3)
        self.assertEqual(str(self.postgresql.role), "demoted")

    def test_upstream_calls_what_is_observed(self) -> None:
        """Upstream's own methods reach the observed ones."""
        self.postgresql._pending_restart_reason = {}
        self.postgresql.bootstrap = SimpleNamespace()
        with patch.object(Postgresql, "get_postgres_role_from_data_directory", lambda _: "replica"):
            self.postgresql.set_role(self.postgresql.get_postgres_role_from_data_directory())
        ha = Ha.__new__(Ha)
        ha.dcs = self.dcs
        ha.wakeup()
        self.assertEqual(self.told, [Stir.NODE, Stir.DCS])
        self.assertTrue(self.dcs.event.is_set())

    def test_failing_report(self) -> None:
        """A report that fails is logged; upstream has its effect and its result all the same."""

        def broken(stir: Stir) -> None:
            raise RuntimeError("oops")

        self.use(make_dcs(Etcd3))
        self.dcs._delete_leader = lambda leader: True
        observe_stirs(self.daemon, broken)
        self.postgresql.set_state(PostgresqlState.RUNNING)
        self.dcs.event.set()
        self.assertTrue(self.dcs.delete_leader(object()))
        self.assertEqual(self.ha._handle_dcs_error(), "DCS is not accessible")
        self.assertEqual(str(self.postgresql.state), "running")
        self.assertTrue(self.dcs.event.is_set())
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)

    def test_upstream_fails(self) -> None:
        """What upstream raises is upstream's, and is no event."""

        def failing(leader: object) -> bool:
            raise DCSError("away")

        self.dcs._delete_leader = failing
        self.assertRaises(DCSError, self.dcs.delete_leader, object())
        self.assertEqual(self.told, [])

    def test_dcs_away(self) -> None:
        """That the HA loop does without the DCS is told before it acts upon it, and remembered."""
        acted: list[Any] = []
        self.ha._handle_dcs_error = lambda: acted.append((list(self.told), self.daemon.dcs_lost))
        observe_stirs(self.daemon, self.stirred)
        self.ha._handle_dcs_error()
        self.assertEqual(acted, [([Stir.NODE], True)])


class KeyTests(ObserverCase):
    """What the node does to the leader key."""

    def test_taken(self) -> None:
        """A key that was taken is told of; one that somebody else has is not."""
        for result, expected in (({"header": {}}, [Stir.ACQUIRED]), ({}, []), (False, [])):
            dcs = make_dcs(Etcd3)
            dcs.attempt_to_acquire_leader = dcs.take_leader = lambda result=result: result
            self.use(dcs)
            self.assertEqual(dcs.attempt_to_acquire_leader(), result)
            self.assertEqual(self.told, expected)
            dcs.acquire_leader_lock()
            dcs.take_leader()
            self.assertEqual(self.told, expected * 3)

    def test_given_up(self) -> None:
        """A key that was given up is told of; not one that could not be, nor without a leader."""
        leader = Leader(1, None, Member(1, "alpha", None, {}))
        for result, given, expected in (
            (True, leader, [Stir.RELEASED]),
            (False, leader, []),
            (True, None, []),
        ):
            self.use(make_dcs(Etcd3))
            self.dcs._delete_leader = lambda leader, result=result: result
            self.dcs.delete_leader(given)
            self.assertEqual(self.told, expected)

    def test_ha_forgets_the_cluster(self) -> None:
        """Upstream forgets the cluster as it gives the key up: that says nothing of the DCS."""
        ha: Any = Ha.__new__(Ha)
        ha.dcs, ha._leader_expiry_lock, ha.cluster = self.dcs, Lock(), Cluster.empty()
        self.dcs._cluster, self.dcs._cluster_valid_till = Cluster.empty(), 9e9
        self.assertIsNotNone(self.dcs.cluster)
        ha._delete_leader()
        self.assertIsNone(self.dcs.cluster)

    def test_told_twice(self) -> None:
        """Where taking the key is done by another method that is told of, it may be told twice."""
        dcs = make_dcs(Etcd3)
        dcs.attempt_to_acquire_leader = lambda: True
        dcs.take_leader = lambda: dcs.attempt_to_acquire_leader()
        self.use(dcs)
        self.assertTrue(dcs.take_leader())
        self.assertEqual(set(self.told), {Stir.ACQUIRED})


class WatcherTests(ObserverCase):
    """Which changes in the DCS are told of by upstream's watchers."""

    def test_etcd3(self) -> None:
        """Etcd's watcher tells of the key after its copy has it, not when it is prolonged."""
        self.use(make_dcs(Etcd3))
        with patch.object(KVCache, "start"):
            cache = KVCache(self.dcs, SimpleNamespace())  # type: ignore[arg-type]
        key = base64_encode(self.dcs.leader_path)
        seen: list[Any] = []
        observe_stirs(self.daemon, lambda stir: seen.append(cache.get(key)))

        def event(name: str, revision: int, kind: str = "PUT") -> None:
            pair = {"key": key, "value": base64_encode(name), "mod_revision": str(revision)}
            cache._process_event({"type": kind, "kv": pair})

        event("beta", 1)
        self.assertEqual(self.told, [Stir.DCS])
        self.assertEqual(seen[0]["value"], base64_encode("beta"))
        event("beta", 2)
        self.assertEqual(self.told, [Stir.DCS])
        event("", 3, "DELETE")
        event("gamma", 4)
        self.assertEqual(self.told, [Stir.DCS] * 3)

    def test_etcd3_own_write(self) -> None:
        """A look after the node's own write shows it, though etcd has not told of it yet."""
        dcs = make_dcs(Etcd3)
        client: Any = PatroniEtcd3Client.__new__(PatroniEtcd3Client)
        with patch.object(KVCache, "start"):
            client._kv_cache = KVCache(dcs, client)
        done = {"succeeded": True, "header": {"revision": "5"}}
        with patch("patroni.dcs.etcd3.Etcd3Client.call_rpc", return_value=done):
            key = base64_encode(dcs.leader_path)
            put = {"request_put": {"key": key, "value": base64_encode("alpha")}}
            client.call_rpc("/kv/txn", {"success": [put]})
        self.assertEqual(client._kv_cache.get(key)["value"], base64_encode("alpha"))

    def test_raft(self) -> None:
        """Raft's copy tells of another leader once it has it, not when that prolongs the key."""
        dcs = make_dcs(Raft)
        store: Any = KVStoreTTL.__new__(KVStoreTTL)
        dcs._sync_obj = store
        data: dict[str, Any] = {}
        store.get = data.get
        store._KVStoreTTL__on_set, store._KVStoreTTL__on_delete = dcs._on_set, dcs._on_delete
        self.use(dcs)
        seen: list[Any] = []
        observe_stirs(self.daemon, lambda stir: seen.append(data[dcs.leader_path]["value"]))

        def put(key: str, name: str, created: float, updated: float) -> None:
            data[key] = {"value": name, "created": created, "updated": updated}
            store._KVStoreTTL__on_set(key, data[key])

        put(dcs.leader_path, "beta", 1.0, 1.0)
        put(dcs.leader_path, "beta", 1.0, 2.0)
        put(dcs.members_path + "beta", "{}", 3.0, 3.0)
        self.assertEqual((self.told, seen), ([Stir.DCS], ["beta"]))
        store._KVStoreTTL__on_delete(dcs.leader_path)
        put(dcs.leader_path, "beta", 4.0, 4.0)
        self.assertEqual(self.told, [Stir.DCS] * 3)
        put(dcs.leader_path, "gamma", 4.0, 5.0)
        self.assertEqual(seen[-1], "gamma")

    def test_raft_is_not_disturbed(self) -> None:
        """Raft goes on whatever its values are."""
        dcs = make_dcs(Raft)
        dcs._sync_obj = SimpleNamespace(_KVStoreTTL__on_set=lambda key, value: None)
        self.use(dcs)
        dcs._sync_obj._KVStoreTTL__on_set(dcs.leader_path, None)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_raft_of_another_make(self) -> None:
        """What upstream does not have is not observed."""
        dcs = make_dcs(Raft)
        dcs._sync_obj = SimpleNamespace()
        self.ha = SimpleNamespace()
        self.use(dcs)
        dcs.event.set()
        self.assertEqual(self.told, [Stir.DCS])

    def test_kubernetes(self) -> None:
        """The watcher of Kubernetes tells of another leader."""
        dcs: Any = SimpleNamespace(
            leader_path="demo-leader", config_path="demo-config", event=Event(), _LEADER="leader",
            _CONFIG="config",
        )  # fmt: skip
        told: list[Stir] = []
        dcs.attempt_to_acquire_leader = dcs.take_leader = dcs.delete_leader = bool
        self.daemon.dcs = dcs
        observe_stirs(self.daemon, told.append)
        with patch.object(ObjectCache, "start"):
            cache = ObjectCache(dcs, lambda: None, None, None, "alpha")  # type: ignore[arg-type]
        metadata = {
            "name": "demo-leader", "resourceVersion": "1", "annotations": {"leader": "beta"}
        }  # fmt: skip
        endpoints = {"kind": "Endpoints", "metadata": metadata}
        cache._process_event({"type": "ADDED", "object": endpoints})
        self.assertEqual(told, [Stir.DCS])
