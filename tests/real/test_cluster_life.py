"""A real cluster driven over HTTP: what each endpoint says, and what operators do all day."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

from tests.real.asking import eventually, sql, together
from tests.real.harness import RealClusterTests, kill, rewrite_node_file
from tests.real.watching import overlap, prober, sampling

if TYPE_CHECKING:
    from twisted_patroni.demo import Node

PRIMARY = ("/", "/primary", "/master", "/read-write", "/leader", "/read-only-sync")
REPLICA = ("/replica", "/async", "/asynchronous")
EITHER = ("/read-only", "/health", "/liveness", "/readiness", "/patroni", "/cluster", "/history",
          "/config", "/metrics")  # fmt: skip
NEITHER = ("/standby-leader", "/sync", "/quorum", "/nonsense")


def later(seconds: float) -> str:
    """Return a time from now as the API takes it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


class EndpointTests(RealClusterTests):
    """What the nodes of a healthy cluster say."""

    async def test_get(self) -> None:
        """Every GET has the status that fits the node's role."""
        leader, replicas = await self.roles()
        expected = dict.fromkeys(PRIMARY + EITHER, 200) | dict.fromkeys(REPLICA + NEITHER, 503)
        expected["/failsafe"] = 502
        self.assertEqual(await self.codes(leader, *expected), expected)
        expected |= dict.fromkeys(PRIMARY, 503) | dict.fromkeys(REPLICA, 200)
        for node in replicas:
            self.assertEqual(await self.codes(node, *expected), expected)

    async def test_head_and_options(self) -> None:
        """HEAD and OPTIONS give a health check's status and nothing more."""
        leader, (replica, _) = await self.roles()
        checks = dict.fromkeys(PRIMARY, (200, 503)) | dict.fromkeys(REPLICA, (503, 200))
        checks |= {"/health": (200, 200), "/nonsense": (503, 503)}
        for method in ("HEAD", "OPTIONS"):
            for node, which in ((leader, 0), (replica, 1)):
                for path, codes in checks.items():
                    reply = await self.ask(method, node, path)
                    self.assertEqual((reply.code, reply.text), (codes[which], ""), path)

    async def test_replica_parameters(self) -> None:
        """A replica is judged by its lag, its replication state and its tags as well."""
        _, (replica, _) = await self.roles()
        expected = {
            "/replica?lag=10MB": 200,
            "/replica?lag=1048576": 200,
            "/replica?lag=-1048576": 503,
            "/replica?replication_state=streaming": 200,
            "/replica?replication_state=in+archive+recovery": 503,
            "/replica?tag_site=attic": 200,
            "/replica?tag_site=cellar": 503,
            "/replica?tag_other=1": 503,
            "/read-only?tag_site=attic&lag=10MB": 200,
            "/async?lag=-1048576": 503,
            "/readiness?lag=10MB": 200,
            "/readiness?lag=10MB&mode=write": 200,
        }
        await self.until_checks(replica, expected)

    async def test_documents(self) -> None:
        """The nodes' documents agree with each other and with PostgreSQL."""
        leader, replicas = await self.roles()
        own = await self.get(leader, "/patroni")
        self.assertEqual((own["role"], own["state"]), ("primary", "running"))
        self.assertEqual({one["state"] for one in own["replication"]}, {"streaming"})
        self.assertEqual(
            {one["application_name"] for one in own["replication"]}, {r.name for r in replicas}
        )
        self.assertEqual(own["patroni"]["name"], leader.name)
        ((identifier, version),) = await sql(
            leader.conninfo,
            "SELECT system_identifier::text, current_setting('server_version_num')::int"
            " FROM pg_control_system()",
        )
        for node in replicas:
            document = await self.get(node, "/patroni")
            self.assertEqual(document["role"], "replica")
            self.assertEqual(document["replication_state"], "streaming")
            self.assertEqual(document["timeline"], own["timeline"])
            self.assertEqual(document["database_system_identifier"], identifier)
            self.assertEqual(document["server_version"], version)
        members = {one["name"]: one for one in (await self.get(replicas[0], "/cluster"))["members"]}
        self.assertEqual(members[leader.name]["role"], "leader")
        for node in replicas:
            self.assertEqual(members[node.name]["role"], "replica")
            self.assertEqual(members[node.name]["api_url"], f"{node.rest_url}/patroni")

    async def test_metrics(self) -> None:
        """The metrics tell the same as the documents."""
        leader, (replica, _) = await self.roles()
        labels = f'{{scope="demo",name="{leader.name}"}}'
        text = (await self.ask("GET", leader, "/metrics")).text
        self.assertIn(f"\npatroni_primary{labels} 1\n", text)
        self.assertIn(f"\npatroni_postgres_running{labels} 1\n", text)
        text = (await self.ask("GET", replica, "/metrics")).text
        labels = f'{{scope="demo",name="{replica.name}"}}'
        self.assertIn(f"\npatroni_primary{labels} 0\n", text)
        self.assertIn(f"\npatroni_postgres_streaming{labels} 1\n", text)

    async def test_login(self) -> None:
        """What changes something wants the password; what only reads does not."""
        leader, _ = await self.roles()
        login, self.api.login = self.api.login, None
        try:
            await self.answers("POST", leader, "/reload", None, 401, "no auth header received")
            self.api.login = ("demo", "guessed")
            await self.answers("POST", leader, "/reload", None, 401, "not authenticated")
        finally:
            self.api.login = login


class LeaderTests(RealClusterTests):
    """Changes of the leader that an operator asks for."""

    async def assert_leads(self, new: Node, old: Node) -> None:
        """Assert that one node has taken over from another, and that writes work there."""
        await self.until(new, "/primary", 200)
        await self.until(old, "/primary", 503)
        await eventually("the new leader takes writes", lambda: self.writes(new))
        await self.cluster.ready()

    async def writes(self, node: Node) -> bool:
        """Tell whether a node's PostgreSQL takes writes."""
        rows = await sql(node.conninfo, "SELECT pg_is_in_recovery()")
        return rows == [(False,)]

    async def test_switchover(self) -> None:
        """A switchover names the new leader, and never are there two primaries meanwhile."""
        leader, replicas = await self.roles()
        probers = [prober(node, "/primary") for node in self.cluster.nodes]
        with sampling(*probers):
            reply = await self.ask("POST", leader, "/switchover", {"leader": leader.name})
            expected = {f'Successfully switched over to "{node.name}"': node for node in replicas}
            self.assertEqual((reply.code, reply.text in expected), (200, True), reply.text)
            await self.assert_leads(expected[reply.text], leader)
        for one, other in combinations(probers, 2):
            self.assertIsNone(overlap(one, other))

    async def test_switchover_to_candidate(self) -> None:
        """Any node takes the request for a switchover to a chosen candidate."""
        leader, (replica, other) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name}
        text = f'Successfully switched over to "{replica.name}"'
        await self.answers("POST", other, "/switchover", body, 200, text)
        await self.assert_leads(replica, leader)

    async def test_failover(self) -> None:
        """A failover names its candidate, and the history tells of it."""
        leader, (replica, _) = await self.roles()
        text = f'Successfully failed over to "{replica.name}"'
        await self.answers("POST", leader, "/failover", {"candidate": replica.name}, 200, text)
        await self.assert_leads(replica, leader)

        async def told() -> bool:
            history = await self.get(leader, "/history")
            return bool(history) and bool(history[-1][-1] == replica.name)

        await eventually("the history names the new leader", told)

    async def test_scheduled_switchover(self) -> None:
        """A scheduled switchover is shown, can be taken back, and happens at its time."""
        leader, (replica, _) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name, "scheduled_at": later(3600)}
        await self.answers("POST", replica, "/switchover", body, 202, "Switchover scheduled")
        shown = (await self.get(leader, "/cluster"))["scheduled_switchover"]
        self.assertEqual((shown["from"], shown["to"]), (leader.name, replica.name))
        gone = "scheduled switchover deleted"
        await self.answers("DELETE", leader, "/switchover", None, 200, gone)
        await self.answers("DELETE", leader, "/switchover", None, 404, "no switchover is scheduled")
        self.assertNotIn("scheduled_switchover", await self.get(leader, "/cluster"))
        body["scheduled_at"] = later(3)
        await self.answers("POST", leader, "/switchover", body, 202, "Switchover scheduled")
        await self.assert_leads(replica, leader)

    async def test_impossible(self) -> None:
        """What cannot be is refused with its reason, and nothing happens."""
        leader, (replica, other) = await self.roles()
        for path, body, code, text in (
            ("/switchover", {"leader": replica.name}, 412, "leader name does not match"),
            ("/failover", {"candidate": "pg9"}, 412, "candidate does not exists"),
            ("/switchover", {"leader": leader.name, "candidate": leader.name}, 400,
             "Switchover target and source are the same"),
            ("/failover", {"leader": leader.name}, 400,
             "Failover could be performed only to a specific candidate"),
        ):  # fmt: skip
            await self.answers("POST", other, path, body, code, text)
        daemon = replica.pid
        assert daemon is not None
        kill(daemon, signal.SIGSTOP)
        try:
            body = {"leader": leader.name, "candidate": replica.name}
            text = "switchover is not possible: no good candidates have been found"
            await self.answers("POST", leader, "/switchover", body, 412, text)
        finally:
            kill(daemon, signal.SIGCONT)
        self.assertIs((await self.roles())[0], leader)


class RestartTests(RealClusterTests):
    """Restarts and rebuilds of PostgreSQL."""

    async def pending(self, *nodes: Node) -> bool:
        """Tell whether all of some nodes wait for a restart."""
        documents = await together(*(self.get(node, "/patroni") for node in nodes))
        return all(document.get("pending_restart", False) for document in documents)

    async def change_and_restart(self, value: int, *order: Node) -> None:
        """Change a parameter that needs a restart, and restart the nodes one after another."""
        first = order[0]
        change = {"postgresql": {"parameters": {"max_connections": value}}}
        document = (await self.ask("PATCH", first, "/config", change)).json()
        self.assertEqual(document["postgresql"]["parameters"]["max_connections"], value)
        await eventually("all nodes wait for a restart", lambda: self.pending(*order))
        reason = (await self.get(first, "/patroni"))["pending_restart_reason"]["max_connections"]
        self.assertEqual(int(reason["new_value"]), value)
        only = {"restart_pending": True}
        for node in order:
            await self.answers("POST", node, "/restart", only, 200, "restarted successfully")
            self.assertNotIn("pending_restart", await self.get(node, "/patroni"))
            if node is first:
                # A standby keeps the room it needs until it has replayed that less is enough.
                await self.cluster.ready()
        for node in order:
            self.assertEqual(await sql(node.conninfo, "SHOW max_connections"), [(str(value),)])

    async def test_pending(self) -> None:
        """A parameter that needs a restart is announced, and gone after the restart."""
        leader, replicas = await self.roles()
        refused = "restart conditions are not satisfied"
        only = {"restart_pending": True}
        await self.answers("POST", leader, "/restart", only, 503, refused)
        # PostgreSQL wants a standby to have room for as many connections as its primary.
        await self.change_and_restart(60, *replicas, leader)
        await self.change_and_restart(50, leader, *replicas)
        self.assertIs((await self.roles())[0], leader)

    async def test_conditions(self) -> None:
        """A restart whose conditions do not hold does not happen."""
        leader, (replica, _) = await self.roles()
        begun = (await self.get(leader, "/patroni"))["postmaster_start_time"]
        refused = "restart conditions are not satisfied"
        await self.answers("POST", leader, "/restart", {"role": "replica"}, 503, refused)
        await self.answers("POST", replica, "/restart", {"role": "primary"}, 503, refused)
        await self.answers("POST", leader, "/restart", {"postgres_version": "9.6.1"}, 503, refused)
        unknown = "Unknown filter for the scheduled restart: moon"
        await self.answers("POST", leader, "/restart", {"moon": "full"}, 400, unknown)
        self.assertEqual((await self.get(leader, "/patroni"))["postmaster_start_time"], begun)

    async def test_scheduled(self) -> None:
        """A scheduled restart is shown, can be taken back, and happens at its time."""
        _, (replica, _) = await self.roles()
        begun = (await self.get(replica, "/patroni"))["postmaster_start_time"]
        body = {"schedule": later(3600), "role": "replica"}
        await self.answers("POST", replica, "/restart", body, 202, "Restart scheduled")
        shown = (await self.get(replica, "/patroni"))["scheduled_restart"]
        self.assertEqual(shown["role"], "replica")
        again = "Another restart is already scheduled"
        await self.answers("POST", replica, "/restart", body, 409, again)
        await self.answers("DELETE", replica, "/restart", None, 200, "scheduled restart deleted")
        await self.answers("DELETE", replica, "/restart", None, 404, "no restarts are scheduled")
        body = {"schedule": later(3)}
        await self.answers("POST", replica, "/restart", body, 202, "Restart scheduled")

        async def restarted() -> bool:
            document = await self.get(replica, "/patroni")
            return bool(document.get("postmaster_start_time", begun) != begun)

        await eventually("PostgreSQL is restarted", restarted)
        self.assertNotIn("scheduled_restart", await self.get(replica, "/patroni"))

    async def test_reinitialize(self) -> None:
        """A replica is built anew and streams again; a leader never is."""
        leader, (replica, _) = await self.roles()
        refused = "I am the leader, can not reinitialize"
        await self.answers("POST", leader, "/reinitialize", {}, 503, refused)
        litter = replica.place.data / "litter"
        litter.touch()
        await self.answers("POST", replica, "/reinitialize", None, 200, "reinitialize started")

        async def rebuilt() -> bool:
            reply = await self.ask("GET", replica, "/replica?replication_state=streaming")
            return reply.code == 200 and not litter.exists()

        await eventually("the replica is rebuilt and streams", rebuilt, 60.0)


class ConfigurationTests(RealClusterTests):
    """The cluster's dynamic configuration, pauses, and the node's own file."""

    async def test_patch_and_put(self) -> None:
        """PATCH merges, null removes, PUT replaces; each node shows the result."""
        leader, (replica, _) = await self.roles()
        before = await self.get(leader, "/config")
        change = {"maximum_lag_on_failover": 2097152, "postgresql": {"use_slots": None}}
        reply = await self.ask("PATCH", replica, "/config", change)
        after: dict[str, Any] = {**before, "maximum_lag_on_failover": 2097152}
        after["postgresql"] = {k: v for k, v in before["postgresql"].items() if k != "use_slots"}
        self.assertEqual((reply.code, reply.json()), (200, after))
        for node in self.cluster.nodes:
            await eventually("the change is known", lambda: self.has_config(node, after))  # noqa: B023
        self.assertEqual((await self.ask("PUT", leader, "/config", before)).json(), before)
        await eventually("the old one is known", lambda: self.has_config(replica, before))
        self.assertEqual((await self.ask("PATCH", leader, "/config", {})).code, 400)
        self.assertEqual((await self.ask("PUT", leader, "/config", [1])).code, 400)
        self.assertEqual((await self.ask("PATCH", leader, "/config")).code, 411)

    async def has_config(self, node: Node, config: Any) -> bool:
        """Tell whether a node shows a configuration."""
        return bool(await self.get(node, "/config") == config)

    async def test_concurrent_patches(self) -> None:
        """Of patches at the same time none is lost that was answered with 200; the rest get 409."""
        leader, _ = await self.roles()
        keys = [f"note_{number}" for number in range(9)]
        replies = await together(
            *(
                self.ask("PATCH", self.cluster.nodes[number % 3], "/config", {key: number})
                for number, key in enumerate(keys)
            )
        )
        codes = [reply.code for reply in replies]
        self.assertLessEqual(set(codes), {200, 409})
        self.assertIn(200, codes)
        done = {key for key, code in zip(keys, codes, strict=True) if code == 200}

        async def kept() -> bool:
            return {key for key in await self.get(leader, "/config") if key in keys} == done

        await eventually(f"the configuration has exactly {done}", kept)

    async def test_pause(self) -> None:
        """In a pause the checks hold, and what needs the automatism is refused; then it goes on."""
        leader, (replica, _) = await self.roles()
        self.assertEqual((await self.ask("PATCH", leader, "/config", {"pause": True})).code, 200)

        async def paused() -> bool:
            documents = await together(*(self.get(n, "/patroni") for n in self.cluster.nodes))
            return all(document.get("pause") is True for document in documents)

        await eventually("all nodes know of the pause", paused)
        self.assertIs((await self.get(replica, "/cluster"))["pause"], True)
        checks = ("/primary", "/replica", "/health", "/liveness", "/readiness")
        self.assertEqual([*(await self.codes(leader, *checks)).values()], [200, 503, 200, 200, 200])
        codes = [*(await self.codes(replica, *checks)).values()]
        self.assertEqual(codes, [503, 200, 200, 200, 200])
        scheduled = {"schedule": later(3600)}
        refused = "Can't schedule restart in the paused state"
        await self.answers("POST", leader, "/restart", scheduled, 500, refused)
        refused = "Switchover is possible only to a specific candidate in a paused state"
        body = {"leader": leader.name}
        await self.answers("POST", leader, "/switchover", body, 400, refused)
        self.assertEqual((await self.ask("PATCH", leader, "/config", {"pause": None})).code, 200)

        async def resumed() -> bool:
            documents = await together(*(self.get(n, "/patroni") for n in self.cluster.nodes))
            return not any("pause" in document for document in documents)

        await eventually("all nodes know of its end", resumed)

    async def test_reload(self) -> None:
        """A tag in the node's file counts after SIGHUP, and its removal after POST /reload."""
        _, (replica, _) = await self.roles()
        rewrite_node_file(replica, {"tags": {"noloadbalance": True}})
        try:
            assert replica.pid is not None
            kill(replica.pid, signal.SIGHUP)
            document = (await self.until(replica, "/replica", 503)).json()
            self.assertIs(document["tags"]["noloadbalance"], True)
            self.assertEqual((await self.ask("GET", replica, "/health")).code, 200)
        finally:
            rewrite_node_file(replica, {"tags": {"noloadbalance": False}})
        await self.answers("POST", replica, "/reload", None, 202, "reload scheduled")
        await self.until(replica, "/replica", 200)
