"""Tests of twisted_patroni.postgres, most of them against a real server.

Where time matters it is moved by hand, while the sockets are those of the real reactor.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

from psycopg.conninfo import make_conninfo
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address as TCP4
from twisted.internet.address import IPv6Address as TCP6
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReadDescriptor,
    IResolutionReceiver,
    IWriteDescriptor,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, LoopingCall
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from tests.postgresql import GUARDED_USER, PASSWORD, shared_server
from twisted_patroni._pqlink import CANCEL_GRACE, Session
from twisted_patroni._pqsocket import CAN_CANCEL, SocketWatch
from twisted_patroni.postgres import (
    ConnectionFailed,
    LinkLost,
    LinkReactor,
    PostgresError,
    PostgresLink,
    QueryFailed,
    QueryTimeout,
    Rows,
    with_addresses,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IAddress

reactor = cast("Any", global_reactor)
E = TypeVar("E", bound=PostgresError)

WHO = "SELECT pg_backend_pid()"
SLEEP = "SELECT pg_sleep(60)"


@implementer(IHostResolution)
class Resolution:
    """A resolution under way."""

    name = ""

    def cancel(self) -> None:
        """Refuse, as Twisted's own resolvers do."""
        raise NotImplementedError


@implementer(IHostnameResolver)
class FixedResolver:
    """Knows the names it is told, and can be slow.

    :param names: the addresses of each name.
    :param slow: keep the question in ``asked`` instead of answering it.
    """

    def __init__(self, names: Mapping[str, Sequence[str]], slow: bool = False) -> None:
        self.names = names
        self.slow = slow
        self.asked: list[IResolutionReceiver] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Answer at once, unless slow."""
        resolution = Resolution()
        resolutionReceiver.resolutionBegan(resolution)
        if self.slow:
            self.asked.append(resolutionReceiver)
            return resolution
        for address in self.names.get(hostName, ()):
            kind = TCP6 if ":" in address else TCP4
            resolutionReceiver.addressResolved(kind("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(LinkReactor)
class ClockedReactor(Clock):
    """The sockets of the real reactor with a clock that is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver: IHostnameResolver = reactor.nameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Use another resolver."""
        self.nameResolver, previous = resolver, self.nameResolver
        return previous

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch with the real reactor."""
        reactor.addReader(reader)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Watch with the real reactor."""
        reactor.addWriter(writer)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Stop watching with the real reactor."""
        reactor.removeReader(reader)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Stop watching with the real reactor."""
        reactor.removeWriter(writer)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """Leave what belongs to others alone."""
        return []

    def getReaders(self) -> list[IReadDescriptor]:
        """Return what the real reactor watches."""
        return cast("list[IReadDescriptor]", reactor.getReaders())

    def getWriters(self) -> list[IWriteDescriptor]:
        """Return what the real reactor watches."""
        return cast("list[IWriteDescriptor]", reactor.getWriters())


class AddressTests(SynchronousTestCase):
    """Tests of with_addresses, which needs no server."""

    names: Mapping[str, Sequence[str]] = {
        "db": ["::1", "127.0.0.1"],
        "other": ["10.0.0.1"],
    }

    def completed(self, **parameters: Any) -> dict[str, Any]:
        """Return what the parameters become, without what is always added."""
        known = Deferred.fromCoroutine(with_addresses(FixedResolver(self.names), parameters))
        result = self.successResultOf(known)
        return {key: value for key, value in result.items() if key not in self.always}

    always = frozenset({"gssencmode", "client_encoding", "options"})

    def test_name_becomes_its_addresses(self) -> None:
        """Every address of a name is tried, with the name and the port kept beside it."""
        self.assertEqual(
            self.completed(host="db", port=5433),
            {"host": "db,db", "hostaddr": "::1,127.0.0.1", "port": "5433,5433"},
        )

    def test_several_hosts(self) -> None:
        """A list of hosts keeps its order; each keeps its own port."""
        self.assertEqual(
            self.completed(host="db,/run,other", port="1,2,3"),
            {"host": "db,db,/run,other", "hostaddr": "::1,127.0.0.1,,10.0.0.1", "port": "1,1,2,3"},
        )
        self.assertEqual(
            self.completed(host="missing,other"), {"host": "other", "hostaddr": "10.0.0.1"}
        )

    def test_nothing_to_resolve(self) -> None:
        """Addresses, socket directories and an absent host are left as they are."""
        for host in ("/run/postgresql", "@abstract"):
            self.assertEqual(self.completed(host=host), {"host": host})
        self.assertEqual(self.completed(port=1), {"port": 1})
        self.assertEqual(self.completed(host="::1"), {"host": "::1", "hostaddr": "::1"})
        given = {"host": "db", "hostaddr": "127.0.0.9"}
        self.assertEqual(self.completed(**given), given)

    def test_what_does_not_match_is_left_to_libpq(self) -> None:
        """Three ports for two hosts are passed on: libpq has the words for it."""
        given = {"host": "db,other", "port": "1,2,3"}
        self.assertEqual(self.completed(**given), given)

    def test_unknown_name(self) -> None:
        """A name without an address is a failure to connect that tells the name."""
        known = Deferred.fromCoroutine(with_addresses(FixedResolver({}), {"host": "nowhere"}))
        self.assertIn("nowhere", str(self.failureResultOf(known, ConnectionFailed).value))

    def test_additions(self) -> None:
        """None is left out; Kerberos is off unless asked for; options are extended."""
        self.always = frozenset[str]()
        self.assertEqual(
            self.completed(host=None, gssencmode="prefer", options="-c a=b"),
            {
                "gssencmode": "prefer",
                "client_encoding": "UTF8",
                "options": "-c a=b -c datestyle=ISO",
            },
        )
        self.assertEqual(self.completed()["gssencmode"], "disable")


class LinkTestCase(TestCase):
    """Common ground of the tests that use a real server."""

    timeout = 30

    def setUp(self) -> None:
        """Have a server, and a clock that stands still."""
        self.server = shared_server()
        self.clock = ClockedReactor()
        self.losses: list[PostgresError] = []

    def link(self, clock: Any = None, **options: Any) -> PostgresLink:
        """Return a link to the server that is closed when the test ends."""
        return self.link_with(self.server.conninfo, clock=clock, **options)

    def link_with(
        self, conninfo: Callable[[], Mapping[str, Any]], clock: Any = None, **options: Any
    ) -> PostgresLink:
        """Return a link with parameters of its own that is closed when the test ends."""
        link = PostgresLink(clock or self.clock, conninfo, **options)
        self.addCleanup(link.close)
        return link

    def link_to(self, **parameters: Any) -> PostgresLink:
        """Return a link to the server with some parameters changed."""
        return self.link_with(lambda: self.server.conninfo(**parameters))

    async def sleeping(self, pid: int) -> None:
        """Wait until the server process is in pg_sleep, where a cancel request reaches it."""
        watcher = self.link()
        sql = f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}"
        while (await watcher.query(sql)).rows != [("PgSleep",)]:
            pass

    async def failing(self, answer: Deferred[Rows], kind: type[E]) -> E:
        """Return the error of a question that must not be answered."""
        try:
            result = await answer
        except kind as error:
            return error
        self.fail(f"answered: {result}")

    async def one(self, link: PostgresLink, sql: str) -> Any:
        """Return the one value of a statement."""
        ((value,),) = (await link.query(sql)).rows
        return value


class QueryTests(LinkTestCase):
    """What statements return."""

    async def test_types(self) -> None:
        """Values have the Python types that psycopg gives them."""
        link = self.link()
        self.assertFalse(link.connected)
        result = await link.query(
            "SELECT now(), 5000000000::bigint, true, 'x'::name, 'ü'::text, NULL,"
            """ '[{"a": 1}]'::json, '127.0.0.1'::inet, 1.5::float8"""
        )
        self.assertTrue(link.connected)
        ((now, *others),) = result.rows
        self.assertIsInstance(now.utcoffset(), timedelta)
        expected = [5000000000, True, "x", "ü", None, [{"a": 1}], IPv4Address("127.0.0.1"), 1.5]
        self.assertEqual(others, expected)
        self.assertIsInstance(result, Rows)
        self.assertGreater(result.server_version, 90000)

    async def test_taste_of_the_server_in_dates(self) -> None:
        """Times are read whatever style the server's configuration prefers."""
        link = self.link_to(options="-c datestyle=German -c timezone=Asia/Kathmandu")
        now = await self.one(link, "SELECT now()")
        self.assertEqual(now.utcoffset(), timedelta(hours=5, minutes=45))

    async def test_no_rows(self) -> None:
        """A statement without rows is answered too, and so is an empty one."""
        link = self.link()
        for sql in ("SET work_mem = '1MB'", "SELECT 1 WHERE false", "", "SELECT 1; SET a.b = '1'"):
            self.assertEqual(list((await link.query(sql)).rows), [])

    async def test_last_of_several_statements(self) -> None:
        """Of several statements in one text the last one's rows are returned."""
        self.assertEqual(await self.one(self.link(), "SELECT 1; SELECT 2"), 2)

    async def test_large(self) -> None:
        """Statements and results larger than any buffer go through."""
        link = self.link()
        self.assertEqual(await self.one(link, f"SELECT length('{'x' * 8_000_000}')"), 8_000_000)
        self.assertEqual(len(await self.one(link, "SELECT repeat('x', 8000000)")), 8_000_000)
        rows = (await link.query("SELECT generate_series(1, 20000)")).rows
        self.assertEqual(rows[-1], (20000,))

    async def test_in_order(self) -> None:
        """Statements asked together run one after the other on one connection."""
        link = self.link()
        answers = [link.query(f"SELECT {number}, pg_backend_pid()") for number in range(5)]
        rows = [(await answer).rows[0] for answer in answers]
        self.assertEqual([number for number, _ in rows], list(range(5)))
        self.assertEqual(len({pid for _, pid in rows}), 1)

    async def test_server_refuses_a_statement(self) -> None:
        """An error of the server has its code, and the connection stays usable."""
        link = self.link()
        pid = await self.one(link, WHO)
        for sql, sqlstate in (("SELECT * FROM nowhere", "42P01"), ("SELEC", "42601")):
            error = await self.failing(link.query(sql), QueryFailed)
            self.assertEqual(error.sqlstate, sqlstate)
            self.assertEqual(await self.one(link, WHO), pid)

    async def test_unreadable_answer(self) -> None:
        """A value that Python cannot hold is an error like any other."""
        link = self.link()
        error = await self.failing(link.query("SELECT 'infinity'::timestamptz"), QueryFailed)
        self.assertEqual(error.sqlstate, "")
        self.assertEqual(await self.one(link, "SELECT 1"), 1)

    async def test_copy(self) -> None:
        """COPY is refused instead of going round for ever; the link goes on."""
        link = self.link()
        for sql in ("COPY (SELECT 1) TO STDOUT", "CREATE TEMP TABLE t (); COPY t FROM STDIN"):
            await self.failing(link.query(sql), LinkLost)
            self.assertEqual(await self.one(link, "SELECT 1"), 1)


class ConnectTests(LinkTestCase):
    """Ways to the server, and ways to fail on it."""

    async def test_socket_and_tcp(self) -> None:
        """A socket directory, an address and a name of this host lead to the server."""
        sql = "SELECT host(inet_server_addr())"
        self.assertIsNone(await self.one(self.link(), sql))
        self.assertEqual(await self.one(self.link_to(host="127.0.0.1"), sql), "127.0.0.1")
        self.assertEqual(await self.one(self.link_to(host="localhost"), sql), "127.0.0.1")

    async def test_second_address_of_a_name(self) -> None:
        """When nobody listens on a name's first address the next one is tried."""
        self.clock.installNameResolver(FixedResolver({"db": ["127.0.0.2", "127.0.0.1"]}))
        link = self.link_to(host="db")
        self.assertEqual(await self.one(link, "SELECT host(inet_server_addr())"), "127.0.0.1")

    async def test_password(self) -> None:
        """The right password is let in, a wrong one and an unknown user are told so."""
        who = {"host": "127.0.0.1", "user": GUARDED_USER}
        link = self.link_to(**who, password=PASSWORD)
        self.assertEqual(await self.one(link, "SELECT current_user::text"), GUARDED_USER)
        link = self.link_to(**who, password="wrong")
        error = await self.failing(link.query("SELECT 1"), ConnectionFailed)
        self.assertIn("password", error.message)
        link = self.link_to(user="stranger")
        error = await self.failing(link.query("SELECT 1"), ConnectionFailed)
        self.assertIn("stranger", error.message)
        self.assertFalse(link.connected)

    async def test_bad_parameters(self) -> None:
        """Parameters that libpq does not know, or cannot use, are a failure to connect."""
        for bad in ({"no_such": 1}, {"port": "none"}, {"host": "/a,/b", "port": "1,2,3"}):
            link = self.link_to(**bad)
            await self.failing(link.query("SELECT 1"), ConnectionFailed)

    async def test_backoff(self) -> None:
        """After a failure nobody is tried for a while, ever longer but never over a second."""
        asked: list[float] = []

        def conninfo() -> Mapping[str, Any]:
            asked.append(self.clock.seconds())
            return self.server.conninfo(port=1)

        link = self.link_with(conninfo)
        for _ in range(80):
            await self.failing(link.query("SELECT 1"), ConnectionFailed)
            self.clock.advance(0.0625)
        waits = [later - earlier for earlier, later in pairwise(asked)]
        self.assertEqual(waits, [0.125, 0.25, 0.4375, 0.8125, 1.0, 1.0, 1.0])

    async def test_parameters_are_asked_for_each_attempt(self) -> None:
        """New parameters are used by the next attempt, and success forgets the failures."""
        ports = [1, self.server.port, 1]
        link = self.link_with(lambda: self.server.conninfo(port=ports.pop(0)))
        await self.failing(link.query("SELECT 1"), ConnectionFailed)
        self.clock.advance(0.1)
        pid = await self.one(link, WHO)
        await self.failing(link.query(f"SELECT pg_terminate_backend({pid})"), PostgresError)
        await self.failing(link.query("SELECT 1"), ConnectionFailed)
        self.assertEqual(ports, [])

    async def silent_port(self) -> tuple[int, Deferred[None]]:
        """Return a port where somebody accepts and says nothing, and when it did accept."""
        accepted: Deferred[None] = Deferred()

        class Silent(Protocol):
            def connectionMade(self) -> None:
                if not accepted.called:
                    accepted.callback(None)

        port = reactor.listenTCP(0, Factory.forProtocol(Silent), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return port.getHost().port, accepted

    async def test_silent_server(self) -> None:
        """A server that accepts and never answers is given up when its time is over."""
        port, accepted = await self.silent_port()
        link = self.link_to(host="127.0.0.1", port=port)
        answer = link.query("SELECT 1")
        await accepted
        self.clock.advance(1.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.failureResultOf(answer, ConnectionFailed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_deadline_includes_connecting(self) -> None:
        """The deadline counts from the question, not from the connection."""
        port, accepted = await self.silent_port()
        conninfo = self.server.conninfo(host="127.0.0.1", port=port)
        link = self.link_with(lambda: conninfo, connect_timeout=10, deadline=3)
        answers = [link.query("SELECT 1"), link.query("SELECT 1")]
        await accepted
        self.clock.advance(3)
        for answer in answers:
            self.failureResultOf(answer, QueryTimeout)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_name_resolution(self) -> None:
        """A resolver that never answers costs no more than any other attempt to connect."""
        resolver = FixedResolver({}, slow=True)
        self.clock.installNameResolver(resolver)
        answer = self.link_to(host="db").query("SELECT 1")
        self.clock.advance(2)
        self.failureResultOf(answer, ConnectionFailed)
        resolver.asked[0].resolutionComplete()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class DeadlineTests(LinkTestCase):
    """Statements that take too long, and servers that do not answer any more."""

    async def assert_usable(self, link: PostgresLink, pid: int) -> None:
        """The link answers: on the same connection, unless libpq is too old to cancel."""
        self.assertEqual(await self.one(link, WHO) == pid, CAN_CANCEL)

    async def test_statement_beyond_the_deadline(self) -> None:
        """The caller is told at once, the server stops, and the connection stays."""
        link = self.link()
        pid = await self.one(link, WHO)
        answer = link.query(SLEEP)
        await self.sleeping(pid)
        self.clock.advance(2.9)
        self.assertNoResult(answer)
        self.clock.advance(0.1)
        self.failureResultOf(answer, QueryTimeout)
        await self.assert_usable(link, pid)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_cancelled_by_the_caller(self) -> None:
        """A caller that cancels is free at once, the server stops, and the connection stays."""
        link = self.link()
        pid = await self.one(link, WHO)
        answer, waiting = link.query(SLEEP), link.query("SELECT 1")
        await self.sleeping(pid)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        await self.assert_usable(link, pid)

    async def test_cancelled_while_connecting(self) -> None:
        """A caller that cancels while the link connects is free at once; the next one connects."""
        link = self.link()
        answer = link.query("SELECT 1")
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(await self.one(link, "SELECT 2"), 2)

    async def test_cancelled_while_the_last_one_is_being_cancelled(self) -> None:
        """Impatient callers do not get in the way of the cancel request before them."""
        link = self.link()
        pid = await self.one(link, WHO)
        answers = [link.query(SLEEP) for _ in range(3)]
        await self.sleeping(pid)
        for answer in answers:
            answer.cancel()
            self.failureResultOf(answer, CancelledError)
        await self.assert_usable(link, pid)

    async def test_cancel_request_that_cannot_be_sent(self) -> None:
        """When nobody takes the cancel request the connection goes, as if it had been ignored."""
        socket = self.server.directory / f".s.PGSQL.{self.server.port}"
        hidden = socket.with_suffix(".hidden")
        link = self.link(on_lost=self.losses.append)
        pid = await self.one(link, WHO)
        answer = link.query(SLEEP)
        await self.sleeping(pid)
        socket.rename(hidden)
        self.addCleanup(hidden.rename, socket)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.clock.advance(CANCEL_GRACE)
        self.assertEqual(len(self.losses), 1)
        self.assertFalse(link.connected)

    async def test_without_cancel_requests(self) -> None:
        """With an older libpq a statement is given up together with its connection, at once."""
        session = Session(self.clock, self.losses.append, can_cancel=False)
        await session.connect(make_conninfo("", **self.server.conninfo()))
        answer = session.run(SLEEP)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertFalse(session.established)
        self.assertEqual(len(self.losses), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_frozen_backend(self) -> None:
        """A server process that does nothing is left behind for a new one."""
        link = self.link(on_lost=self.losses.append)
        pid = await self.one(link, WHO)
        self.server.freeze(pid)
        self.addCleanup(self.server.thaw, pid)
        answer = link.query("SELECT 1")
        self.clock.advance(3)
        self.failureResultOf(answer, QueryTimeout)
        waiting = link.query(WHO)
        self.assertNoResult(waiting)
        self.clock.advance(CANCEL_GRACE)
        self.assertEqual(len(self.losses), 1)
        self.assertNotEqual((await waiting).rows, [(pid,)])

    async def test_frozen_server(self) -> None:
        """While the whole server is frozen every caller is answered in time; then it heals."""
        link = self.link()
        pids = (await self.one(link, WHO), self.server.postmaster)
        for pid in pids:
            self.server.freeze(pid)
            self.addCleanup(self.server.thaw, pid)
        answer = link.query("SELECT 1")
        self.clock.advance(3)
        self.failureResultOf(answer, QueryTimeout)
        self.clock.advance(CANCEL_GRACE)
        self.assertFalse(link.connected)
        for _ in range(3):
            answer = link.query("SELECT 1")
            self.clock.advance(2)
            self.failureResultOf(answer, ConnectionFailed)
        for pid in pids:
            self.server.thaw(pid)
        self.clock.advance(1)
        self.assertEqual(await self.one(link, "SELECT 1"), 1)

    async def test_frozen_backend_in_real_time(self) -> None:
        """The same without moving the clock by hand."""
        link = self.link(reactor, deadline=0.3)
        pid = await self.one(link, WHO)
        self.server.freeze(pid)
        self.addCleanup(self.server.thaw, pid)
        begun = reactor.seconds()
        await self.failing(link.query("SELECT 1"), QueryTimeout)
        self.assertLess(reactor.seconds() - begun, 1.0)
        self.server.thaw(pid)
        self.assertIsInstance(await self.one(link, WHO), int)


class LossTests(LinkTestCase):
    """Servers that go away."""

    async def test_idle_connection(self) -> None:
        """The end of an idle connection is noticed without asking; the next question connects."""
        lost: Deferred[PostgresError] = Deferred()
        link = self.link(on_lost=lost.callback)
        pid = await self.one(link, WHO)
        await deferToThread(self.server.execute, f"SELECT pg_terminate_backend({pid})")
        self.assertIsInstance(await lost, LinkLost)
        self.assertFalse(link.connected)
        self.assertNotEqual(await self.one(link, WHO), pid)

    async def test_lost_before_anybody_could_notice(self) -> None:
        """A statement sent on a connection that has just ended fails, and the next one connects."""
        link = self.link(on_lost=self.losses.append)
        pid = await self.one(link, WHO)
        self.server.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        await self.failing(link.query("SELECT 1"), PostgresError)
        self.assertEqual(await self.one(link, "SELECT 1"), 1)
        self.assertEqual(len(self.losses), 1)

    async def test_notifications(self) -> None:
        """What an idle connection is told of its own accord is not taken for its end."""
        link = self.link(on_lost=self.losses.append)
        pid = (await link.query(f"LISTEN news; {WHO}")).rows
        await self.link().query("NOTIFY news")
        self.assertEqual((await link.query(WHO)).rows, pid)
        self.assertEqual(self.losses, [])

    async def test_restart_in_the_middle_of_a_statement(self) -> None:
        """The caller is told at once, and the link finds the server again."""
        link = self.link(on_lost=self.losses.append)
        pid = await self.one(link, WHO)
        answer = link.query(SLEEP)
        await self.sleeping(pid)
        restarted = deferToThread(self.server.restart)
        await self.failing(answer, LinkLost)
        self.assertEqual(len(self.losses), 1)
        await restarted
        self.clock.advance(1)
        self.assertEqual(await self.one(link, "SELECT 1"), 1)

    async def test_broken_listener(self) -> None:
        """A broken ``on_lost`` is logged and harms nothing else."""

        def broken(error: PostgresError) -> None:
            raise ZeroDivisionError

        link = self.link(on_lost=broken)
        terminate = "SELECT pg_terminate_backend(pg_backend_pid())"
        await self.failing(link.query(terminate), PostgresError)
        self.assertEqual(await self.one(link, "SELECT 1"), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class CloseTests(LinkTestCase):
    """The end of a link."""

    def assert_gone(self, link: PostgresLink, *answers: Deferred[Rows]) -> None:
        """Everybody has been told, nothing is left, and nobody is served any more."""
        for answer in (*answers, link.query("SELECT 1")):
            self.failureResultOf(answer, LinkLost)
        self.assertFalse(link.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        watched = [*reactor.getReaders(), *reactor.getWriters()]
        self.assertEqual([it for it in watched if isinstance(it, SocketWatch)], [])

    def test_unused(self) -> None:
        """A link that never connected can be closed, more than once."""
        link = self.link()
        link.close()
        link.close()
        self.assert_gone(link)

    async def test_idle(self) -> None:
        """Closing an idle link is not a loss."""
        link = self.link(on_lost=self.losses.append)
        await link.query("SELECT 1")
        link.close()
        self.assert_gone(link)
        self.assertEqual(self.losses, [])

    async def test_busy(self) -> None:
        """Closing ends the running statement and those in the queue."""
        link = self.link()
        await link.query("SELECT 1")
        answers = [link.query(SLEEP) for _ in range(3)]
        link.close()
        self.assert_gone(link, *answers)

    async def test_cancelling(self) -> None:
        """Closing does not wait for a cancel request under way."""
        link = self.link()
        await link.query("SELECT 1")
        answer = link.query(SLEEP)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        waiting = link.query("SELECT 1")
        link.close()
        self.assert_gone(link, waiting)

    def test_connecting(self) -> None:
        """Closing ends an attempt to connect."""
        link = self.link()
        answers = [link.query("SELECT 1") for _ in range(2)]
        link.close()
        self.assert_gone(link, *answers)

    def test_resolving(self) -> None:
        """Closing ends the wait for a resolver."""
        self.clock.installNameResolver(FixedResolver({}, slow=True))
        link = self.link_to(host="db")
        answers = [link.query("SELECT 1") for _ in range(2)]
        link.close()
        self.assert_gone(link, *answers)

    async def test_asking_again_when_told(self) -> None:
        """Who asks again on being told of the end is told again."""
        link = self.link()
        await link.query("SELECT 1")
        again: list[Deferred[Rows]] = []
        answer = link.query(SLEEP)
        answer.addErrback(lambda _: again.append(link.query("SELECT 1")))
        link.close()
        self.assert_gone(link, *again)


class StallTests(LinkTestCase):
    """The reactor never waits for PostgreSQL."""

    async def test_reactor_keeps_ticking(self) -> None:
        """While a server is asked, frozen, left and found again, the reactor goes on."""
        ticks = [reactor.seconds()]
        ticker = LoopingCall(lambda: ticks.append(reactor.seconds()))
        ticker.start(0.005)
        self.addCleanup(ticker.stop)
        link = self.link(reactor, deadline=0.3)
        local = self.link_with(lambda: self.server.conninfo(host="localhost"), reactor)
        await local.query("SELECT 1")
        pids = (await self.one(link, WHO), self.server.postmaster)
        for pid in pids:
            self.server.freeze(pid)
            self.addCleanup(self.server.thaw, pid)
        for _ in range(4):
            await self.failing(link.query("SELECT 1"), QueryTimeout)
        for pid in pids:
            self.server.thaw(pid)
        await link.query("SELECT 1")
        longest = max(later - earlier for earlier, later in pairwise(ticks))
        self.assertLess(longest, 0.25)
