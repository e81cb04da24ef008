"""The demonstration cluster's values: layout, configuration, record, and what nodes say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import yaml
from attrs import evolve, fields
from psycopg.conninfo import conninfo_to_dict
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import ConnectError, ConnectionAborted
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.iweb import IAgent
from zope.interface import implementer

from tests.scratch import scratch_directory
from twisted_patroni.demo import CannotStart, Place, View
from twisted_patroni.demo.layout import (
    Secrets,
    any_primary,
    merged,
    node_config,
    places,
    raft_section,
)
from twisted_patroni.demo.record import FILE_NAME, Record, recall, remember
from twisted_patroni.demo.views import Views, changes, describe, is_ready, json_getter

PRIMARY = View("primary", "running", 3)
REPLICA = View("replica", "running", 3, streaming=True)


class PlaceTests(SynchronousTestCase):
    """Where a node is."""

    def test_ports(self) -> None:
        """Node 1 at 8008 has PostgreSQL at 5432 and raft at 9008; the others follow."""
        first, second = places(Path("/x"), 2, 8008)
        self.assertEqual(
            (first.rest_port, first.postgres_port, first.raft_port), (8008, 5432, 9008)
        )
        self.assertEqual(
            (second.rest_port, second.postgres_port, second.raft_port), (8009, 5433, 9009)
        )
        self.assertEqual((second.name, second.rest_url), ("pg2", "http://127.0.0.1:8009"))

    def test_conninfo(self) -> None:
        """libpq reads the connection string as meant, whatever is in the directory's name."""
        for directory in ("/plain", "/with blank", "/it's", "/back\\slash"):
            place = Place(1, Path(directory), 8008)
            self.assertEqual(
                conninfo_to_dict(place.conninfo),
                {
                    "host": "127.0.0.1",
                    "port": "5432",
                    "dbname": "postgres",
                    "user": "postgres",
                    "passfile": f"{directory}/pgpass",
                },
            )

    def test_any_primary(self) -> None:
        """One connection string finds the primary among all nodes."""
        known = conninfo_to_dict(any_primary(places(Path("/x"), 2, 8008)))
        self.assertEqual(
            (known["host"], known["port"], known["target_session_attrs"]),
            ("127.0.0.1,127.0.0.1", "5432,5433", "read-write"),
        )

    def test_socket_directory(self) -> None:
        """There is a Unix socket where its path fits into a socket's address, else none."""
        room = 107 - len("//pg1/.s.PGSQL.5432")
        fits = Place(1, Path("/" + "x" * room), 8008)
        self.assertEqual(fits.socket_directory, fits.home)
        self.assertIsNone(Place(1, Path("/" + "x" * (room + 1)), 8008).socket_directory)


class ConfigTests(SynchronousTestCase):
    """What a node is told."""

    def config(self, directory: str = "/x") -> dict[str, Any]:
        """Return the configuration of node 1 of 3."""
        nodes = places(Path(directory), 3, 8008)
        known = Secrets()
        raft = raft_section(nodes[0], nodes, known.raft)
        return node_config(nodes[0], Path("/bin"), known, raft)

    def test_is_yaml(self) -> None:
        """The configuration survives being written and read as YAML."""
        config = self.config()
        self.assertEqual(yaml.safe_load(yaml.safe_dump(config)), config)

    def test_times(self) -> None:
        """The lease is long enough for a cycle and two tries, as the engine demands."""
        dcs = self.config()["bootstrap"]["dcs"]
        self.assertLessEqual(dcs["loop_wait"] + 2 * dcs["retry_timeout"], dcs["ttl"])

    def test_loopback_only(self) -> None:
        """Everything that listens does so on loopback, raft included."""
        config = self.config()
        for address in (
            config["restapi"]["listen"],
            config["postgresql"]["listen"],
            config["raft"]["bind_addr"],
        ):
            self.assertTrue(address.startswith("127.0.0.1:"), address)

    def test_raft_partners(self) -> None:
        """A raft member's partners are the other nodes; a single node has none."""
        nodes = places(Path("/x"), 3, 8008)
        partners = raft_section(nodes[1], nodes, "p")["raft"]["partner_addrs"]
        self.assertEqual(partners, ["127.0.0.1:9008", "127.0.0.1:9010"])
        self.assertEqual(raft_section(nodes[0], nodes[:1], "p")["raft"]["partner_addrs"], [])

    def test_protected(self) -> None:
        """Unsafe requests need a password, which patronictl finds in the same file."""
        config = self.config()
        self.assertEqual(config["restapi"]["authentication"], config["ctl"]["authentication"])
        self.assertTrue(config["restapi"]["authentication"]["password"])

    def test_without_socket(self) -> None:
        """In a directory with a long name PostgreSQL is reached over TCP alone."""
        section = self.config("/" + "x" * 100)["postgresql"]
        self.assertFalse(section["use_unix_socket"])
        self.assertEqual(section["parameters"]["unix_socket_directories"], "")

    def test_merged(self) -> None:
        """Sections merge at any depth, other values replace, and the original stays as it was."""
        base = {"a": {"b": {"c": 1, "d": 2}}, "e": [1]}
        result = merged(base, {"a": {"b": {"c": 3}}, "e": [2], "f": {"g": 4}})
        self.assertEqual(result, {"a": {"b": {"c": 3, "d": 2}}, "e": [2], "f": {"g": 4}})
        self.assertEqual(base, {"a": {"b": {"c": 1, "d": 2}}, "e": [1]})

    def test_secrets_differ(self) -> None:
        """No two secrets are the same, in one directory or in two."""
        values = [
            getattr(known, attribute.name)
            for known in (Secrets(), Secrets())
            for attribute in fields(Secrets)
        ]
        self.assertEqual(len(set(values)), len(values))


class RecordTests(SynchronousTestCase):
    """What a directory remembers."""

    def setUp(self) -> None:
        """Make a directory."""
        self.directory = scratch_directory(self)

    def test_remembers(self) -> None:
        """A record is read as it was written, and only the owner may read the file."""
        for tls in (False, True):
            record = Record(3, 8008, "raft", Secrets(), tls)
            remember(self.directory, record)
            self.assertEqual(recall(self.directory), record)
        self.assertEqual((self.directory / FILE_NAME).stat().st_mode & 0o777, 0o600)

    def test_new(self) -> None:
        """A directory that is empty or does not exist remembers nothing."""
        self.assertIsNone(recall(self.directory))
        self.assertIsNone(recall(self.directory / "missing"))

    def test_something_else(self) -> None:
        """A directory that holds something else is refused, and so is a file."""
        (self.directory / "thesis.tex").touch()
        self.assertRaisesRegex(CannotStart, "give another --directory", recall, self.directory)
        self.assertRaises(CannotStart, recall, self.directory / "thesis.tex")

    def test_damaged(self) -> None:
        """A damaged record is refused with its path, whatever the damage."""
        for text in ("{", "[]", "nodes: 3", "nodes: x\nbase_port: 1\ndcs: raft\nsecrets: {}", "\0"):
            (self.directory / FILE_NAME).write_text(text)
            self.assertRaisesRegex(CannotStart, f"{FILE_NAME} is damaged", recall, self.directory)


class ViewTests(SynchronousTestCase):
    """What nodes say about themselves."""

    def test_of(self) -> None:
        """The fields of ``GET /patroni`` are read, and missing ones stand for nothing."""
        document = {"state": "running", "role": "replica", "timeline": 3}
        self.assertEqual(View.of({**document, "replication_state": "streaming"}), REPLICA)
        self.assertEqual(
            View.of({**document, "cluster_unlocked": True}),
            View("replica", "running", 3, False, True),
        )
        self.assertEqual(View.of({}), View("", ""))

    def test_describe(self) -> None:
        """A few words say how a node is."""
        for view, words in (
            (None, "does not answer"),
            (View("replica", "starting"), "starting"),
            (PRIMARY, "primary, timeline 3"),
            (REPLICA, "replica, streaming, timeline 3"),
            (evolve(PRIMARY, unlocked=True), "primary, timeline 3, the cluster has no leader"),
        ):
            self.assertEqual(describe(view), words)

    def test_changes(self) -> None:
        """There is a line for each node that changed, and none for the others."""
        before: Views = {"pg1": PRIMARY, "pg2": REPLICA}
        self.assertEqual(changes(before, before), [])
        self.assertEqual(changes(before, {**before, "pg1": None}), ["pg1: does not answer"])
        self.assertEqual(changes({}, {"pg1": PRIMARY}), ["pg1: primary, timeline 3"])

    def test_is_ready(self) -> None:
        """A cluster is ready with one leader that all others stream from, not before."""
        for ready, views in (
            (True, [PRIMARY]),
            (True, [PRIMARY, REPLICA, REPLICA]),
            (False, [PRIMARY, None]),
            (False, [PRIMARY, PRIMARY]),
            (False, [REPLICA, REPLICA]),
            (False, [PRIMARY, evolve(REPLICA, streaming=False)]),
            (False, [PRIMARY, evolve(REPLICA, state="starting")]),
            (False, [evolve(PRIMARY, unlocked=True), REPLICA]),
        ):
            named: Views = {f"pg{number}": view for number, view in enumerate(views)}
            self.assertEqual(is_ready(named), ready, views)


@implementer(IAgent)
class SlowAgent:
    """An agent whose requests take for ever, and fail as Twisted's do when cancelled."""

    def __init__(self) -> None:
        self.requests: list[Deferred[Any]] = []

    def request(
        self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None
    ) -> Any:
        """Take a request."""
        aborted = Failure(ConnectionAborted())
        asked: Deferred[Any] = Deferred(lambda it: it.errback(ResponseNeverReceived([aborted])))
        self.requests.append(asked)
        return asked


class GetterTests(SynchronousTestCase):
    """How documents are fetched when nothing comes back."""

    def setUp(self) -> None:
        """Begin a request that nobody answers."""
        self.clock, self.agent = Clock(), SlowAgent()
        get = json_getter(self.clock, self.agent, seconds=2.0)
        self.result = Deferred.fromCoroutine(get("http://127.0.0.1:1/"))

    def test_timeout(self) -> None:
        """Silence counts as no answer once the time is over."""
        self.clock.advance(1.9)
        self.assertNoResult(self.result)
        self.clock.advance(0.2)
        self.assertIsNone(self.successResultOf(self.result))
        self.assertTrue(self.agent.requests[0].called)

    def test_cancel(self) -> None:
        """Who cancels learns that it was cancelled, and the request ends."""
        self.result.cancel()
        self.failureResultOf(self.result, CancelledError)
        self.assertTrue(self.agent.requests[0].called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """A refused connection counts as no answer."""
        self.agent.requests[0].errback(ConnectError())
        self.assertIsNone(self.successResultOf(self.result))


class Canned(Protocol):
    """Answers anything with fixed bytes and closes."""

    answer = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        assert self.transport is not None
        self.transport.write(self.answer)
        self.transport.loseConnection()


class WireTests(TestCase):
    """How documents are fetched from a socket."""

    async def fetch(self, answer: bytes) -> Any:
        """Fetch from a server that gives a fixed answer."""
        reactor = cast("Any", global_reactor)
        protocol = type("Given", (Canned,), {"answer": answer})
        port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(protocol)
        )
        self.addCleanup(port.stopListening)
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        return await json_getter(reactor, agent)(f"http://127.0.0.1:{port.getHost().port}/")

    async def test_without_length(self) -> None:
        """Upstream's answers, which end with the connection, are read as well."""
        body = json.dumps({"state": "running"}).encode()
        found = await self.fetch(b"HTTP/1.0 503 X\r\nContent-Type: application/json\r\n\r\n" + body)
        self.assertEqual(found, {"state": "running"})

    async def test_not_json(self) -> None:
        """What is no JSON counts as no answer."""
        self.assertIsNone(await self.fetch(b"HTTP/1.0 200 OK\r\n\r\nhello"))
        self.assertIsNone(await self.fetch(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx{"))

    async def test_stalls(self) -> None:
        """A body that does not end counts as no answer in time, and its connection is closed."""
        reactor = cast("Any", global_reactor)
        closed: Deferred[None] = Deferred()

        class Stalling(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                closed.callback(None)

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(Factory.forProtocol(Stalling))
        self.addCleanup(port.stopListening)
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        get = json_getter(reactor, agent, seconds=0.2)
        self.assertIsNone(await get(f"http://127.0.0.1:{port.getHost().port}/"))
        await closed
