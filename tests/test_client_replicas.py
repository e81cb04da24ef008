"""Tests of twisted_patroni.client.replicas: who is there, and who is asked."""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.replicascase import ReplicasCase
from twisted_patroni.client.crew import MAX_NODES
from twisted_patroni.client.errors import (
    ClusterUnknown,
    NoMember,
    Unreachable,
)
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.replicas import Replicas
from twisted_patroni.client.response import Response
from twisted_patroni.client.testing import MemoryCluster
from twisted_patroni.client.topology import STAGGER
from twisted_patroni.client.values import Member


class StartTests(ReplicasCase):
    """To begin, and to end."""

    def test_start(self) -> None:
        """The members are known when it has begun."""
        self.assertEqual(self.replicas.members, ())
        self.assertIsNone(self.replicas.current_leader)
        self.started()
        self.assertEqual([each.name for each in self.replicas.members], ["a", "b", "c"])
        leader = self.replicas.current_leader
        self.assertEqual(leader and leader.name, "a")
        self.assertEqual(self.replicas.conflict, ())

    def test_one_seed(self) -> None:
        """One node is enough to know all, and need not be in a list."""
        replicas = self.client()
        replicas.seeds = ("http://unused",)
        one = type(replicas)(self.clock, self.memory.url("b"), agent=self.memory)
        self.get(one.start())
        self.assertEqual(len(one.members), 3)
        self.get(one.close())

    def test_seeds_down(self) -> None:
        """It does not matter which of the seeds can be asked."""
        self.memory.refuse("a")
        self.memory.kill("b")
        self.assertEqual([each.name for each in self.started().members], ["a", "c"])

    def test_no_seed(self) -> None:
        """Without any seed there is no cluster to know."""
        error = self.assertRaises(
            ValueError, type(self.replicas), self.clock, [], agent=self.memory
        )
        self.assertIn("seeds", str(error))

    def test_unknown(self) -> None:
        """If no node tells in time, it is told why, of each."""
        for name in ("a", "b", "c"):
            self.memory.refuse(name)
        for asking in (self.replicas.start(), self.replicas.leader(), self.replicas.get("/")):
            asked = self.begin(asking)
            self.pass_time(9.9)
            self.assertNoResult(asked)
            self.pass_time(0.15)
            error = self.fails(asked, ClusterUnknown, "refuses connections")
            self.assertEqual(set(error.reasons), set(self.memory.urls))

    def test_by_itself(self) -> None:
        """Nobody must begin: the first call does."""
        self.assertEqual(self.get(self.client().leader()).name, "a")
        self.assertEqual(self.get(self.client().get("/patroni")).status, 200)
        self.assertEqual(self.get(self.client().primary()).url, self.memory.url("a"))
        self.assertIn(self.get(self.client().replica()).url, self.memory.urls)
        self.assertEqual(len(self.get(self.client().broadcast("GET", "/patroni"))), 3)
        heard: list[Member | None] = []
        self.client().on_leader_change(heard.append)
        self.assertEqual([each and each.name for each in heard], ["a"])

    def test_context(self) -> None:
        """As a context it begins and ends, whatever happens in it."""

        async def use() -> Replicas:
            async with self.client() as replicas:
                self.assertEqual(len(replicas.members), 3)
            return replicas

        self.fails(self.get(use()).get("/"), PoolClosed, "is closed")
        for name in ("a", "b", "c"):
            self.memory.refuse(name)
        before = len(self.clock.getDelayedCalls())
        entering = self.begin(self.client().__aenter__())
        self.pass_time(10.1)
        self.fails(entering, ClusterUnknown)
        self.assertEqual(len(self.clock.getDelayedCalls()), before)

    def test_close(self) -> None:
        """Who waits when it is closed is told so, and nothing is left behind."""
        replicas = self.started()
        self.gate.paths = {"/config"}
        self.memory.answer("a", "/restart", 503, "not now")
        waiting = [
            self.begin(replicas.wait_for_leader(not_="a")),
            self.begin(replicas.request("PATCH", "/config", json={})),
            self.begin(replicas.get("/config", timeout=60.0)),
            self.begin(replicas.request("POST", "/restart", json={}, retry=True)),
            self.begin(replicas.broadcast("GET", "/config")),
        ]
        heard: list[Member | None] = []
        replicas.on_leader_change(heard.append)
        self.pass_time(0.2)
        self.get(replicas.close())
        for each in waiting:
            self.fails(each, PoolClosed, "the client of the cluster is closed")
        self.assertTrue(all(each.given_up for each in self.gate.held))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.memory.switchover("b")
        self.pass_time(1.0)
        self.assertEqual(heard, [])

    def test_closed(self) -> None:
        """It can be closed twice, even before it has begun; then it does nothing any more."""
        self.get(self.replicas.close())
        self.get(self.replicas.close())
        for asking in (
            self.replicas.start(),
            self.replicas.leader(),
            self.replicas.get("/"),
            self.replicas.replica(),
            self.replicas.broadcast("GET", "/"),
        ):
            self.fails(asking, PoolClosed)
        self.replicas.on_leader_change(print)()
        self.assertEqual(self.memory.asked, [])

    def test_close_while_starting(self) -> None:
        """It can be closed while it finds out."""
        for name in ("a", "b", "c"):
            self.memory.hang(name)
        starting = self.begin(self.replicas.start())
        self.get(self.replicas.close())
        self.fails(starting, PoolClosed)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class MemberTests(ReplicasCase):
    """Single members, and all of them."""

    def test_node(self) -> None:
        """A member is a node by its name; who is none is told from those who are."""
        replicas = self.started()
        node = replicas.node("b")
        self.assertEqual(self.get(node.status()).name, "b")
        self.assertIs(replicas.node("b").pool, node.pool)
        error = self.assertRaises(NoMember, replicas.node, "x")
        self.assertEqual(str(error), "'x' is not a member: the cluster is a, b, c")
        error = self.assertRaises(NoMember, self.client().node, "a")
        self.assertIn("nobody", str(error))

    def test_node_closed(self) -> None:
        """Closing a node closes its connections, and the next call opens others."""
        replicas = self.started()
        self.get(replicas.node("a").close())
        self.assertEqual(self.get(replicas.get("/patroni", target="leader")).status, 200)

    def test_replica(self) -> None:
        """A replica is one of those that are near enough."""
        replicas = self.started()
        self.assertNotEqual(self.get(replicas.replica()).url, self.memory.url("a"))
        self.memory.lag("b", 5000)
        self.pass_time(15.0)
        for _ in range(4):
            self.assertEqual(self.get(replicas.replica(lag="4kB")).url, self.memory.url("c"))
        self.memory.lag("c", 5000)
        self.pass_time(15.0)
        self.fails(replicas.replica(lag=1000), NoMember, "no replica within 1000 bytes")

    def test_replica_frozen(self) -> None:
        """When the node that tells of the cluster is frozen, another one tells of the lag."""
        replicas = self.started()
        self.memory.lag("b", 5000)
        self.memory.hang("a")
        self.pass_time(1.05)
        asking = self.begin(replicas.replica(lag=1000))
        self.assertNoResult(asking)
        self.clock.advance(STAGGER)
        self.assertEqual(self.successResultOf(asking).url, self.memory.url("c"))

    def test_shown(self) -> None:
        """Clusters and nodes are shown by where they are, without all that is known of them."""
        replicas = self.started()
        self.assertEqual(repr(replicas), f"Replicas(seeds={(*self.memory.urls,)})")
        self.assertEqual(repr(replicas.node("b")), "Node(pool=Pool(url='http://b:8008'))")

    def test_targets(self) -> None:
        """Replicas are asked to read, and the leader to change something, or as it is wanted."""
        replicas = self.started()
        get, url = self.get, self.memory.url("a")
        self.assertNotIn(url, get(replicas.get("/patroni")).url)
        self.assertIn(url, get(replicas.get("/patroni", target="leader")).url)
        self.assertIn(url, get(replicas.get("/patroni", target="primary")).url)
        self.assertIn(url, get(replicas.request("PATCH", "/config", json={})).url)
        self.assertNotIn(url, get(replicas.request("POST", "/reload", target="replica")).url)
        self.assertEqual(get(replicas.get("/patroni", target="any")).status, 200)
        self.assertNotIn(url, get(replicas.request("get", "/patroni")).url)
        self.fails(replicas.get("/", target="master"), ValueError, "'master'", "replica")
        self.fails(replicas.get("/", lag="1 mile"), ValueError, "lag: '1 mile'", "1MB")

    def test_sent(self) -> None:
        """What is to be sent is sent, and the answer is returned whatever its status."""
        replicas = self.started()
        response = self.get(replicas.request("PATCH", "/config", json={"ttl": 40}))
        self.assertEqual(response.json()["ttl"], 40)
        self.memory.answer("a", "/restart", 412, "no")
        response = self.get(replicas.request("POST", "/restart", json={}, headers={"X-A": "b"}))
        self.assertEqual((response.status, response.text), (412, "no"))

    def test_shared(self) -> None:
        """All replicas have their share of the reading."""
        numbers = iter(range(10**6))
        replicas = Replicas(
            self.clock,
            self.memory.urls,
            agent=self.memory,
            random=lambda: (next(numbers) * 0.618) % 1,
        )
        self.addCleanup(lambda: self.get(replicas.close()))
        urls = [self.get(replicas.get("/patroni")).url[:8] for _ in range(40)]
        self.assertGreater(urls.count("http://b"), 8)
        self.assertGreater(urls.count("http://c"), 8)

    def test_alone(self) -> None:
        """Where there is no replica the leader is asked to read, unless that is not wanted."""
        self.memory = MemoryCluster(members=("a",), leader="a")
        self.gate.agent, self.clock = self.memory, self.memory.clock
        replicas = self.client()
        self.assertEqual(self.get(replicas.get("/patroni")).status, 200)
        self.fails(replicas.get("/patroni", target="replica"), NoMember, "no replica")
        self.fails(replicas.get("/patroni", lag=10), NoMember, "within 10 bytes")
        self.fails(replicas.replica(), NoMember, "no replica")

    def test_without_tls(self) -> None:
        """Who asks for TLS asks no member that has none, and says so."""
        memory = MemoryCluster(events=False, scheme="https")
        self.gate.agent, self.clock = memory, memory.clock
        members = [
            {"name": name, "role": role, "state": "running", "api_url": f"{scheme}://{name}:8008"}
            for name, role, scheme in (("a", "leader", "https"), ("b", "replica", "http"))
        ]
        members.append({"name": "c", "role": "replica", "state": "running"})
        for name in ("a", "b", "c"):
            memory.answer(name, "/cluster", 200, {"members": members})
        replicas = self.client(*memory.urls)
        self.get(replicas.start())
        error = self.assertRaises(NoMember, replicas.node, "b")
        self.assertIn("b tells no URL of its API that can be used", str(error))
        answers = self.get(replicas.broadcast("GET", "/patroni"))
        self.assertIsInstance(answers["b"], NoMember)
        self.assertIsInstance(answers["c"], NoMember)
        self.fails(replicas.get("/patroni", target="replica"), NoMember)
        self.assertEqual(self.get(replicas.get("/patroni")).url[:9], "https://a")

    def test_forgotten(self) -> None:
        """Connections to a member that has left are kept for a while, and not to very many."""
        crew = self.started()._crew
        first = self.replicas.node("a").pool
        pools = []
        for number in range(2 * MAX_NODES):
            candidate = crew.candidate(Member("x", api_url=f"http://x{number}:8008/patroni"))
            assert candidate is not None
            pools.append(candidate.pool)
        self.assertEqual(sum(not each.closed for each in pools), MAX_NODES - 1)
        self.assertTrue(pools[0].closed)
        self.assertIs(self.replicas.node("a").pool, first)
        self.get(self.replicas.close())
        self.assertTrue(all(each.closed for each in pools))

    def test_broadcast(self) -> None:
        """All are asked at once; who fails is named, and hinders nobody."""
        replicas = self.started()
        self.memory.refuse("b")
        self.memory.answer("c", "/reload", 403, "no")
        answers = self.get(replicas.broadcast("POST", "/reload", json={}))
        self.assertEqual(set(answers), {"a", "b", "c"})
        self.assertIsInstance(answers["b"], Unreachable)
        self.assertIn("refuses connections", str(answers["b"]))
        self.assertEqual(answers["c"].status, 403)
        self.assertIsInstance(answers["a"], Response)
        self.gate.paths = {"/config"}
        asking = self.begin(replicas.broadcast("GET", "/config", timeout=1.0))
        self.assertEqual([each.name for each in self.gate.held], ["a", "b", "c"])
        self.gate.held[2].let_go()
        self.pass_time(1.05)
        answers = self.successResultOf(asking)
        self.assertIn("has not answered within 1 seconds", str(answers["a"]))
        self.assertEqual(answers["c"].status, 200)

    def test_broadcast_cancelled(self) -> None:
        """When it is called off, all connections are closed."""
        replicas = self.started()
        self.gate.paths = {"/config"}
        before = len(self.clock.getDelayedCalls())
        asking = self.begin(replicas.broadcast("GET", "/config"))
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(all(each.given_up for each in self.gate.held))
        self.assertEqual(len(self.clock.getDelayedCalls()), before)
