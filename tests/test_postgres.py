"""Tests of twisted_patroni.postgres: ways to a server, and what statements return."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.linkcase import SLEEP, WHO, FixedResolver, LinkTestCase, reactor
from tests.postgresql import GUARDED_USER, PASSWORD
from twisted_patroni._pqsocket import CAN_CANCEL
from twisted_patroni.postgres import (
    ConnectionFailed,
    LinkLost,
    PostgresError,
    QueryFailed,
    QueryTimeout,
    Rows,
    with_addresses,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


class PreparedTests(LinkTestCase):
    """What a link does whose server keeps the plan of the last statement."""

    async def test_same_answers(self) -> None:
        """Statements are answered as without, whether they are new, repeated or empty."""
        link = self.link(prepare=True)
        for sql, answer in (
            ("SELECT 1, 'a'::text", [(1, "a")]),
            ("SELECT 1, 'a'::text", [(1, "a")]),
            ("SELECT true", [(True,)]),
            ("SELECT 1, 'a'::text", [(1, "a")]),
            ("", []),
            ("", []),
        ):
            self.assertEqual(list((await link.query(sql)).rows), answer)

    async def test_fresh(self) -> None:
        """A repeated statement is evaluated each time."""
        link = self.link(prepare=True)
        moments = [await self.one(link, "SELECT clock_timestamp()") for _ in range(8)]
        self.assertEqual(moments, sorted(set(moments)))

    async def test_outdated_plan(self) -> None:
        """A plan that does not fit any more fails once and is made anew."""
        link = self.link(prepare=True)
        self.server.execute("CREATE TABLE planned (a int)")
        self.addCleanup(self.server.execute, "DROP TABLE planned")
        sql = "SELECT * FROM planned"
        await link.query(sql)
        self.server.execute("ALTER TABLE planned ADD COLUMN b int")
        error = await self.failing(link.query(sql), QueryFailed)
        self.assertEqual(error.sqlstate, "0A000")
        self.assertEqual(list((await link.query(sql)).rows), [])

    async def test_anew(self) -> None:
        """What was prepared on a lost connection, or cancelled, is prepared again."""
        link = self.link(prepare=True)
        pid = await self.one(link, WHO)
        self.server.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
        if link.connected:  # its end is still to be noticed
            await self.failing(link.query(WHO), LinkLost)
        other = await self.one(link, WHO)
        self.assertNotEqual(other, pid)
        answer = link.query(SLEEP)
        await self.sleeping(other)
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(await self.one(link, WHO) == other, CAN_CANCEL)

    async def test_refused(self) -> None:
        """An error leaves the connection usable, whether planning or running fails."""
        link = self.link(prepare=True)
        pid = await self.one(link, WHO)
        for sql, sqlstate in (("SELEC", "42601"), ("SELECT 1 / 0", "22012")) * 2:
            error = await self.failing(link.query(sql), QueryFailed)
            self.assertEqual(error.sqlstate, sqlstate)
            self.assertEqual(await self.one(link, WHO), pid)


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
