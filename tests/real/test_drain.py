"""A real HAProxy leaves a drained node, and comes back; the cluster itself goes on as ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.real.asking import sql
from tests.real.balancing import DOWN, UP, HAProxy
from tests.real.harness import RealClusterTests
from tests.real.operating import patronictl
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from twisted_patroni.demo import Node

PROXIES = {
    "writers": "option httpchk OPTIONS /primary",
    "readers": "option httpchk GET /replica",
    "anybody": "option httpchk GET /read-only",
}


class DrainTests(RealClusterTests):
    """What a drain does to balancers, and what it leaves alone."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with HAProxy in front of the cluster, and end with no node drained."""
        await super().setUp()
        for node in self.cluster.nodes:
            self.addCleanup(self.ask, "DELETE", node, "/drain")
        places = [node.place for node in self.cluster.nodes]
        servers = [
            f"server {place.name} {HOST}:{place.postgres_port} check port {place.rest_port}"
            for place in places
        ]
        self.proxy = HAProxy({name: [check, *servers] for name, check in PROXIES.items()})
        self.addCleanup(self.proxy.stop)

    async def drain(self, node: Node, **body: Any) -> Any:
        """Drain a node, and return the document."""
        reply = await self.ask("POST", node, "/drain", body)
        self.assertEqual(reply.code, 200, reply.text)
        return reply.json()

    async def ctl(self, *words: str) -> str:
        """Run ``patronictl``, and return what it prints."""
        done = await patronictl(self.cluster.nodes[0].config_file, *words)
        self.assertEqual(done.code, 0, done.output)
        return done.output

    async def assert_sees(self, leader: Node, drained: Node | None, *, primary: bool) -> None:
        """Assert what HAProxy makes of the cluster.

        :param leader: the primary.
        :param drained: the node that is drained, if one is.
        :param primary: whether as a primary, too.
        """
        expected: set[tuple[str, ...]] = set()
        for node in self.cluster.nodes:
            open_, leads = node is not drained, node is leader
            for name, healthy in (
                ("writers", leads and (open_ or not primary)),
                ("readers", open_ and not leads),
                ("anybody", open_),
            ):
                expected.add((name, node.name, *(UP if healthy else DOWN)))
        who = "nobody" if drained is None else drained.name
        await self.proxy.until(f"HAProxy sees {leader.name} lead, {who} drained", expected)

    async def test_replica(self) -> None:
        """A drained replica gets no client any more, until the drain is ended or expires."""
        leader, (replica, other) = await self.roles()
        await self.assert_sees(leader, None, primary=False)
        document = await self.drain(replica, reason="new disk")
        await self.assert_sees(leader, replica, primary=False)
        conninfo = f"{leader.conninfo} port={self.proxy.ports['readers']}"
        for _ in range(4):
            ((port,),) = await sql(conninfo, "SELECT current_setting('port')::int")
            self.assertEqual(port, other.place.postgres_port)
        self.assertEqual((document["owner"], document["reason"]), ("demo", "new disk"))
        for node, expected in ((replica, document), (leader, None)):
            members = (await self.get(node, "/cluster"))["members"]
            drains = {member["name"]: member.get("drain") for member in members}
            self.assertEqual(drains[replica.name], expected)
            self.assertIsNone(drains[other.name])
        self.assertEqual((await self.ask("DELETE", replica, "/drain")).code, 200)
        await self.assert_sees(leader, None, primary=False)
        await self.drain(replica)
        await self.assert_sees(leader, replica, primary=False)
        await self.drain(replica, expires="1s")
        await self.assert_sees(leader, None, primary=False)
        self.assertEqual((await self.ask("GET", replica, "/drain")).code, 404)

    async def test_primary(self) -> None:
        """A drained primary keeps its writers unless told otherwise, and leads all the same."""
        leader, replicas = await self.roles()
        await self.drain(leader)
        await self.assert_sees(leader, leader, primary=False)
        document = await self.drain(leader, primary=True)
        await self.assert_sees(leader, leader, primary=True)
        usual = {"/health": 200, "/liveness": 200, "/readiness": 200, "/patroni": 200}
        self.assertEqual(await self.codes(leader, *usual), usual)
        self.assertEqual((await self.get(leader, "/patroni"))["drain"], document)
        rows = json.JSONDecoder().raw_decode(await self.ctl("list", "-f", "json"))[0]
        states = {row["Member"]: (row["Role"], row["State"]) for row in rows}
        expected = {node.name: ("Replica", "streaming") for node in replicas}
        self.assertEqual(states, {**expected, leader.name: ("Leader", "running")})
        await self.ask("DELETE", leader, "/drain")
        await self.assert_sees(leader, None, primary=False)

    async def test_leadership(self) -> None:
        """The lead goes to a drained node and away from it; balancers follow the drain."""
        leader, (replica, _) = await self.roles()
        await self.drain(replica, primary=True)
        words = ("switchover", "--leader", leader.name, "--candidate", replica.name, "--force")
        said = await self.ctl(*words)
        self.assertIn(f'Successfully switched over to "{replica.name}"', said)
        await self.assert_sees(replica, replica, primary=True)
        said = await self.ctl("restart", "demo", replica.name, "--force")
        self.assertIn(f"Success: restart on member {replica.name}", said)
        await self.until(leader, "/replica?replication_state=streaming", 200)
        body = {"leader": replica.name, "candidate": leader.name}
        text = f'Successfully switched over to "{leader.name}"'
        await self.answers("POST", replica, "/switchover", body, 200, text)
        await self.assert_sees(leader, replica, primary=True)
        await self.ask("DELETE", replica, "/drain")
        await self.assert_sees(leader, None, primary=False)

    async def test_restart(self) -> None:
        """A restart of PostgreSQL keeps the drain, a restart of the daemon forgets it."""
        leader, (replica, _) = await self.roles()
        document = await self.drain(replica)
        reply = await self.ask("POST", replica, "/restart")
        self.assertEqual((reply.code, reply.text), (200, "restarted successfully"))
        self.assertEqual(await self.get(replica, "/drain"), document)
        await self.assert_sees(leader, replica, primary=False)
        await replica.stop()
        replica.start()
        await self.assert_sees(leader, None, primary=False)
        self.assertEqual((await self.ask("GET", replica, "/drain")).code, 404)
