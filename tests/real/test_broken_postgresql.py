"""PostgreSQL killed, frozen and cut off under the engine: answers in time, and healing."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.real.asking import Reply, eventually, sql, together
from tests.real.harness import RealClusterTests, children, kill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.demo import Node

#: Three seconds are promised; the rest is for a busy machine.
BOUND = 8.0
#: What needs no PostgreSQL waits for none of this.
QUICKLY = 2.5
ASKED = ("/replica", "/primary", "/health", "/patroni", "/metrics")
STREAMING = "/replica?replication_state=streaming"


def postmaster(node: Node) -> int:
    """Return the process id of a node's running PostgreSQL."""
    pid = node.postmaster_pid()
    assert pid is not None
    return pid


class BrokenPostgresTests(RealClusterTests):
    """What a node says while its PostgreSQL is in trouble, and afterwards."""

    async def ask_all(self, node: Node) -> list[Reply]:
        """Ask a node everything that needs PostgreSQL; each answer must come in time."""
        replies = await together(*(self.ask("GET", node, path) for path in ASKED))
        for path, reply in zip(ASKED, replies, strict=True):
            self.assertIn(reply.code, (200, 503), f"{path}: {reply}")
            self.assertLess(reply.seconds, BOUND, path)
        return replies

    async def heals(self, node: Node, check: str) -> None:
        """Ask a node everything again and again until a check is fine."""

        async def look() -> bool:
            await self.ask_all(node)
            return (await self.ask("GET", node, check)).code == 200

        await eventually(f"{node.name} answers {check} with 200", look)

    async def test_killed_replica(self) -> None:
        """A replica whose PostgreSQL is shut down by force is no replica, and starts it again."""
        _, (replica, _) = await self.roles()
        kill(postmaster(replica), signal.SIGQUIT)
        for reply in (await self.ask_all(replica))[:3]:
            self.assertEqual(reply.code, 503)
        await self.heals(replica, STREAMING)

    async def test_killed_primary(self) -> None:
        """A primary whose postmaster is killed comes back, or another one takes over."""
        leader, _ = await self.roles()
        kill(postmaster(leader), signal.SIGKILL)
        await self.ask_all(leader)

        async def look() -> bool:
            await self.ask_all(leader)
            return await self.cluster.leader() is not None

        await eventually("there is a primary again", look)
        await self.cluster.ready()

    async def frozen(self, node: Node, codes: Sequence[int]) -> None:
        """Freeze PostgreSQL, see what its node answers, and thaw it.

        :param node: the node.
        :param codes: the status expected for each of what is asked.
        """
        pid = postmaster(node)
        # The postmaster first, so that it can start no others.
        kill(pid, signal.SIGSTOP)
        pids = (*children(pid), pid)
        try:
            for one in pids:
                kill(one, signal.SIGSTOP)
            for _ in range(2):
                replies = await self.ask_all(node)
                self.assertEqual([reply.code for reply in replies], codes)
                for reply in replies[:4]:
                    document = reply.json()
                    self.assertEqual(document["state"], "unknown")
                    self.assertNotIn("xlog", document)
                    self.assertEqual(document["patroni"]["name"], node.name)
                metrics = replies[4].text
                self.assertIn(f'\npatroni_postgres_running{{scope="demo",name="{node.name}"}} 0\n',
                              metrics)  # fmt: skip
                self.assertRegex(metrics, r"\npatroni_postgres_state\{.*\} -1\n")
                reply = await self.ask("GET", node, "/liveness")
                self.assertEqual((reply.code, reply.seconds < QUICKLY), (200, True))
        finally:
            for one in pids:
                kill(one, signal.SIGCONT)

    async def test_frozen_replica(self) -> None:
        """A replica whose PostgreSQL hangs says in time that it does not know, and heals."""
        _, (replica, _) = await self.roles()
        await self.frozen(replica, [503, 503, 503, 200, 200])
        await self.until(replica, STREAMING, 200)

    async def test_frozen_primary(self) -> None:
        """A primary whose PostgreSQL hangs for a while says so, keeps the lock, and heals."""
        leader, _ = await self.roles()
        await self.frozen(leader, [503, 200, 503, 200, 200])
        await self.until(leader, "/health", 200)
        await self.cluster.ready()
        self.assertIs(await self.cluster.leader(), leader)

    async def test_cut_off(self) -> None:
        """A node whose connections to PostgreSQL are ended has new ones at once."""
        leader, (replica, _) = await self.roles()
        for node, check in ((leader, "/health"), (replica, STREAMING)):
            for _ in range(3):
                ((count,),) = await sql(
                    node.conninfo,
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'Patroni restapi'",
                )
                self.assertEqual(count, 1)
                await self.ask_all(node)
                await self.until(node, check, 200)
        self.assertIs(await self.cluster.leader(), leader)


class LostPrimaryTests(RealClusterTests):
    """The primary's machine is gone, as far as one can tell."""

    async def test_killed(self) -> None:
        """Another node takes over; the old one comes back, gives up what only it has, streams."""
        leader, others = await self.roles()
        await sql(leader.conninfo, "CREATE TABLE IF NOT EXISTS kept (text text)")
        await sql(leader.conninfo, "INSERT INTO kept VALUES ('before')")
        await self.cluster.ready()
        pid = postmaster(leader)
        for (sender,) in await sql(leader.conninfo, "SELECT pid FROM pg_stat_replication"):
            kill(sender, signal.SIGSTOP)
        await sql(leader.conninfo, "INSERT INTO kept VALUES ('never replicated')")
        kill(pid, signal.SIGSTOP)
        pids = (pid, *children(pid))
        await leader.stop("KILL")
        for one in pids:
            kill(one, signal.SIGKILL)
        new = await eventually("there is a new primary", self.cluster.leader, 60.0)
        self.assertIn(new, others)
        await sql(new.conninfo, "INSERT INTO kept VALUES ('after')")
        leader.start()
        await self.until(leader, STREAMING, 200, 60.0)

        async def rows() -> bool:
            expected = [("after",), ("before",)]
            return await sql(leader.conninfo, "SELECT text FROM kept ORDER BY text") == expected

        await eventually("it has what the others have", rows)
        self.assertIn("running pg_rewind", leader.place.log_file.read_text())
        await self.cluster.ready()
