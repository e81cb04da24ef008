"""Tests of twisted_patroni.client.testing: what happens to the cluster in memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as RefusedConnection
from twisted.internet.error import DNSLookupError
from twisted.internet.testing import AccumulatingProtocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import readBody
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse
from zope.interface.verify import verifyObject

from twisted_patroni.client import errors
from twisted_patroni.client.body import Bytes
from twisted_patroni.client.events import LeaderEvent, MemberEvent
from twisted_patroni.client.testing import MemoryCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted_patroni.client import Response
    from twisted_patroni.client.events import Event


def error_of(call: Callable[..., object], *arguments: object) -> ValueError | None:
    """Return the error of a call, ``None`` if there is none."""
    try:
        call(*arguments)
    except ValueError as error:
        return error
    return None


SECOND = timedelta(seconds=1)


class MemoryCase(SynchronousTestCase):
    """A cluster in memory."""

    def setUp(self) -> None:
        """Make it."""
        self.memory = MemoryCluster()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Close its clients, and see that nothing is left."""
        self.get(self.memory.close())
        self.assertEqual((self.memory.open, self.memory.clock.getDelayedCalls()), (0, []))

    def get(self, asking: Coroutine[Any, Any, Any]) -> Any:
        """Return what a method returns at once."""
        return self.successResultOf(Deferred.fromCoroutine(asking))

    def fails(self, asking: Coroutine[Any, Any, Any], error: type[Exception]) -> Any:
        """Return what a method fails with at once."""
        return self.failureResultOf(Deferred.fromCoroutine(asking), error).value

    def ask(self, name: str, method: str, path: str, **more: Any) -> Response:
        """Return a member's answer."""
        response: Response = self.get(self.memory.node(name).request(method, path, **more))
        return response

    def follow(self, name: str, **more: Any) -> list[Event]:
        """Follow a member from now on, and return the list that its events are added to."""
        found: list[Event] = []

        async def take() -> None:
            async for event in self.memory.node(name).follow(**more):
                found.append(event)  # noqa: PERF401 - those of now count, not those of the end

        self.following = Deferred.fromCoroutine(take())
        self.following.addErrback(lambda failure: failure.value)
        return found


class RequestTests(MemoryCase):
    """Requests, and what becomes of them."""

    def test_agent(self) -> None:
        """It is an agent, whose answers Twisted's own functions can read."""
        self.assertTrue(verifyObject(IAgent, self.memory))
        asking = self.memory.request(b"GET", b"http://b:8008/config")
        response = self.successResultOf(asking)
        self.assertTrue(verifyObject(IResponse, response))
        self.assertEqual((response.code, response.phrase, response.length), (200, b"OK", 28))
        body = self.successResultOf(readBody(response))
        self.assertEqual(json.loads(body), {"ttl": 30, "loop_wait": 10})

    def test_asked(self) -> None:
        """What was asked is noted, in order, also of who does not answer."""
        self.memory.kill("b")
        self.ask("a", "GET", "/patroni")
        self.fails(self.memory.node("b").switchover("a"), errors.Unreachable)
        asked = [("GET", "http://a:8008/patroni"), ("POST", "http://b:8008/switchover")]
        self.assertEqual(self.memory.asked, asked)

    def test_unknown_host(self) -> None:
        """A host that is no member has no address; a name that is none is an error at once."""
        self.failureResultOf(self.memory.request(b"GET", b"http://x:8008/"), DNSLookupError)
        for method in (self.memory.node, self.memory.kill, self.memory.switchover):
            self.assertIn("'x' is none of the members: a, b, c", str(error_of(method, "x")))
        self.assertIn("at least one name", str(error_of(MemoryCluster, ())))
        self.assertIn("'x' is none", str(error_of(MemoryCluster, ("a",), "x")))

    def test_bodies(self) -> None:
        """A body may be long in coming; what is no JSON object is refused."""
        for text, status in ((b'{"ttl": 5}', 200), (b"[]", 400), (b"{", 400)):
            sent = self.memory.request(b"PATCH", b"http://a:8008/config", None, Bytes(text))
            self.assertEqual(self.successResultOf(sent).code, status)
        self.assertEqual(self.ask("b", "GET", "/config").json()["ttl"], 5)

    def test_canned(self) -> None:
        """A canned answer is given until it is taken back, for this path and member alone."""
        self.memory.answer("a", "/config", 503, {"error": "busy"}, {"Retry-After": "1"})
        response = self.ask("a", "GET", "/config?x=1")
        self.assertEqual((response.status, response.json()), (503, {"error": "busy"}))
        self.assertEqual(response.header("Retry-After"), "1")
        self.assertEqual(self.ask("b", "GET", "/config").status, 200)
        self.memory.answer("a", "/config", None)
        self.assertEqual(self.ask("a", "GET", "/config").status, 200)

    def test_head(self) -> None:
        """HEAD has the status and the headers of GET, and no body."""
        for path in ("/cluster", "/replica"):
            response = self.ask("b", "HEAD", path)
            self.assertEqual((response.status, response.body), (200, b""))

    def test_delay(self) -> None:
        """A slow member answers when its time has come, with what is so by then."""
        self.memory.delay("b", 2.0)
        asking = Deferred.fromCoroutine(self.memory.node("b").status())
        self.memory.clock.advance(1.9)
        self.assertNoResult(asking)
        self.memory.switchover("b")
        self.memory.clock.advance(0.1)
        self.assertEqual(self.successResultOf(asking).role, "primary")

    def test_hang(self) -> None:
        """Who hangs does nothing, until he is well again; a single path can hang."""
        self.memory.hang("a", "/switchover")
        self.assertTrue(self.get(self.memory.node("a").is_primary()))
        asking = Deferred.fromCoroutine(self.memory.node("a").switchover("a", "b", timeout=30))
        self.assertEqual((self.memory.leader, self.memory.open), ("a", 1))
        self.memory.revive("a")
        self.assertEqual(self.successResultOf(asking).status, 200)
        self.assertEqual(self.memory.leader, "b")

    def test_cancelled(self) -> None:
        """A request that is given up is never done."""
        self.memory.hang("a")
        asking = Deferred.fromCoroutine(self.memory.node("a").switchover("a", "b"))
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(self.memory.open, 0)
        self.memory.revive("a")
        self.assertEqual(self.memory.leader, "a")

    def test_kill(self) -> None:
        """Requests to who dies are lost; the outcome is unknown. Later ones are refused."""
        self.memory.hang("a")
        asking = Deferred.fromCoroutine(self.memory.node("a").restart())
        self.memory.kill("a")
        self.failureResultOf(asking, errors.OutcomeUnknown)
        self.failureResultOf(self.memory.request(b"GET", b"http://a:8008/"), RefusedConnection)
        self.assertIsNone(self.get(self.memory.node("b").cluster()).leader)
        with self.assertRaises(ValueError):
            self.memory.switchover("a")

    def test_unnoticed(self) -> None:
        """A death that nobody has noticed is not shown before somebody else leads."""
        self.memory.kill("a", noticed=False)
        self.assertEqual(self.get(self.memory.node("b").cluster()).leader.name, "a")
        self.memory.switchover("b")
        cluster = self.get(self.memory.node("c").cluster())
        self.assertEqual([each.name for each in cluster.members], ["b", "c"])

    def test_refuse(self) -> None:
        """Connections fail as the test wants it; requests on their way go on."""
        self.memory.hang("a", "/patroni")
        asking = Deferred.fromCoroutine(self.memory.node("a").status())
        self.memory.refuse("a")
        error = self.fails(self.memory.node("a").config(), errors.Unreachable)
        self.assertEqual(error.reason, "refuses connections")
        self.memory.revive("a")
        self.assertEqual(self.successResultOf(asking).name, "a")

    def test_claim(self) -> None:
        """Who claims to lead says so everywhere; the others do not."""
        self.memory.claim("b", 9)
        claiming, other = self.memory.node("b"), self.memory.node("c")
        self.assertTrue(self.get(claiming.is_primary()))
        leader = self.get(claiming.cluster()).leader
        self.assertEqual((leader.name, leader.timeline), ("b", 9))
        self.assertEqual(self.get(other.cluster()).leader.name, "a")
        self.memory.claim("b", None)
        self.assertFalse(self.get(claiming.is_primary()))

    def test_upstream(self) -> None:
        """Without events the members do not know what upstream's do not."""
        self.memory = MemoryCluster(events=False)
        node = self.memory.node("a")
        self.fails(node.operations(), errors.NotSupported)
        self.assertEqual(self.ask("b", "GET", "/drain").json()["patroni"]["name"], "b")
        self.assertEqual(self.get(node.switchover("a", "b")).status, 200)

    def test_schedules(self) -> None:
        """What is scheduled is shown, and can be called off by its operation."""
        node, at = self.memory.node("a"), datetime(2100, 1, 1, tzinfo=UTC)
        operation = self.get(node.begin.switchover("a", "b", at=at))
        self.assertEqual((operation.state, operation.scheduled_at), ("accepted", at))
        self.assertEqual(self.get(node.cluster()).switchover.candidate, "b")
        waiting = Deferred.fromCoroutine(node.wait(operation, timeout=100))
        self.memory.clock.pump([5] * 19)
        self.assertNoResult(waiting)
        self.assertEqual(self.get(node.cancel_operation(operation)).state, "cancelled")
        self.assertEqual(self.successResultOf(waiting).text, "scheduled switchover deleted")
        self.assertIsNone(self.get(node.cluster()).switchover)
        self.fails(node.cancel_operation(operation), errors.Conflict)

    def test_time_has_come(self) -> None:
        """What is scheduled happens when the test says so, and fails if somebody else leads."""
        node, at = self.memory.node("a"), datetime(2100, 1, 1, tzinfo=UTC)
        for leader, candidate, to, state in (
            ("a", "b", "b", "succeeded"),
            ("b", None, "c", "succeeded"),
            ("c", "a", "b", "failed"),
        ):
            operation = self.get(node.begin.switchover(leader, candidate, at=at))
            self.memory.switchover(to)
            self.assertEqual(self.get(node.wait(operation)).state, state)
            self.assertIsNone(self.get(node.cluster()).switchover)

    def test_restart(self) -> None:
        """A scheduled restart is shown, and called off by its operation or by itself."""
        node, at = self.memory.node("b"), datetime(2100, 1, 1, tzinfo=UTC)
        for call_off in (node.cancel_operation, lambda _: node.cancel_restart()):
            operation = self.get(node.begin.restart(at=at))
            self.assertIn("scheduled_restart", self.get(node.cluster()).members[1].document)
            self.fails(node.restart(at=at), errors.Conflict)
            self.get(call_off(operation))
            self.assertEqual(self.get(node.wait(operation)).state, "cancelled")
            self.assertNotIn("scheduled_restart", self.get(node.cluster()).members[1].document)
        self.fails(node.cancel_restart(), errors.NotFound)

    def test_keys(self) -> None:
        """The same request with the same key is done once; another one is refused."""
        node = self.memory.node("a")
        first = self.get(node.begin.switchover("a", "b", key="x"))
        again = self.get(node.begin.switchover("a", "b", key="x"))
        self.assertEqual((first.id, len(self.get(node.operations()))), (again.id, 1))
        error = self.fails(node.begin.restart(key="x"), errors.Refused)
        self.assertEqual(error.response.status, 422)

    def test_candidates(self) -> None:
        """Only who is there and may lead can take over."""
        self.memory.refuse("b")
        self.memory.tag("c", nofailover=True)
        node = self.memory.node("a")
        error = self.fails(node.switchover("a"), errors.PreconditionFailed)
        reasons = [each.reason for each in error.candidates]
        self.assertEqual(reasons, ["not reachable", "not allowed to promote"])
        self.fails(node.failover("c"), errors.PreconditionFailed)
        self.memory.tag("c")
        self.assertEqual(self.get(node.switchover("a")).text, 'Successfully switched over to "c"')

    def test_without_leader(self) -> None:
        """Without a leader nobody is rebuilt, and a failover makes one."""
        self.memory.demote()
        node = self.memory.node("b")
        self.fails(node.reinitialize(), errors.Unavailable)
        self.assertTrue(self.get(node.status()).document["cluster_unlocked"])
        self.assertEqual(self.get(node.failover("b")).status, 200)
        self.assertEqual(self.memory.leader, "b")

    def test_configuration(self) -> None:
        """A pause, and failsafe mode, are shown."""
        node = self.memory.node("b")
        self.get(node.replace_config({"pause": True, "failsafe_mode": True}))
        self.assertTrue(self.get(node.cluster()).paused and self.get(node.status()).paused)
        self.assertEqual(list(self.get(node.failsafe())), ["a", "b", "c"])

    def test_drains(self) -> None:
        """A drain has an end, by a duration or a time."""
        node = self.memory.node("b")
        begin = self.get(node.drain(expires=90.0)).since
        for expires in ("90s", begin + timedelta(seconds=90)):
            self.assertEqual(self.get(node.drain(expires=expires)).expires - begin, 90 * SECOND)
        self.assertEqual(self.get(node.drained()).reason, None)

    def test_strange_amount(self) -> None:
        """A lag that is no amount is no bound."""
        self.memory.lag("b", 10**9)
        for text, status in (("x", 200), ("1XB", 200), ("1.5kB", 503), ("1TB", 200)):
            self.assertEqual(self.ask("b", "GET", f"/replica?lag={text}").status, status, text)

    def test_shared_clock(self) -> None:
        """Several clusters can share a clock."""
        other = MemoryCluster(("x",), "x", "other", clock=self.memory.clock)
        self.assertIs(other.clock, self.memory.clock)
        self.assertEqual(self.get(other.node("x").status()).scope, "other")


class FollowingTests(MemoryCase):
    """Those who follow."""

    def test_in_order(self) -> None:
        """A newcomer has a snapshot, and then what happens, at once."""
        events = self.follow("b")
        self.assertEqual([each.type for each in events], ["snapshot"])
        self.memory.switchover("c")
        (leader,) = (each for each in events if isinstance(each, LeaderEvent))
        self.assertEqual((leader.old, leader.new), ("a", "c"))
        numbers = [each.number for each in events if each.number is not None]
        self.assertEqual(numbers, sorted(set(numbers)))

    def test_types(self) -> None:
        """Only the types asked for are told."""
        events = self.follow("b", types=["member"])
        self.memory.switchover("c")
        self.assertTrue(all(isinstance(each, MemberEvent) for each in events[1:]))

    def test_resumes(self) -> None:
        """Who comes back with a position is told what he has missed, and no snapshot."""
        events = self.follow("b", types=["leader"])
        self.memory.cut("b")
        self.assertIsInstance(self.successResultOf(self.following), errors.Disconnected)
        self.memory.switchover("c")
        missed = self.follow("b", types=["leader"], after=events[-1].position)
        self.assertEqual([each.type for each in missed], ["leader"])

    def test_gap(self) -> None:
        """A member that was restarted remembers nothing: there is a gap."""
        events = self.follow("b")
        self.memory.kill("b")
        self.memory.revive("b")
        again = self.follow("b", after=events[-1].position)
        self.assertEqual([each.type for each in again], ["gap", "snapshot"])

    def test_silent(self) -> None:
        """Who hangs tells nothing, not even that he lives; later he tells all of it."""
        events = self.follow("b")
        self.memory.hang("b")
        self.memory.switchover("c")
        self.assertEqual(len(events), 1)
        self.memory.revive("b")
        self.assertIn("leader", [each.type for each in events])
        self.memory.hang("b")
        self.memory.clock.pump([1] * 38)
        self.assertIsInstance(self.successResultOf(self.following), errors.Disconnected)

    def test_heartbeat(self) -> None:
        """Who is well shows it."""
        self.follow("b")
        self.memory.clock.pump([1] * 200)
        self.assertEqual(self.memory.open, 1)

    def test_paused(self) -> None:
        """Who reads slowly is told nothing until he reads on."""
        headers = Headers({"Accept": ["text/event-stream"]})
        asking = self.memory.request(b"GET", b"http://b:8008/events", headers)
        reader = AccumulatingProtocol()
        self.successResultOf(asking).deliverBody(reader)
        transport: Any = reader.transport
        before = len(reader.data)
        transport.pauseProducing()
        self.memory.switchover("c")
        self.assertEqual(len(reader.data), before)
        transport.resumeProducing()
        self.assertIn(b"event: leader", reader.data)
        transport.loseConnection()

    def test_dismissed(self) -> None:
        """A member can say why it ends the stream."""
        self.follow("b")
        self.memory.dismiss("b", "access has changed")
        error = self.successResultOf(self.following)
        self.assertEqual(str(error), "http://b:8008/events ended it: access has changed")

    def test_long_poll(self) -> None:
        """Long polls are answered when there is something, or when their time is up."""
        first = self.ask("b", "GET", "/events").json()
        self.assertEqual(first["snapshot"]["data"]["leader"], "a")
        path = f"/events?after={first['next']}&types=leader&timeout=5"
        polls = []
        for after in (lambda: self.memory.switchover("c"), lambda: self.memory.clock.advance(5)):
            poll = Deferred.fromCoroutine(self.memory.node("b").request("GET", path))
            self.assertNoResult(poll)
            after()
            polls.append(self.successResultOf(poll).json())
            path = f"/events?after={polls[-1]['next']}&types=leader&timeout=5"
        told = [[each["data"]["new"] for each in poll["events"]] for poll in polls]
        self.assertEqual(told, [["c"], []])
