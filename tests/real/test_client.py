"""The client on a real cluster: single nodes, all of them, and rows written through failovers."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from examples.writer import Writer
from tests.real.asking import eventually, together
from tests.real.harness import RealClusterTests, kill
from twisted_patroni.client import (
    ClientSettings,
    Node,
    PreconditionFailed,
    Refused,
    Replicas,
    Response,
    Unauthorized,
)

if TYPE_CHECKING:
    from twisted_patroni import demo


class ClientTests(RealClusterTests):
    """A client that was told the URLs of all nodes, and Patroni's configuration."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with a client that knows the cluster."""
        await super().setUp()
        nodes = self.cluster.nodes
        self.by_name = {node.name: node for node in nodes}
        self.settings = ClientSettings.from_patroni(nodes[0].config_file, environ={})
        self.replicas = Replicas(reactor, [node.rest_url for node in nodes], self.settings)
        self.addCleanup(self.replicas.close)
        await self.replicas.start()

        async def settled() -> bool:
            states = sorted(str(member.state) for member in self.replicas.members)
            return states == ["running", "streaming", "streaming"]

        await eventually("the client is told that both replicas stream", settled)
        place = conninfo_to_dict(nodes[0].conninfo)
        self.login: dict[str, Any] = {name: place[name] for name in ("user", "dbname", "passfile")}

    async def test_reading(self) -> None:
        """What a node says is read into values that agree with each other."""
        leader, (other, _) = await self.roles()
        node, replica = self.replicas.node(leader.name), self.replicas.node(other.name)
        status, cluster, history = (
            await node.status(),
            await replica.cluster(),
            await node.history(),
        )
        self.assertEqual((status.name, status.scope, status.role), (leader.name, "demo", "primary"))
        self.assertEqual({member.name for member in cluster.members}, set(self.by_name))
        assert cluster.leader is not None
        self.assertEqual(cluster.leader.name, leader.name)
        self.assertEqual(cluster.leader.timeline, status.timeline)
        self.assertEqual([each.timeline for each in history], list(range(1, len(history) + 1)))
        self.assertIn("\npatroni_primary", await node.metrics())
        self.assertEqual((await replica.config())["ttl"], 20)
        for check, of_leader in (
            (Node.is_primary, True),
            (Node.is_leader, True),
            (Node.is_replica, False),
            (Node.is_asynchronous, False),
            (Node.is_standby_leader, False),
        ):
            asked = await together(check(node), check(replica))
            expected = [of_leader, not of_leader and check is not Node.is_standby_leader]
            self.assertEqual(asked, expected, check.__name__)
        for each in (node, replica):
            self.assertEqual(
                await together(each.is_healthy(), each.is_alive(), each.is_ready()), [True] * 3
            )
        self.assertTrue(await replica.is_replica(lag="10MB", tags={"site": "attic"}))
        self.assertFalse(await replica.is_replica(tags={"site": "cellar"}))

    async def test_changing(self) -> None:
        """The configuration and the nodes can be changed, by those who may."""
        leader, (other, _) = await self.roles()
        node, replica = self.replicas.node(leader.name), self.replicas.node(other.name)
        config = await node.config()
        self.assertEqual((await node.patch_config({"ttl": 21}))["ttl"], 21)

        async def told() -> bool:
            return bool((await replica.config())["ttl"] == 21)

        await eventually("the change has reached the replica", told)
        self.assertEqual(await replica.replace_config(config), config)
        self.assertEqual((await node.reload()).status, 202)
        operation = await replica.begin.restart()
        ended = await replica.operation(operation.id, wait=30)
        self.assertEqual((ended.kind, ended.succeeded), ("restart", True))
        self.assertIn(ended.id, [each.id for each in await replica.operations()])
        await self.until(other, "/replica?replication_state=streaming", 200)
        with self.assertRaises(PreconditionFailed):
            await node.switchover(other.name, leader.name)
        with self.assertRaises(Refused) as caught:
            await node.patch_config({})
        self.assertEqual(caught.exception.response.status, 400)
        async with Node.at(reactor, leader.rest_url) as stranger:
            self.assertTrue(await stranger.is_primary())
            with self.assertRaises(Unauthorized):
                await stranger.reload()

    async def test_cluster(self) -> None:
        """Replicas share the reading, and each target has its PostgreSQL."""
        leader, others = await self.roles()
        names = {node.name for node in others}
        answers = await together(*(self.replicas.get("/patroni") for _ in range(40)))
        readers = Counter(each.json()["patroni"]["name"] for each in answers)
        self.assertEqual(set(readers), names)
        one = await self.replicas.request("PATCH", "/config", json={"ttl": 20}, retry=True)
        self.assertEqual(one.status, 200)
        self.assertTrue(one.url.startswith(leader.rest_url))
        told = await self.replicas.broadcast("GET", "/primary")
        statuses = {name: each.status for name, each in told.items() if isinstance(each, Response)}
        self.assertEqual(statuses, dict.fromkeys(names, 503) | {leader.name: 200})
        self.assertTrue(await (await self.replicas.primary()).is_primary())
        self.assertTrue(await (await self.replicas.replica()).is_replica())
        self.assertTrue(await (await self.replicas.replica(lag="1GB")).is_replica())
        self.assertEqual(await self.connected("primary"), (leader.name, False))
        name, recovery = await self.connected("replica")
        self.assertIn(name, names)
        self.assertTrue(recovery)
        place = conninfo_to_dict(await self.replicas.conninfo("primary", **self.login))
        self.assertEqual(place["port"], str(leader.place.postgres_port))

    async def connected(self, target: str) -> tuple[str, bool]:
        """Return the node that a connection to a target leads to, and whether it is a standby."""
        with await self.replicas.connect(target, **self.login) as connection:
            cursor = await deferToThread(connection.execute, "SELECT pg_is_in_recovery()")
            ((recovery,),) = cursor.fetchall()
            port = connection.info.port
        (name,) = (each.name for each in self.cluster.nodes if each.place.postgres_port == port)
        return name, recovery

    async def synchronous(self) -> tuple[demo.Node, demo.Node]:
        """Return the leader and its synchronous standby, once all is as it should be."""

        async def look() -> tuple[demo.Node, demo.Node] | None:
            cluster = await (await self.replicas.primary()).cluster()
            by_role = {member.role: member for member in cluster.members}
            if {member.state for member in cluster.members} != {"running", "streaming"}:
                return None
            if set(by_role) != {"leader", "sync_standby", "replica"}:
                return None
            return self.by_name[by_role["leader"].name], self.by_name[by_role["sync_standby"].name]

        return await eventually("there is a synchronous standby", look)

    async def test_writing(self) -> None:
        """No acknowledged row is lost by switchovers, or by the sudden death of the leader."""
        await (await self.replicas.primary()).patch_config({"synchronous_mode": True})
        await self.synchronous()
        told: list[str] = []
        writer = Writer(reactor, self.replicas, "written", told.append, self.login)
        writing = Deferred.fromCoroutine(writer.run(pause=0.002))

        async def goes_on() -> bool:
            return writer.acknowledged > before

        for _ in range(2):
            leader, standby = await self.synchronous()
            node = self.replicas.node(leader.name)
            outcome = await node.switchover(leader.name, standby.name)
            self.assertEqual(outcome.status, 200)
            changed = await self.replicas.wait_for_leader(not_=leader.name)
            self.assertEqual(changed.name, standby.name)
            before = writer.acknowledged
            await eventually("rows are written after the switchover", goes_on)
        leader, standby = await self.synchronous()
        for pid in (leader.pid, leader.postmaster_pid()):
            assert pid is not None
            kill(pid, signal.SIGKILL)
        changed = await self.replicas.wait_for_leader(not_=leader.name, timeout=60.0)
        self.assertEqual(changed.name, standby.name)
        before = writer.acknowledged
        await eventually("rows are written after the failover", goes_on)
        writer.stop()
        report = await writing
        self.assertEqual(report.missing, (), told)
        self.assertGreaterEqual(report.present, report.acknowledged)
        self.assertGreater(report.acknowledged, 100)
        self.assertGreaterEqual(len(report.interruptions), 3, told)
