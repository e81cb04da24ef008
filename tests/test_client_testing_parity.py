"""Tests of twisted_patroni.client.testing: what it answers and tells is what the API does."""

from __future__ import annotations

import json
from copy import deepcopy
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from patroni.utils import cluster_as_json
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.web.http_headers import Headers

from tests.doubles import FakeEngine, make_replica
from tests.eventcase import EventCase
from tests.memory_api import ApiCase, Reply
from tests.upstream import make_upstream, member
from twisted_patroni.client.body import Bytes
from twisted_patroni.client.sse import Message, SseParser
from twisted_patroni.client.testing import MemoryCluster
from twisted_patroni.events import MemberState, NodeState, View
from twisted_patroni.events.compare import changes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twisted_patroni.client import Response

NAMES = ("alpha", "beta", "gamma")
#: What is asked of both, with the body; a leader first, a replica second.
QUESTIONS: tuple[tuple[str, str, Any], ...] = (
    *(
        ("GET", path, None)
        for path in (
            "/", "/primary", "/master", "/leader", "/read-write", "/standby-leader", "/replica",
            "/replica?lag=1TB", "/replica?tag_zone=x", "/replica?replication_state=streaming",
            "/replica?replication_state=none", "/read-only", "/sync", "/async", "/quorum",
            "/read-only-sync", "/read-only-quorum", "/health", "/nonsense", "/patroni",
            "/history", "/config", "/operations", "/operations/none", "/drain", "/failsafe",
        )
    ),
    ("POST", "/drain", {"reason": "new kernel", "owner": "joe", "expires": "30min"}),
    ("GET", "/replica", None),
    ("GET", "/read-only", None),
    ("GET", "/primary", None),
    ("GET", "/health", None),
    ("GET", "/patroni", None),
    ("DELETE", "/drain", None),
    ("DELETE", "/drain", None),
    ("PATCH", "/config", {"ttl": 20}),
    ("POST", "/reload", None),
    ("POST", "/restart", {}),
    ("POST", "/restart?dry_run=true", {}),
    ("POST", "/reinitialize?dry_run=true", {}),
    ("POST", "/switchover?dry_run=true", {"leader": "alpha", "candidate": "beta"}),
    ("POST", "/switchover", {"candidate": "beta"}),
    ("POST", "/switchover", {"leader": "alpha", "candidate": "alpha"}),
    ("POST", "/switchover", {"leader": "beta", "candidate": "gamma"}),
    ("POST", "/switchover", {"leader": "alpha", "candidate": "nobody"}),
    ("POST", "/failover", {"leader": "alpha"}),
    ("DELETE", "/switchover", None),
    ("GET", "/operations", None),
    ("PUSH", "/config", None),
)  # fmt: skip


def shape(value: object) -> Any:
    """Return the keys and types of a document: of a list, those of its first element."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in sorted(value.items())}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


#: What can happen to a cluster.
HAPPENINGS: tuple[Callable[[MemoryCluster], object], ...] = (
    lambda memory: memory.kill("beta"),
    lambda memory: memory.revive("beta"),
    lambda memory: memory.kill("alpha"),
    lambda memory: memory.switchover("gamma"),
    lambda memory: memory.demote(),
    lambda memory: memory.switchover("gamma"),
    lambda memory: memory.switchover("beta"),
    lambda memory: memory.lag("gamma", 10**9),
    lambda memory: memory.lag("gamma", None),
    lambda memory: memory.lag("gamma", 0),
    lambda memory: memory.tag("gamma", zone="x"),
    lambda memory: memory.sync("gamma"),
    lambda memory: memory.state("gamma", "starting"),
    lambda memory: memory.claim("gamma", 7),
    lambda memory: memory.claim("gamma", None),
    lambda memory: _config(memory, {"pause": True, "postgresql": {"a": 1, "b": 2}}),
    lambda memory: _config(memory, {"pause": None, "postgresql": {"b": 3}}),
    lambda memory: _sent(memory, "POST", "/drain", {"reason": "new kernel"}),
    lambda memory: _sent(memory, "POST", "/switchover", {"leader": "beta", "scheduled_at": "x"}),
)


def _sent(memory: MemoryCluster, method: str, path: str, body: object) -> None:
    url = f"{memory.url('gamma')}{path}".encode()
    memory.request(method.encode(), url, None, Bytes(json.dumps(body).encode()))


def _config(memory: MemoryCluster, patch: object) -> None:
    _sent(memory, "PATCH", "/config", patch)


class WatchedCluster(MemoryCluster):
    """A cluster one of whose members is watched.

    :ivar views: what it has seen, as the API would note it, after each change.
    """

    def __init__(self, *arguments: Any) -> None:
        self.views: list[View] = []
        super().__init__(*arguments)

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its events, without those of operations, which no view shows."""
        return [each for each in self._nodes["gamma"].log if each["type"] != "operation"]

    def _changed(self) -> None:
        super()._changed()
        node, shared = self._nodes["gamma"], self._shared
        found = shared.snapshot(node)
        shown = {name: found[name] for name in ("scope", "leader", *View.ATTRIBUTES)}
        del shown["locked"]
        assert node.told is not None
        view = View(
            **{**shown, "sync": tuple(shown["sync"])},
            node=NodeState(**{key: found["node"][key] for key in ("name", *NodeState.ATTRIBUTES)}),
            last_leader=node.told["last_leader"],
            members=tuple(MemberState(**each) for each in found["members"]),
            config=deepcopy(shared.config),
            history=deepcopy(shared.history),
        )
        self.views.append(view)


class Reader(Protocol):
    """Reads a stream of events.

    :ivar messages: what has come.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._parser = SseParser()

    def dataReceived(self, data: bytes) -> None:
        """Take a piece."""
        self.messages += self._parser.feed(data)


def plain(data: Mapping[str, Any]) -> Any:
    """Return data as a client gets it."""
    return json.loads(json.dumps(data))


class ParityTests(ApiCase):
    """The documents are those of the API itself."""

    def both(self, role: str) -> tuple[MemoryCluster, str]:
        """Return the double; the API itself is that of a member with the same role."""
        leads = role == "leader"
        self.use(FakeEngine() if leads else FakeEngine(make_replica()))
        memory = MemoryCluster(NAMES, "alpha")
        _sent(memory, "PUT", "/config", {"ttl": 30})
        return memory, "alpha" if leads else "beta"

    def test_answers(self) -> None:
        """Leader and replica answer all questions with the same status, kind and shape."""
        for role in ("leader", "replica"):
            memory, name = self.both(role)
            for method, path, body in QUESTIONS:
                connection = self.api.begin(method, path, None, body)
                self.api.wait(1)
                wanted = Reply.parse(connection.received())
                asking = memory.node(name).request(method, path, json=body)
                got = self.successResultOf(Deferred.fromCoroutine(asking))
                self.assertSame(got, wanted, f"{method} {path} of the {role}")

    def assertSame(self, got: Response, wanted: Reply, place: str) -> None:
        """Fail unless the double has answered as the API."""
        self.assertEqual(got.status, wanted.code, place)
        if got.status != 501:  # where the phrase is upstream's own
            self.assertEqual(got.reason, wanted.reason, place)
        kind = wanted.header("Content-Type")
        self.assertEqual(got.header("Content-Type"), kind, place)
        if kind == "application/json":
            self.assertEqual(shape(got.json()), shape(wanted.json()), place)
        elif kind == "text/html":
            self.assertEqual(got.text, wanted.body.decode(), place)

    def test_explained(self) -> None:
        """So are refusals that are explained, and what is begun without waiting."""
        memory, _ = self.both("leader")
        for path, body, headers in (
            ("/switchover", {"leader": "beta"}, {"Accept": "application/json"}),
            ("/restart", {}, {"Idempotency-Key": "x"}),
            ("/restart", {"role": "primary"}, {"Idempotency-Key": "x"}),
            ("/switchover", {"leader": "alpha"}, {"Prefer": "respond-async"}),
        ):
            wanted = self.request("POST", path, headers, body)
            asking = memory.node("alpha").request("POST", path, json=body, headers=headers)
            got = self.successResultOf(Deferred.fromCoroutine(asking))
            self.assertSame(got, wanted, f"{path} {headers}")
            self.assertEqual(got.header("Preference-Applied"), wanted.header("Preference-Applied"))

    def test_silent(self) -> None:
        """Those checks that answer by their status alone have the same status."""
        for role in ("leader", "replica"):
            memory, name = self.both(role)
            for path in ("/liveness", "/readiness"):
                line = self.api.begin("GET", path, version="1.1").received().split(b"\r\n")[0]
                asking = memory.node(name).request("GET", path)
                got = self.successResultOf(Deferred.fromCoroutine(asking))
                self.assertIn(b" %d " % got.status, line)

    def test_cluster(self) -> None:
        """The cluster's document has the keys and types of upstream's, members that lag too."""
        memory = MemoryCluster(("alpha", "beta"), "alpha")
        memory.tag("beta", zone="x")
        more = {"conn_url": "postgres://10.0.0.1:5432/postgres", "state": "running", "timeline": 3}
        for lsn, lag in ((4000, 16), (None, None)):
            memory.lag("beta", lag)
            known = {} if lsn is None else {"xlog_location": lsn}
            places = {"receive_lsn": lsn, "replay_lsn": lsn} if lsn else {}
            members = [
                member("alpha", **more),
                member("beta", **more, **known, **places, tags={"zone": "x"}),
            ]
            upstream = make_upstream(members=members)
            wanted = {**cluster_as_json(upstream), "scope": "demo"}
            asking = memory.node("alpha").request("GET", "/cluster")
            got = self.successResultOf(Deferred.fromCoroutine(asking)).json()
            self.assertEqual(
                [shape(each) for each in got.pop("members")],
                [shape(each) for each in wanted.pop("members")],
            )
            self.assertEqual(shape(got), shape(wanted))


class EventParityTests(EventCase):
    """Events are those of the API itself."""

    def test_snapshot(self) -> None:
        """A newcomer is told all that the API tells."""
        memory = MemoryCluster(NAMES, "alpha")
        self.engine.outcomes["applied_config"] = "0"
        ((kind, position, wanted),) = self.sse().messages()
        headers = Headers({"Accept": ["text/event-stream"]})
        asking = memory.request(b"GET", b"http://alpha:8008/events", headers)
        reader = Reader()
        self.successResultOf(asking).deliverBody(reader)
        (message,) = reader.messages
        got = json.loads(message.data)
        self.assertEqual((message.type, message.last_id.count(".")), (kind, position.count(".")))
        self.assertEqual(list(got), list(wanted))
        self.assertEqual(set(got["data"]), set(wanted["data"]))
        self.assertEqual(shape(got["data"]["node"]), shape(wanted["data"]["node"]))
        self.assertEqual(set(got["data"]["members"][0]), set(wanted["data"]["members"][0]))
        self.get_away(reader)

    def get_away(self, reader: Reader) -> None:
        """Stop following."""
        assert reader.transport is not None
        reader.transport.loseConnection()

    def test_changes(self) -> None:
        """Whatever happens, the events are those that the API finds between the same views."""
        memory = WatchedCluster(NAMES, "alpha")
        for happen in HAPPENINGS:
            happen(memory)
        told = [(each["type"], each["data"]) for each in memory.log]
        wanted = []
        for before, after in pairwise(memory.views):
            wanted += [(each.type, plain(each.data)) for each in changes(before, after)]
        self.assertEqual(told, wanted)
        self.assertGreater(len(told), 30)
        kinds = {"leader", "cluster", "member", "node", "config", "history"}
        self.assertEqual({kind for kind, _ in told}, kinds)
