"""Tests of twisted_patroni.web.drain: POST, GET and DELETE /drain, and what they change."""

from __future__ import annotations

import socket
from base64 import b64encode
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW, VERSION, FakeEngine, make_node, make_replica, replica_row
from tests.memory_api import ApiCase, Reply
from twisted_patroni.drain import Drains
from twisted_patroni.events import Position
from twisted_patroni.settings import Settings
from twisted_patroni.status import Snapshot, Status
from twisted_patroni.tls import ClientCertificate
from twisted_patroni.web.health import HealthChecks
from twisted_patroni.web.resource import Call
from twisted_patroni.web.routing import Endpoint

if TYPE_CHECKING:
    from twisted_patroni.status import StatusSource
    from twisted_patroni.web.answers import Answer
    from twisted_patroni.web.request import ApiRequest

LOGIN = {"Authorization": f"Basic {b64encode(b'alice:secret').decode()}"}
PRIMARY = ("/", "/primary", "/leader", "/master", "/read-write")
REPLICA = ("/replica", "/async", "/asynchronous", "/replica-1", "/replica?lag=1MB")
BOTH = ("/read-only", "/my-read-only-pool")
NEVER = ("/health", "/liveness", "/readiness", "/patroni", "/cluster", "/metrics")
BEGUN = NOW.isoformat()
PLAIN = {"since": BEGUN, "owner": None, "reason": None, "expires": None, "primary": False}


class DrainCase(ApiCase):
    """A node that is drained, or not."""

    def be_replica(self, **node: Any) -> None:
        """Go on with a replica."""
        self.use(FakeEngine(make_replica(**node)))
        self.link.row = replica_row()

    def drain(self, **body: Any) -> Any:
        """Drain the node, and return the document."""
        reply = self.request("POST", "/drain", None, body)
        self.assertEqual(reply.code, 200, reply.body)
        return reply.json()

    def assertProblem(self, reply: Reply, code: int, sentence: str) -> None:
        """Fail unless a reply is this error, as JSON."""
        self.assertEqual((reply.code, reply.json()), (code, {"error": sentence}))
        self.assertEqual(reply.header("Content-Type"), "application/json")

    def assertCodes(self, code: int, *targets: str) -> None:
        """Fail unless all these targets have this status, however they are asked for."""
        for target in targets:
            for method in ("GET", "HEAD"):
                self.assertEqual(self.request(method, target).code, code, f"{method} {target}")


class EndpointTests(DrainCase):
    """The endpoints themselves."""

    def test_life(self) -> None:
        """Drained, shown, replaced, ended."""
        missing = "this node is not drained"
        self.assertProblem(self.request("GET", "/drain"), 404, missing)
        self.assertProblem(self.request("DELETE", "/drain"), 404, missing)
        self.assertEqual(self.request("POST", "/drain").json(), PLAIN)
        self.assertEqual(self.request("GET", "/drain").json(), PLAIN)
        self.api.clock.advance(60)
        second = self.drain(reason="disk", owner="bob", expires="30min", primary=True)
        self.assertEqual(
            second,
            {
                "since": (NOW + timedelta(minutes=1)).isoformat(),
                "owner": "bob",
                "reason": "disk",
                "expires": (NOW + timedelta(minutes=31)).isoformat(),
                "primary": True,
            },
        )
        self.assertEqual(self.request("GET", "/drain").json(), second)
        reply = self.request("DELETE", "/drain")
        self.assertEqual((reply.code, reply.json()), (200, second))
        self.assertProblem(self.request("DELETE", "/drain"), 404, missing)

    def test_head(self) -> None:
        """HEAD says what GET says."""
        self.assertEqual(self.request("HEAD", "/drain").code, 404)
        self.drain()
        reply = self.request("HEAD", "/drain")
        self.assertEqual((reply.code, reply.body), (200, b""))

    def test_bodies(self) -> None:
        """A body need not be, may be empty, and is an object if it is anything."""
        for body in (None, b"", b"{}"):
            self.assertEqual(self.request("POST", "/drain", None, body).json(), PLAIN)
        for body, sentence in (
            (b"[]", "The body is not a JSON object"),
            (b"{", "The body is not JSON: "),
            (b"\xff", "The body is not JSON: "),
            (b'{"expires": Infinity}', "The body is not JSON: "),
        ):
            reply = self.request("POST", "/drain", None, body)
            self.assertEqual(reply.code, 400)
            self.assertIn(sentence, reply.json()["error"])

    def test_wrong(self) -> None:
        """What is wrong is told, and changes nothing."""
        before = self.drain(reason="disk")
        rows: list[tuple[dict[str, Any], str]] = [
            ({"until": 5}, '"until" is not known here, only reason, owner, expires, primary'),
            ({"primary": "yes"}, 'primary: expected true or false, but got "yes"'),
            ({"expires": "2001-01-01T00:00Z"}, '"2001-01-01T00:00Z" is not in the future'),
            ({"owner": "\x1b[31m"}, "owner: expected a text without control characters"),
        ]
        for body, expected in rows:
            reply = self.request("POST", "/drain", None, {"reason": "no", **body})
            self.assertEqual(reply.code, 400)
            self.assertIn(expected, reply.json()["error"])
        self.assertEqual(self.request("GET", "/drain").json(), before)

    def test_large_body(self) -> None:
        """A body that is larger than any drain is not read."""
        reply = self.request("POST", "/drain", None, {"reason": "x" * 20000})
        self.assertEqual(reply.code, 413)

    def test_owner(self) -> None:
        """By default the drain is its client's: by password, else by certificate."""
        self.use(authentication={"username": "alice", "password": "secret"})
        certificate = ClientCertificate("CN=ops\n,O=dba", (), "1f")
        rows: list[tuple[dict[str, Any], Any, str | None]] = [
            (LOGIN, None, "alice"),
            (LOGIN, {"owner": "bob"}, "bob"),
            (LOGIN, {"owner": ""}, "alice"),
        ]
        for headers, body, owner in rows:
            reply = self.request("POST", "/drain", headers, body, certificate=certificate)
            self.assertEqual(reply.json()["owner"], owner)
        self.use()
        reply = self.request("POST", "/drain", certificate=certificate)
        self.assertEqual(reply.json()["owner"], "CN=ops?,O=dba")

    def test_access(self) -> None:
        """Draining asks for what other operations ask for; looking, where reads are protected."""
        section: dict[str, Any] = {"authentication": {"username": "alice", "password": "secret"}}
        self.use(**section)
        for method in ("POST", "DELETE"):
            self.assertEqual(self.request(method, "/drain").code, 401)
        self.assertEqual(self.request("GET", "/drain").code, 404)
        self.use(**section, protect_reads=True)
        self.assertEqual(self.request("GET", "/drain").code, 401)
        self.assertEqual(self.request("GET", "/drain", LOGIN).code, 404)

    def test_other_places(self) -> None:
        """There is nothing below, and no other method."""
        for method, target in (("POST", "/drain/x"), ("PUT", "/drain"), ("PATCH", "/drain")):
            self.assertErrorPage(self.request(method, target), 501)
        self.assertEqual(self.request("GET", "/drain/x").code, 503)


class CheckTests(DrainCase):
    """What health checks say while the node is drained."""

    def test_replica(self) -> None:
        """A drained replica is none, until the drain is over."""
        self.be_replica()
        usual = (*REPLICA, *BOTH)
        self.assertCodes(200, *usual, *NEVER)
        self.drain()
        self.assertCodes(503, *usual, *PRIMARY)
        self.assertCodes(200, *NEVER)
        self.request("DELETE", "/drain")
        self.assertCodes(200, *usual, *NEVER)

    def test_synchronous_replica(self) -> None:
        """The checks for synchronous standbys and quorums are covered."""
        view = make_replica()
        assert view.cluster is not None
        mode = evolve(view.cluster.mode, synchronous=True)
        cluster = evolve(view.cluster, mode=mode, sync_members=frozenset({view.name.lower()}))
        for quorum, targets in (
            (False, ("/sync", "/synchronous", "/read-only-sync", "/read-only-synchronous")),
            (True, ("/quorum", "/read-only-quorum")),
        ):
            self.be_replica(cluster=cluster, mode=mode, global_quorum=quorum)
            self.assertCodes(200, *targets)
            self.drain()
            self.assertCodes(503, *targets)

    def test_primary(self) -> None:
        """A drained primary takes no readers any more, and no writers if that was asked for."""
        readers = (*BOTH, "/read-only-sync", "/read-only-quorum")
        self.assertCodes(200, *PRIMARY, *readers, *NEVER)
        self.drain()
        self.assertCodes(503, *readers)
        self.assertCodes(200, *PRIMARY, *NEVER)
        self.drain(primary=True)
        self.assertCodes(503, *PRIMARY, *readers)
        self.assertCodes(200, *NEVER)
        self.drain()
        self.assertCodes(200, *PRIMARY)

    def test_bare(self) -> None:
        """HEAD and OPTIONS get their bare status line."""
        self.drain(primary=True)
        for method in ("HEAD", "OPTIONS"):
            connection = self.api.begin(method, "/primary")
            self.assertEqual(connection.received(), b"HTTP/1.0 503 Service Unavailable\r\n\r\n")

    def test_expiry(self) -> None:
        """At its time, not earlier, the node is back."""
        self.be_replica()
        self.drain(expires=60)
        self.api.wait(59.5)
        self.assertCodes(503, "/replica")
        self.api.wait(0.5)
        self.assertCodes(200, "/replica")
        self.assertEqual(self.request("GET", "/drain").code, 404)

    def test_documents(self) -> None:
        """The node's document tells of the drain, and only then."""
        for target in ("/patroni", "/replica", "/health"):
            self.assertNotIn("drain", self.request("GET", target).json())
        document = self.drain(reason="disk")
        for target in ("/patroni", "/replica", "/health"):
            self.assertEqual(self.request("GET", target).json()["drain"], document, target)
        self.request("DELETE", "/drain")
        for target in ("/patroni", "/replica", "/health"):
            self.assertNotIn("drain", self.request("GET", target).json())

    def test_change_while_waiting(self) -> None:
        """What counts is the moment of the answer, not that of the question."""
        self.link.held = True
        early = [self.api.begin("GET", target) for target in ("/primary", "/patroni", "/replica")]
        self.drain(primary=True)
        self.link.held = False
        self.link.release()
        self.api.clock.advance(0)
        replies = [Reply.parse(connection.received()) for connection in early]
        self.assertEqual([reply.code for reply in replies], [503, 200, 503])
        for reply in replies:
            self.assertTrue(reply.json()["drain"]["primary"])


class SharedSnapshotTests(SynchronousTestCase):
    """Answers that are made once per snapshot."""

    def test_drain_within_a_snapshot(self) -> None:
        """A drain that begins or ends while a snapshot is in use counts at once."""
        snapshot = Snapshot(make_node(), Status("running", "primary"))
        source = SimpleNamespace(current=lambda: succeed(snapshot))
        drains = Drains(Clock())
        checks = HealthChecks(
            FakeEngine(), cast("StatusSource", source), drains, lambda: False, lambda: 0.0
        )
        request = SimpleNamespace(method=b"GET", uri=b"/", target_path="/", query={})
        call = Call(cast("ApiRequest", request), Endpoint("GET", "/:check*", "Check."))

        def ask() -> list[Answer]:
            return [self.successResultOf(each(call)) for each in (checks.check, checks.patroni)]

        before = ask()
        self.assertEqual([answer.code for answer in before], [200, 200])
        drains.begin(primary=True)
        drained = ask()
        self.assertEqual([answer.code for answer in drained], [503, 200])
        for answer in drained:
            self.assertIn(b'"drain": {"since": ', answer.body)
        self.assertIs(ask()[0], drained[0])
        drains.end()
        self.assertIs(ask()[0], before[0])
        self.assertIs(ask()[1], before[1])


class ElsewhereTests(DrainCase):
    """Where else the drain shows."""

    def test_cluster(self) -> None:
        """The node's own entry in the cluster's document, and nobody else's."""
        members = [{"name": "alpha", "port": 1}, {"name": "beta", "port": 2}]
        document = {"members": members, "scope": "demo"}
        self.engine.outcomes["cluster_document"] = document
        self.assertEqual(self.request("GET", "/cluster").json(), document)
        drain = self.drain(primary=True)
        self.assertEqual(
            self.request("GET", "/cluster").json(),
            {"members": [{**members[0], "drain": drain}, members[1]], "scope": "demo"},
        )
        self.request("DELETE", "/drain")
        self.assertEqual(self.request("GET", "/cluster").json(), document)

    def test_cluster_without_this_node(self) -> None:
        """A node that the DCS does not know has no entry."""
        self.engine.view = make_node(name="gamma")
        self.engine.outcomes["cluster_document"] = {"members": [{"name": "alpha"}]}
        self.drain()
        self.assertEqual(self.request("GET", "/cluster").json(), {"members": [{"name": "alpha"}]})

    def test_metrics(self) -> None:
        """Each role has a gauge."""
        self.assertEqual(self.gauges(), {"replica": 0, "primary": 0})
        self.drain()
        self.assertEqual(self.gauges(), {"replica": 1, "primary": 0})
        self.drain(primary=True)
        self.assertEqual(self.gauges(), {"replica": 1, "primary": 1})
        self.request("DELETE", "/drain")
        self.assertEqual(self.gauges(), {"replica": 0, "primary": 0})

    def gauges(self) -> dict[str, float]:
        """Return the gauges by role."""
        text = self.request("GET", "/metrics").body.decode()
        return {
            sample.labels["role"]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "twisted_patroni_drained"
        }

    def test_nothing_else_changes(self) -> None:
        """The engine is asked nothing: no tag, no file, no key."""
        before = self.engine.view
        self.drain(primary=True, expires=60)
        self.request("DELETE", "/drain")
        self.assertEqual((self.engine.calls, self.engine.begun), ([], 0))
        self.assertIs(self.engine.view, before)


class LifeTests(DrainCase):
    """The drain in the API's life."""

    def test_reload(self) -> None:
        """A reload of the settings keeps it."""
        drain = self.drain(expires=60)
        section = {"listen": "127.0.0.1:8008", "legacy_roles": True}
        self.api.apply(Settings.of(section, VERSION))
        self.assertEqual(self.request("GET", "/drain").json(), drain)

    def test_shutdown(self) -> None:
        """When the API has shut, the drain is as it was, and not on the clock any more."""
        self.api.api.open(socket.socket())
        self.drain(expires=3600)
        closed: Deferred[None] = self.api.api.close()
        self.api.wait(3)
        self.successResultOf(closed)
        far = self.api.clock.seconds() + 1000
        self.assertEqual([c for c in self.api.clock.getDelayedCalls() if c.getTime() > far], [])
        self.assertIsNotNone(self.api.api.drains.current)


class EventTests(ApiCase):
    """What the event flow tells of a drain."""

    def test_told(self) -> None:
        """Its begin and its end are events of the node."""
        self.api.open()
        self.engine.look()
        self.request("POST", "/drain", body={"reason": "new kernel"})
        self.request("DELETE", "/drain")
        stream = self.api.api.stream
        told = [event.data for event in stream.since(Position(stream.oldest - 1)).events]
        self.assertEqual([each["changed"] for each in told], [["drain"], ["drain"]])
        self.assertEqual(told[0]["drain"]["reason"], "new kernel")
        self.assertIsNone(told[1]["drain"])
