"""Tests of twisted_patroni.client.postgres: in memory, and on a server that takes connections."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import psycopg
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.postgresql import GUARDED_USER, PASSWORD, shared_server
from tests.scratch import free_port
from twisted_patroni.client.errors import NoMember, Unreachable
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.postgres import CannotConnect, Connector, conninfo
from twisted_patroni.client.values import Member

if TYPE_CHECKING:
    from collections.abc import Callable

MEMBER = Member("alpha", role="leader", host="10.0.0.1", port=5433)
SOMEWHERE = "host=10.0.0.1 port=5433"


class ConninfoTests(SynchronousTestCase):
    """Tests of conninfo."""

    def test_roles(self) -> None:
        """The server is asked to be what the session is for, and anything where all will do."""
        for target, session in (
            ("primary", "read-write"),
            ("leader", "read-write"),
            ("replica", "standby"),
            ("any", None),
        ):
            found = conninfo_to_dict(conninfo(MEMBER, target, {}))
            self.assertEqual((found["host"], found["port"]), ("10.0.0.1", "5433"))
            self.assertEqual(found.get("target_session_attrs"), session)

    def test_parameters(self) -> None:
        """Parameters are passed on whatever is in them, and go before what is usual."""
        given = {"dbname": "it's", "password": "a b\\'", "user": None}
        found = conninfo_to_dict(conninfo(MEMBER, "primary", given))
        self.assertEqual((found["dbname"], found["password"]), ("it's", "a b\\'"))
        self.assertNotIn("user", found)
        found = conninfo_to_dict(conninfo(MEMBER, "primary", {"target_session_attrs": "any"}))
        self.assertEqual(found["target_session_attrs"], "any")

    def test_ipv6(self) -> None:
        """An address of IP version 6 is a host as any other."""
        member = Member("alpha", host="fd00::1", port=5432)
        self.assertEqual(conninfo_to_dict(conninfo(member, "any", {}))["host"], "fd00::1")

    def test_nowhere(self) -> None:
        """A member that tells no address of its PostgreSQL is named."""
        for member in (Member("beta", port=5432), Member("beta", host="10.0.0.1")):
            error = self.assertRaises(NoMember, conninfo, member, "any", {})
            self.assertEqual(str(error), "beta tells no address of its PostgreSQL")

    def test_bad_parameters(self) -> None:
        """A parameter that says where to connect, or that there is not, is named; no value is."""
        for name in ("host", "hostaddr", "port", "service"):
            error = self.assertRaises(ValueError, conninfo, MEMBER, "any", {name: PASSWORD})
            self.assertEqual(
                str(error), f"{name} is found out from the cluster, it cannot be given"
            )
        error = self.assertRaises(ValueError, conninfo, MEMBER, "any", {"pasword": PASSWORD})
        self.assertEqual(str(error), 'invalid connection option "pasword"')


@define(eq=False)
class FakeConnection:
    """A connection that is only to be closed."""

    closed: bool = False

    def close(self) -> None:
        """Close it."""
        self.closed = True


@define(eq=False)
class Threads:
    """Threads that do their work when the test says so.

    :ivar outcomes: what the next attempts come to; connections in the end.
    :ivar opened: connection strings that were used.
    :ivar made: connections that were made.
    """

    outcomes: list[Exception] = field(factory=list)
    opened: list[str] = field(factory=list)
    made: list[FakeConnection] = field(factory=list)
    waiting: list[Callable[[], None]] = field(factory=list)

    def run(self, work: Callable[[], None]) -> None:
        """Keep the work."""
        self.waiting.append(work)

    def open(self, conninfo: str) -> psycopg.Connection[Any]:
        """Open a connection, or fail."""
        self.opened.append(conninfo)
        if self.outcomes:
            raise self.outcomes.pop(0)
        self.made.append(FakeConnection())
        return cast("psycopg.Connection[Any]", self.made[-1])

    def work(self) -> None:
        """Do what was begun first."""
        self.waiting.pop(0)()


class MemoryReactor(Clock):
    """A clock that calls at once what threads want to be called."""

    def callFromThread(self, function: Callable[..., object], *args: Any) -> None:
        """Call it."""
        function(*args)


class ConnectorTests(SynchronousTestCase):
    """Tests of a connector whose threads are the test's."""

    def setUp(self) -> None:
        """Begin with two threads."""
        self.clock, self.threads = MemoryReactor(), Threads()
        self.connector = Connector(self.clock, 2, self.threads.run, self.threads.open)

    def connect(self, timeout: float = 5.0) -> Deferred[psycopg.Connection[Any]]:
        """Begin to connect."""
        return Deferred.fromCoroutine(self.connector.connect(SOMEWHERE, timeout))

    def tearDown(self) -> None:
        """See that no timer is left."""
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connection(self) -> None:
        """The connection is what the thread has opened, within a time that libpq knows, too."""
        connecting = self.connect(4.2)
        self.assertNoResult(connecting)
        self.threads.work()
        self.assertIs(self.successResultOf(connecting), cast("Any", self.threads.made[0]))
        self.assertEqual(conninfo_to_dict(self.threads.opened[0])["connect_timeout"], "5")
        self.assertEqual(self.connector.running, 0)

    def test_refused(self) -> None:
        """What libpq says is told in one line, without its advice, and with where that was."""
        said = "connection failed: FATAL:  the database\nsystem is starting up\n\tIs it running?"
        self.threads.outcomes.append(psycopg.OperationalError(said))
        connecting = self.connect()
        self.threads.work()
        error = self.failureResultOf(connecting, CannotConnect).value
        self.assertEqual(
            str(error),
            "postgresql://10.0.0.1:5433 takes no connection: "
            "connection failed: FATAL: the database system is starting up",
        )
        self.assertIsInstance(error, Unreachable)

    def test_broken(self) -> None:
        """What is no error of a connection comes through as it is, and frees the thread."""
        self.threads.outcomes.append(ZeroDivisionError())
        connecting = self.connect()
        self.threads.work()
        self.failureResultOf(connecting, ZeroDivisionError)
        self.assertEqual(self.connector.running, 0)

    def test_no_thread(self) -> None:
        """Where no thread can be begun, that is said, and the next attempt may have one."""

        def fail(work: Callable[[], None]) -> None:
            raise RuntimeError("can't start new thread")

        self.connector.run = fail
        for _ in range(3):
            error = self.failureResultOf(self.connect(), CannotConnect).value
            self.assertIn("can't start new thread", str(error))

    def test_turns(self) -> None:
        """Never more attempts than threads, whoever has given up waiting for them."""
        first, second, third = self.connect(), self.connect(), self.connect()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual((len(self.threads.waiting), self.connector.running), (2, 2))
        self.threads.work()
        self.assertTrue(self.threads.made[0].closed)
        self.assertEqual(len(self.threads.waiting), 2)
        self.threads.work()
        self.threads.work()
        self.successResultOf(second)
        self.successResultOf(third)
        self.assertEqual([each.closed for each in self.threads.made], [True, False, False])

    def test_too_late(self) -> None:
        """Time is up for who is waited for and for who waits; a late connection is closed."""
        connecting = [self.connect(3.0) for _ in range(3)]
        self.clock.advance(3.0)
        told = [str(self.failureResultOf(each, CannotConnect).value) for each in connecting]
        self.assertIn("has not taken a connection within 3 seconds", told[0])
        self.assertIn("could not be asked within 3 seconds", told[2])
        self.threads.work()
        self.threads.work()
        self.assertEqual([each.closed for each in self.threads.made], [True, True])
        self.assertEqual((self.threads.waiting, self.connector.running), ([], 0))

    def test_waiting_counts(self) -> None:
        """The wait for a thread is part of the time."""
        first, second = self.connect(9.0), self.connect(9.0)
        third = self.connect(5.0)
        self.clock.advance(3.0)
        self.threads.work()
        self.threads.work()
        self.clock.advance(2.0)
        self.failureResultOf(third, CannotConnect)
        self.successResultOf(first)
        self.successResultOf(second)
        self.threads.work()
        self.assertEqual(conninfo_to_dict(self.threads.opened[2])["connect_timeout"], "2")
        self.assertTrue(self.threads.made[2].closed)

    def test_cancelled_in_turn(self) -> None:
        """Who goes while others are tried leaves nothing behind."""
        connecting = [self.connect() for _ in range(3)]
        connecting[2].cancel()
        self.failureResultOf(connecting[2], CancelledError)
        self.threads.work()
        self.threads.work()
        self.assertEqual(self.threads.waiting, [])
        for each in connecting[:2]:
            self.successResultOf(each)

    def test_close(self) -> None:
        """Closing fails all who wait and all who come later; a late connection is closed."""
        connecting = [self.connect() for _ in range(3)]
        self.connector.close()
        for each in [*connecting, self.connect()]:
            self.failureResultOf(each, PoolClosed)
        self.threads.work()
        self.threads.work()
        self.assertEqual([each.closed for each in self.threads.made], [True, True])
        self.assertEqual(self.threads.waiting, [])


class ServerTests(TestCase):
    """Tests with threads, sockets and a PostgreSQL server."""

    timeout = 60

    def setUp(self) -> None:
        """Begin with a connector."""
        self.connector = Connector(reactor)
        self.addCleanup(self.ended)

    async def ended(self) -> None:
        """Wait for the end of all threads."""
        self.connector.close()
        while self.connector.running:
            await deferLater(reactor, 0.01)

    async def refused(self, conninfo: str, timeout: float = 10.0) -> str:
        """Return why a connection does not come about."""
        with self.assertRaises(CannotConnect) as caught:
            await self.connector.connect(conninfo, timeout)
        return str(caught.exception)

    def server(self, target: str, **parameters: Any) -> str:
        """Return the connection string for a server that is no standby."""
        server = shared_server()
        member = Member("alpha", host="127.0.0.1", port=server.port)
        usual = {"user": "postgres", "dbname": "postgres"}
        return conninfo(member, target, usual | parameters)

    async def test_open(self) -> None:
        """Whoever asks for the primary gets a session that writes."""
        with await self.connector.connect(self.server("primary"), 10.0) as connection:
            row = connection.execute("SHOW transaction_read_only").fetchone()
        self.assertEqual(row, ("off",))

    async def test_wrong_role(self) -> None:
        """A primary is no replica, and what cannot be written to no primary."""
        said = await self.refused(self.server("replica"))
        self.assertIn("not in hot standby mode", said)
        options = "-c default_transaction_read_only=on"
        self.assertIn("read-only", await self.refused(self.server("primary", options=options)))

    async def test_password(self) -> None:
        """A password is used, and no error shows it, be it wrong."""
        right = self.server("any", user=GUARDED_USER, password=PASSWORD)
        (await self.connector.connect(right, 10.0)).close()
        said = await self.refused(self.server("any", user=GUARDED_USER, password="wrong one"))
        self.assertIn("password authentication failed", said)
        self.assertNotIn("wrong one", said)

    async def test_nobody(self) -> None:
        """A port at which nobody listens refuses, and a name without an address is unknown."""
        port = free_port()
        said = await self.refused(f"host=127.0.0.1 port={port} password=secret")
        self.assertTrue(said.startswith(f"postgresql://127.0.0.1:{port} takes no connection: "))
        self.assertIn("refused", said)
        self.assertNotIn("secret", said)
        self.assertIn("resolve", await self.refused("host=name.invalid port=5432"))

    async def test_silence(self) -> None:
        """A server that takes connections and says nothing holds up nobody past the time."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            said = await self.refused(f"host=127.0.0.1 port={port}", 0.2)
            self.assertIn("has not taken a connection within 0.2 seconds", said)
            self.assertEqual(self.connector.running, 1)
            taken, _ = silent.accept()
            taken.close()

    async def test_many(self) -> None:
        """More connections than threads come one after the other."""
        opening = [
            Deferred.fromCoroutine(self.connector.connect(self.server("primary"), 20.0))
            for _ in range(8)
        ]
        self.assertEqual(self.connector.running, 4)
        for each in opening:
            (await each).close()
