"""Tests of examples/writer.py, with a PostgreSQL server that ends connections in several ways."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import psycopg
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from examples.writer import Interruption, Report, Writer
from tests.postgresql import shared_server
from twisted_patroni.client.errors import NoLeader
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.client.replicas import Replicas

PROGRAM = Path(__file__).parents[1] / "examples" / "writer.py"
TABLE = "written"
#: Seconds between two rows, for what is to happen between them.
CALM = 0.5


@define(eq=False)
class OneServer:
    """A cluster whose primary is always the same server.

    :ivar failures: what the next attempts to connect fail with.
    :ivar connections: those that were made.
    :ivar found: who is found to lead, once, when somebody asks.
    """

    failures: list[Exception] = field(factory=list)
    connections: list[psycopg.Connection[Any]] = field(factory=list)
    callback: Callable[[Member | None], object] | None = None
    found: Member | None = None

    async def connect(self, target: str, **parameters: Any) -> psycopg.Connection[Any]:
        """Open a connection."""
        assert target == "primary"
        if self.failures:
            raise self.failures.pop(0)
        for name in ("timeout", "retry"):
            parameters.pop(name)
        given = shared_server().conninfo(**parameters, host="127.0.0.1")
        self.connections.append(await deferToThread(psycopg.connect, **given))
        return self.connections[-1]

    async def request(self, method: str, path: str, **options: Any) -> None:
        """Fail, and find out who leads."""
        found, self.found = self.found, None
        if self.callback is not None and found is not None:
            self.callback(found)
        raise NoLeader(f"{method} {path} {options['target']}")

    def on_leader_change(self, callback: Callable[[Member | None], object]) -> Callable[[], None]:
        """Keep the function."""
        self.callback = callback
        return lambda: setattr(self, "callback", None)


class WriterTests(TestCase):
    """Tests of a writer."""

    timeout = 60

    def setUp(self) -> None:
        """Begin without a table."""
        self.server = shared_server()
        self.server.execute(f"DROP TABLE IF EXISTS {TABLE}")
        self.cluster = OneServer()
        self.told: list[str] = []
        self.writer = self.another()

    def tearDown(self) -> None:
        """See that nothing is left open."""
        self.assertIsNone(self.cluster.callback)
        self.assertTrue(all(each.closed for each in self.cluster.connections))

    def another(self) -> Writer:
        """Return a writer that has not begun."""
        return Writer(reactor, cast("Replicas", self.cluster), TABLE, self.told.append)

    def begin(self, rows: int | None = None, pause: float = 0.001) -> Deferred[Report]:
        """Begin to write."""
        return Deferred.fromCoroutine(self.writer.run(rows, pause))

    async def freeze(self) -> None:
        """Freeze the writer's process of the server, between two rows.

        Within one it could hold a lock that the writer would meet again on the same server.
        """
        await self.written(self.writer.acknowledged + 1)
        backend = self.backend()
        self.server.freeze(backend)
        self.addCleanup(self.server.thaw, backend)

    async def written(self, rows: int) -> None:
        """Wait until some rows were acknowledged."""
        while self.writer.acknowledged < rows:
            await deferLater(reactor, 0.005)

    def backend(self) -> int:
        """Return the process that serves the writer."""
        return self.cluster.connections[-1].info.backend_pid

    async def test_rows(self) -> None:
        """All rows are there, and those of a second run come after them."""
        report = await self.begin(5)
        self.assertEqual(report, Report(5, 5, 0, (), ()))
        self.writer = self.another()
        self.assertEqual(await self.begin(7), Report(7, 7, 0, (), ()))
        self.assertEqual(self.writer.first, 6)

    async def test_ended_connection(self) -> None:
        """A connection that ends interrupts the writer, and no more."""
        writing = self.begin()
        for rows in (5, 10):
            await self.written(rows)
            self.server.execute(f"SELECT pg_terminate_backend({self.backend()})")
        self.cluster.failures += [NoLeader("the cluster has no leader")] * 2
        await self.written(20)
        self.writer.stop()
        report = await writing
        self.assertEqual((report.present, report.missing), (report.acknowledged, ()))
        self.assertEqual(len(report.interruptions), 2)
        self.assertIn("the cluster has no leader", self.told)
        self.assertTrue(self.told[-1].startswith("row "), self.told)

    async def test_leader_changes(self) -> None:
        """A connection to who leads no more is left, though it does not end by itself."""
        writing = self.begin(pause=CALM)
        await self.freeze()
        assert self.cluster.callback is not None
        self.cluster.callback(None)
        self.cluster.callback(Member("b", role="leader", host="127.0.0.1", port=1))
        await self.written(self.writer.acknowledged + 3)
        self.writer.stop()
        report = await writing
        self.assertEqual((report.missing, len(report.interruptions)), ((), 1))

    async def test_silent_primary(self) -> None:
        """A primary that does not answer is left once it is found that another member leads."""
        self.writer.look = 0.05
        writing = self.begin(pause=CALM)
        await self.freeze()
        self.cluster.found = Member("b", role="leader", host="127.0.0.1", port=1)
        await self.written(self.writer.acknowledged + 3)
        self.writer.stop()
        report = await writing
        self.assertEqual((report.missing, len(report.interruptions)), ((), 1))

    async def test_same_leader(self) -> None:
        """A connection to who leads is kept."""
        writing = self.begin()
        await self.written(3)
        assert self.cluster.callback is not None
        self.cluster.callback(Member("a", role="leader", host="127.0.0.1", port=self.server.port))
        await self.written(6)
        self.writer.stop()
        self.assertEqual((await writing).interruptions, ())

    def synchronous(self, names: str) -> None:
        """Set whom commits wait for."""
        self.server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        self.server.execute("SELECT pg_reload_conf()")

    async def waits_for_standby(self) -> int:
        """Return the process of the writer that waits for a standby, once it does."""
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        while not (found := self.server.execute(waiting)):
            await deferLater(reactor, 0.02)
        pid: int = found[0][0]
        return pid

    async def test_unreplicated_row(self) -> None:
        """A row that is there, but on no standby yet, is acknowledged no sooner than it is."""
        writing = self.begin()
        await self.written(3)
        self.addCleanup(self.synchronous, "")
        self.synchronous("nobody")
        backend = await self.waits_for_standby()
        acknowledged = self.writer.acknowledged
        self.server.execute(f"SELECT pg_terminate_backend({backend})")
        while not self.told:
            await deferLater(reactor, 0.02)
        ((present,),) = self.server.execute(f"SELECT count(*) FROM {TABLE}")
        self.assertEqual(present, acknowledged + 1)
        self.assertNotEqual(await self.waits_for_standby(), backend)
        self.assertEqual(self.writer.acknowledged, acknowledged)
        self.synchronous("")
        await self.written(acknowledged + 1)
        self.writer.stop()
        report = await writing
        self.assertEqual((report.repeated, report.missing), (1, ()))

    async def test_no_standby(self) -> None:
        """Where no standby is left to wait for, and nobody else leads, the writer gives up."""
        writing = self.begin()
        await self.written(3)
        self.addCleanup(self.synchronous, "")
        self.synchronous("nobody")
        self.writer.patience = 0.3
        with self.assertRaises(psycopg.OperationalError):
            await writing

    async def test_doubtful(self) -> None:
        """A commit with a warning is none; the row is written again, and found."""
        await self.begin(1)
        self.server.execute(
            "CREATE OR REPLACE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.attempts = 1 THEN RAISE WARNING 'not replicated'; END IF; "
            "RETURN NULL; END $$"
        )
        self.server.execute(
            f"CREATE TRIGGER warn AFTER INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION warn()"
        )
        self.writer = self.another()
        report = await self.begin(2)
        self.assertEqual((report.acknowledged, report.present, report.repeated), (2, 2, 2))
        self.assertIn("committed with a warning: not replicated", self.told)

    async def test_lost_row(self) -> None:
        """An acknowledged row that is not there is found out."""
        writing = self.begin()
        await self.written(6)
        self.server.execute(f"DELETE FROM {TABLE} WHERE number IN (2, 4)")
        self.writer.stop()
        report = await writing
        self.assertEqual(report.missing, (2, 4))
        self.assertEqual(report.present, report.acknowledged - 2)

    async def test_nowhere_to_write(self) -> None:
        """What another attempt cannot mend ends the writer."""
        self.writer.parameters["options"] = "-c search_path="
        with self.assertRaises(psycopg.ProgrammingError):
            await self.begin(1)


class ProgramTests(SynchronousTestCase):
    """Tests of what the program shows."""

    def test_report(self) -> None:
        """The report names the missing rows, and the longest of the interruptions."""
        happened = Interruption(7, 2.5, "10.0.0.2:5432"), Interruption(9, 0.4, "10.0.0.1:5432")
        report = Report(40, 28, 1, tuple(range(1, 13)), happened)
        self.assertEqual(
            str(report).splitlines(),
            [
                "acknowledged rows:    40",
                "present rows:         28",
                "missing rows:         1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more",
                "found when repeated:  1",
                "interruptions:        2",
                "longest interruption: 2.50 s, until row 7 on 10.0.0.2:5432",
            ],
        )
        self.assertIn("missing rows:         none", str(Report(1, 1, 0, (), ())))

    def run_program(self, *words: str) -> tuple[int, str]:
        """Run the program to its end."""
        ended = subprocess.run(
            [sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=60
        )
        return ended.returncode, ended.stderr

    def test_bad_command_line(self) -> None:
        """Mistakes are told in a line."""
        code, said = self.run_program()
        self.assertEqual((code, said.splitlines()[-1]),
            (2, "writer.py: error: give the URL of a member, or --config"))  # fmt: skip
        code, said = self.run_program("ftp://127.0.0.1")
        self.assertEqual((code, said.count("\n"), said[:8]), (1, 1, "writer: "))
        code, said = self.run_program("--config", "/nowhere/patroni.yml")
        self.assertEqual(code, 1)
        self.assertIn("cannot read /nowhere/patroni.yml", said)
