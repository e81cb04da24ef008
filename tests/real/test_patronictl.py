"""Upstream's own ``patronictl`` against nodes of this package."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.real.asking import eventually
from tests.real.harness import RealClusterTests
from tests.real.operating import patronictl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.demo import Node

WRONG = {"PATRONI_CTL_USERNAME": "demo", "PATRONI_CTL_PASSWORD": "guessed"}
HOUR = timedelta(hours=1)


class PatronictlTests(RealClusterTests):
    """What operators type."""

    async def run_ctl(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """Run ``patronictl`` with a node's configuration file, and return what it prints.

        :param words: command and arguments.
        :param environment: further variables.
        """
        done = await patronictl(self.cluster.nodes[0].config_file, *words, environment=environment)
        self.assertEqual(done.code, 0, done.output)
        return done.output

    async def run_json(self, *words: str) -> Any:
        """Run ``patronictl`` for a document.

        :param words: command and arguments.
        """
        said = await self.run_ctl(*words, "-f", "json")
        return json.JSONDecoder().raw_decode(said)[0]  # the raft client's log may follow

    async def start_time(self, node: Node) -> str:
        """Return when a node's PostgreSQL was started."""
        return str((await self.get(node, "/patroni"))["postmaster_start_time"])

    async def test_list(self) -> None:
        """``list``, ``topology`` and ``version`` show the cluster and ask the nodes."""
        leader, replicas = await self.roles()
        rows = {row["Member"]: row for row in await self.run_json("list")}
        self.assertEqual((rows[leader.name]["Role"], rows[leader.name]["State"]),
                         ("Leader", "running"))  # fmt: skip
        for node in replicas:
            row = rows[node.name]
            self.assertEqual((row["Role"], row["State"]), ("Replica", "streaming"))
        said = await self.run_ctl("topology")
        for node in replicas:
            self.assertIn(f"+ {node.name}", said)
        version = (await self.get(leader, "/patroni"))["patroni"]["version"]
        said = await self.run_ctl("version", "demo")
        for node in self.cluster.nodes:
            self.assertIn(f"{node.name}: Patroni {version} PostgreSQL ", said)

    async def test_switchover(self) -> None:
        """``switchover`` waits for the new leader, and ``history`` tells of it."""
        leader, (replica, _) = await self.roles()
        said = await self.run_ctl(
            "switchover", "--leader", leader.name, "--candidate", replica.name, "--force"
        )
        self.assertIn(f'Successfully switched over to "{replica.name}"', said)
        self.assertIs((await self.roles())[0], replica)

        async def told() -> bool:
            history = await self.run_json("history")
            return bool(history) and bool(history[-1]["New Leader"] == replica.name)

        await eventually("the history names the new leader", told)

    async def test_failover(self) -> None:
        """``failover`` goes to its candidate."""
        _, (replica, _) = await self.roles()
        said = await self.run_ctl("failover", "--candidate", replica.name, "--force")
        self.assertIn(f'Successfully failed over to "{replica.name}"', said)
        self.assertIs((await self.roles())[0], replica)

    async def test_scheduled_switchover(self) -> None:
        """A scheduled switchover is listed, and ``flush`` discards it."""
        leader, _ = await self.roles()
        when = (datetime.now(UTC) + HOUR).isoformat()
        said = await self.run_ctl(
            "switchover", "--leader", leader.name, "--scheduled", when, "--force"
        )
        self.assertIn("Switchover scheduled", said)
        self.assertIn("Switchover scheduled at", await self.run_ctl("list"))
        said = await self.run_ctl("flush", "demo", "switchover", "--force")
        self.assertIn("scheduled switchover deleted", said)

    async def test_restart(self) -> None:
        """``restart`` restarts what it is told to; ``flush`` discards a scheduled one."""
        leader, (replica, other) = await self.roles()
        begun = [await self.start_time(node) for node in (leader, replica, other)]
        said = await self.run_ctl("restart", "demo", replica.name, "--force")
        self.assertIn(f"Success: restart on member {replica.name}", said)
        after = [await self.start_time(node) for node in (leader, replica, other)]
        self.assertEqual((after[0], after[2]), (begun[0], begun[2]))
        self.assertNotEqual(after[1], begun[1])
        when = (datetime.now(UTC) + HOUR).isoformat()
        said = await self.run_ctl("restart", "demo", other.name, "--scheduled", when, "--force")
        self.assertIn(f"Success: restart scheduled on member {other.name}", said)
        said = await self.run_ctl("flush", "demo", other.name, "restart", "--force")
        self.assertIn(f"Success: flush scheduled restart for member {other.name}", said)

    async def test_reinit(self) -> None:
        """``reinit --wait`` returns once the replica is rebuilt."""
        _, (replica, _) = await self.roles()
        said = await self.run_ctl("reinit", "demo", replica.name, "--force", "--wait")
        self.assertIn(f"Success: reinitialize for member {replica.name}", said)
        self.assertIn(f"Reinitialize is completed on: {replica.name}", said)
        await self.until(replica, "/replica?replication_state=streaming", 200)

    async def test_pause(self) -> None:
        """``pause --wait`` and ``resume --wait`` wait until each node knows."""
        leader, _ = await self.roles()
        self.assertIn("Success: cluster management is paused",
                      await self.run_ctl("pause", "--wait"))  # fmt: skip
        for node in self.cluster.nodes:
            self.assertIs((await self.get(node, "/patroni"))["pause"], True)
        self.assertIn("Maintenance mode: on", await self.run_ctl("list"))
        self.assertIn("Success: cluster management is resumed",
                      await self.run_ctl("resume", "--wait"))  # fmt: skip
        for node in self.cluster.nodes:
            self.assertNotIn("pause", await self.get(node, "/patroni"))
        self.assertEqual((await self.ask("GET", leader, "/primary")).code, 200)

    async def test_configuration(self) -> None:
        """``edit-config`` changes what the nodes show; ``reload`` reaches them."""
        leader, _ = await self.roles()
        said = await self.run_ctl("edit-config", "--force", "-s", "maximum_lag_on_failover=3145728")
        self.assertIn("Configuration changed", said)

        async def known() -> bool:
            config = await self.get(leader, "/config")
            return bool(config["maximum_lag_on_failover"] == 3145728)

        await eventually("the node shows the changed configuration", known)
        self.assertIn("maximum_lag_on_failover: 3145728", await self.run_ctl("show-config"))
        said = await self.run_ctl("reload", "demo", "--force")
        for node in self.cluster.nodes:
            self.assertIn(f"Reload request received for member {node.name}", said)

    async def test_wrong_password(self) -> None:
        """With a wrong password ``patronictl`` changes nothing and says why."""
        _, (replica, _) = await self.roles()
        begun = await self.start_time(replica)
        words = ("restart", "demo", replica.name, "--force")
        said = await self.run_ctl(*words, environment=WRONG)
        self.assertIn(f"Failed: restart for member {replica.name}, status code=401", said)
        self.assertIn("not authenticated", said)
        self.assertEqual(await self.start_time(replica), begun)
        said = await self.run_ctl("pause", environment=WRONG)
        self.assertIn("Failed: pause cluster management status code=401", said)
        self.assertNotIn("pause", await self.get(replica, "/config"))
