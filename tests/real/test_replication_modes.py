"""Real clusters in the less usual modes: synchronous, quorum, and a standby of another cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.asking import eventually, sql
from tests.real.harness import RealClusterTests, destroy, new_cluster, node_file

if TYPE_CHECKING:
    from twisted_patroni.demo import Node


class SynchronousTests(RealClusterTests):
    """Synchronous replication, by names and by quorum."""

    async def set_mode(self, mode: object) -> None:
        """Change the mode of replication."""
        change = {"synchronous_mode": mode}
        reply = await self.ask("PATCH", self.cluster.nodes[0], "/config", change)
        self.assertEqual(reply.code, 200, reply.text)

    async def members(self) -> dict[str, str]:
        """Return the role that the cluster's document gives each node."""
        members = (await self.get(self.cluster.nodes[0], "/cluster"))["members"]
        return {member["name"]: member["role"] for member in members}

    async def test_synchronous(self) -> None:
        """One replica is the synchronous one, the other is not, and only the one may take over."""
        leader, _ = await self.roles()
        await self.set_mode(True)

        async def chosen() -> list[str]:
            return [name for name, role in (await self.members()).items() if role == "sync_standby"]

        (name,) = await eventually("there is a synchronous standby", chosen)
        nodes = {node.name: node for node in self.cluster.nodes}
        standby = nodes.pop(name)
        del nodes[leader.name]
        (other,) = nodes.values()
        yes = {"/sync": 200, "/async": 503, "/read-only-sync": 200, "/quorum": 503, "/replica": 200}
        no = {"/sync": 503, "/async": 200, "/read-only-sync": 503, "/quorum": 503, "/replica": 200}
        await self.until_checks(standby, yes)
        await self.until_checks(other, no)
        await self.until_checks(leader, dict.fromkeys(yes, 503) | {"/read-only-sync": 200})
        self.assertIs((await self.get(standby, "/patroni"))["sync_standby"], True)
        body = {"leader": leader.name, "candidate": other.name}
        refused = "candidate name does not match with sync_standby"
        await self.answers("POST", leader, "/switchover", body, 412, refused)
        await self.set_mode(None)
        await self.until_checks(standby, no)

    async def test_quorum(self) -> None:
        """All replicas are quorum standbys, and none is a synchronous one."""
        leader, replicas = await self.roles()
        await self.set_mode("quorum")
        yes = {"/quorum": 200, "/read-only-quorum": 200, "/sync": 503, "/async": 503}
        for replica in replicas:
            await self.until_checks(replica, yes)
            self.assertIs((await self.get(replica, "/patroni"))["quorum_standby"], True)
            self.assertEqual((await self.members())[replica.name], "quorum_standby")
        await self.until_checks(leader, {"/quorum": 503, "/read-only-quorum": 200})
        await self.set_mode(None)
        for replica in replicas:
            await self.until_checks(replica, {"/quorum": 503, "/async": 200})


class StandbyClusterTests(RealClusterTests):
    """A cluster that follows another one, until it is told to stand on its own feet."""

    async def test_standby_cluster(self) -> None:
        """Its leader is a standby leader and no primary; promoted, it is the other way round."""
        source, _ = await self.roles()
        node = await self.follower(source)
        follower = {
            "/standby-leader": 200,
            "/standby_leader": 200,
            "/leader": 200,
            "/primary": 503,
            "/replica": 503,
            "/read-only": 200,
            "/health": 200,
            "/readiness": 200,
        }
        await self.until_checks(node, follower)

        async def streaming() -> bool:
            document = await self.get(node, "/patroni")
            self.assertEqual(document["role"], "standby_leader")
            return bool(document["replication_state"] == "streaming")

        await eventually("the standby leader streams", streaming)
        (member,) = (await self.get(node, "/cluster"))["members"]
        self.assertEqual((member["name"], member["role"]), ("far", "standby_leader"))
        await sql(source.conninfo, "CREATE TABLE IF NOT EXISTS parcels AS SELECT 7 AS number")

        # With the data came the source's passwords.
        conninfo = f"{node.conninfo} passfile={source.place.passfile}"

        async def arrived() -> bool:
            return await sql(conninfo, "SELECT to_regclass('parcels')::text") == [("parcels",)]

        await eventually("what the primary wrote has arrived", arrived)
        reply = await self.ask("PATCH", node, "/config", {"standby_cluster": None})
        self.assertEqual(reply.code, 200, reply.text)
        expected = {"/standby-leader": 503, "/leader": 200, "/replica": 503, "/primary": 200}
        await self.until_checks(node, expected)
        await sql(conninfo, "INSERT INTO parcels VALUES (8)")
        await self.cluster.ready()

    async def follower(self, source: Node) -> Node:
        """Start a cluster of one node that follows a primary."""
        port = source.place.postgres_port
        cluster = new_cluster(
            1,
            overrides={
                "name": "far",
                "bootstrap": {"dcs": {"standby_cluster": {"host": "127.0.0.1", "port": port}}},
                "restapi": {"authentication": node_file(source)["restapi"]["authentication"]},
                "postgresql": {
                    "authentication": node_file(source)["postgresql"]["authentication"],
                },
            },
        )
        self.addCleanup(destroy, cluster)
        await cluster.start()
        return cluster.nodes[0]
