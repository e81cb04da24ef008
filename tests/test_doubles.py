"""Tests of the doubles: they promise what they stand in for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import (
    FakeEngine,
    FakeLink,
    make_cluster,
    make_node,
    make_replica,
    primary_row,
    replica_row,
)
from tests.engine_contract import EngineContract
from tests.memory_api import ApiInMemory, Reply
from twisted_patroni.engine.interface import DcsUnavailable, Engine, Look, ModeView, StatusRow
from twisted_patroni.postgres import PostgresError

if TYPE_CHECKING:
    from twisted_patroni.status import Link


class FakeEngineContractTests(EngineContract, SynchronousTestCase):
    """The double keeps the promises of the interface."""

    def setUp(self) -> None:
        """Make the double; the annotation has the type checker compare it, too."""
        self.subject: Engine = FakeEngine()


class FakeEngineTests(SynchronousTestCase):
    """What is particular to the double."""

    def setUp(self) -> None:
        """Make a double."""
        self.engine = FakeEngine()

    def test_usual_outcomes(self) -> None:
        """A blocking call succeeds at once, and is remembered with its arguments."""
        self.assertTrue(self.successResultOf(self.engine.write_failover("alpha", "beta", None)))
        self.assertEqual(self.engine.calls, [("write_failover", "alpha", "beta", None)])
        self.assertEqual(self.engine.called("write_failover"), [["alpha", "beta", None]])
        self.assertEqual(self.engine.called("probe"), [])

    def test_scripted_outcomes(self) -> None:
        """A test can set a result, an error, or a Deferred."""
        pending: Deferred[bool] = Deferred()
        self.engine.outcomes = {
            "delete_restart": False,
            "cluster_document": DcsUnavailable("away"),
            "replace_config": pending,
        }
        self.assertFalse(self.successResultOf(self.engine.delete_restart()))
        self.failureResultOf(self.engine.cluster_document(), DcsUnavailable)
        self.assertNoResult(self.engine.replace_config({"ttl": 20}))
        pending.callback(True)

    def test_looks(self) -> None:
        """Looks are numbered, show what the DCS has now, and are told before they return."""
        told: list[Look] = []
        self.engine.on_look = told.append
        first = self.successResultOf(self.engine.look())
        self.engine.dcs = make_cluster(leader=None)
        second = self.successResultOf(self.engine.look())
        self.assertEqual((first.number, second.number), (1, 2))
        self.assertEqual(first.cluster.leader, "alpha")
        self.assertTrue(second.cluster.unlocked)
        self.assertEqual(told, [first, second])
        self.assertEqual(self.engine.looks_begun(), 2)


class ViewTests(SynchronousTestCase):
    """The factories of views."""

    def test_node_and_replica(self) -> None:
        """The usual node leads; the usual replica does not; changes count."""
        self.assertTrue(make_node().leader)
        self.assertEqual((make_replica().leader, make_replica().role), (False, "replica"))
        paused = make_cluster(mode=ModeView(paused=True))
        self.assertTrue(make_node(cluster=paused).mode.paused)
        self.assertIsNone(make_node(cluster=None).cluster)

    def test_rows(self) -> None:
        """A primary has a timeline in its row, a replica has none."""
        self.assertEqual(primary_row(timeline=7).timeline, 7)
        self.assertEqual(replica_row().timeline, 0)


class FakeLinkTests(SynchronousTestCase):
    """The double of the connection to PostgreSQL."""

    def setUp(self) -> None:
        """Make a double; the annotation has the type checker compare it with the real one."""
        self.link = FakeLink()
        self.as_link: Link = self.link

    def test_answers_the_row(self) -> None:
        """The one row has the values in the order of the view."""
        rows = self.successResultOf(self.link.query("SELECT 1"))
        self.assertEqual(StatusRow(*rows.rows[0]), primary_row())
        self.assertEqual(self.link.statements, ["SELECT 1"])

    def test_fails(self) -> None:
        """It fails as told."""
        self.link.error = PostgresError("gone")
        self.failureResultOf(self.link.query("SELECT 1"), PostgresError)

    def test_holds(self) -> None:
        """Held queries wait and are answered with what is true then."""
        self.link.held = True
        answer = self.link.query("SELECT 1")
        self.assertNoResult(answer)
        self.link.row = replica_row()
        self.link.release()
        self.assertEqual(StatusRow(*self.successResultOf(answer).rows[0]), replica_row())
        self.link.close()
        self.assertTrue(self.link.closed)


class ApiInMemoryTests(SynchronousTestCase):
    """The API without sockets."""

    def test_request(self) -> None:
        """A request goes through real HTTP, and the reply is taken apart."""
        reply = ApiInMemory().request("GET", "/primary")
        self.assertEqual((reply.version, reply.code, reply.reason), ("HTTP/1.0", 200, "OK"))
        self.assertEqual(reply.header("content-type"), "application/json")
        self.assertIsNone(reply.header("X-Unknown"))
        self.assertEqual(reply.json()["role"], "primary")

    def test_body(self) -> None:
        """A body is sent as JSON with its length, or as it is."""
        api = ApiInMemory()
        api.request("PATCH", "/config", body={"pause": True})
        api.request("PATCH", "/config", body=b'{"ttl": 20}')
        self.assertEqual(api.engine.called("patch_config"), [[{"pause": True}], [{"ttl": 20}]])

    def test_time(self) -> None:
        """The clock only moves when told."""
        api = ApiInMemory()
        begun = api.clock.seconds()
        api.wait(1.5)
        self.assertEqual(api.clock.seconds() - begun, 1.5)

    def test_parse(self) -> None:
        """Reply.parse keeps order and repetition of headers."""
        reply = Reply.parse(b"HTTP/1.0 200 OK\r\nA: 1\r\nA: 2\r\n\r\nx\r\n\r\ny")
        self.assertEqual(reply.headers, [("A", "1"), ("A", "2")])
        self.assertEqual(reply.body, b"x\r\n\r\ny")
