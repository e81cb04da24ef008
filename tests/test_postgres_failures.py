"""Tests of twisted_patroni.postgres with servers that are slow, frozen or gone."""

from __future__ import annotations

from itertools import pairwise

from psycopg.conninfo import make_conninfo
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread

from tests.linkcase import SLEEP, WHO, FixedResolver, LinkTestCase, reactor
from twisted_patroni._pqlink import CANCEL_GRACE, Session
from twisted_patroni._pqsocket import CAN_CANCEL, SocketWatch
from twisted_patroni.postgres import (
    ConnectionFailed,
    LinkLost,
    PostgresError,
    PostgresLink,
    QueryTimeout,
    Rows,
)


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
        await deferToThread(self.server.execute, "NOTIFY news")
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
