"""Tests of twisted_patroni.web.events: what is asked for, by whom, and what newcomers are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from tests.eventcase import SOCKET, SSE, EventCase
from tests.memory_api import Reply
from twisted_patroni.web.events import same_origin

if TYPE_CHECKING:
    from collections.abc import Mapping


WAYS: dict[str, Mapping[str, str]] = {"sse": SSE, "websocket": SOCKET, "long_poll": {}}


class RequestTests(EventCase):
    """What is asked for."""

    def ask(self, way: str, query: str = "", **headers: str) -> Reply:
        """Return the answer to one way of asking."""
        further = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", f"/events{query}", {**WAYS[way], **further}, version="1.1")

    def assertProblem(self, reply: Reply, code: int, *words: str) -> None:
        """Fail unless a reply is an error as JSON whose sentence has these words."""
        self.assertEqual((reply.code, reply.header("Content-Type")), (code, "application/json"))
        for word in words:
            self.assertIn(word, reply.json()["error"])
        self.assertEqual(len(self.subscribers), 0)

    def test_accept(self) -> None:
        """Server-Sent Events are asked for by their type, in whatever company."""
        for accept, asked in (
            ("text/event-stream", True),
            ("TEXT/Event-Stream; charset=utf-8", True),
            ("application/json, text/event-stream;q=0.9, */*", True),
            ("*/*", False),
            ("text/*", False),
            ("application/json", False),
            ("", False),
        ):
            head = self.api.begin("GET", "/events", {"Accept": accept}).received()
            self.assertEqual(b"Content-Type: text/event-stream" in head, asked, accept)

    def test_types(self) -> None:
        """A type that there is not is named, with those that there are."""
        for way in WAYS:
            for types, named in (("leader,laeder", "'laeder'"), (",", "''"), ("a" * 5000, "'aaa")):
                reply = self.ask(way, f"?types={types}")
                self.assertProblem(reply, 400, named, "leader, cluster, member, node, config")
                self.assertLess(len(reply.body), 500)

    def test_positions(self) -> None:
        """A position that is none is named."""
        for way in WAYS:
            for after in ("x", "-1", "1.", "1.x-y", "1" * 19, "%C2%B2", "1.a.b", "0x10"):
                self.assertProblem(self.ask(way, f"?after={after}"), 400, "after: ")
        self.assertProblem(self.ask("sse", Last_Event_ID="x"), 400, "Last-Event-ID: ")

    def test_timeouts(self) -> None:
        """So is a time that is none."""
        for timeout in ("x", "-1", "61", "60.1", "1e1", "nan", "inf", "%D9%A1", "9" * 400, "1_0"):
            reply = self.ask("long_poll", f"?after=1&timeout={timeout}")
            self.assertProblem(reply, 400, "timeout: expected 0 to 60 seconds")

    def test_unknown(self) -> None:
        """Before the node has seen the cluster there is nothing to show, but soon."""
        self.use().open()
        self.subscribers = self.api.api.subscribers
        for way in WAYS:
            reply = self.ask(way, "?after=5")
            self.assertProblem(reply, 503, "has not seen the cluster yet")
            self.assertEqual(reply.header("Retry-After"), "1")

    def test_other_methods(self) -> None:
        """Only GET and HEAD are answered."""
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            self.assertEqual(self.request(method, "/events", body=b"").code, 501)

    def test_protected(self) -> None:
        """Where reads are protected so are the events, in all ways."""
        self.start(protect_reads=True, authentication={"username": "ann", "password": "secret"})
        for way in WAYS:
            self.assertEqual(self.ask(way).code, 401, way)
            self.assertIn(self.ask(way, Authorization="Basic YW5uOnNlY3JldA==").code, (101, 200))


class SnapshotTests(EventCase):
    """What newcomers are shown."""

    def test_document(self) -> None:
        """Node, cluster, what goes on and what was, with the name of the stream."""
        self.engine.outcomes["applied_config"] = "0123abcd"
        view = self.request("GET", "/events").json()["snapshot"]
        self.assertEqual(
            set(view),
            {
                *("scope", "stream", "leader", "timeline", "locked", "paused", "failsafe", "dcs"),
                *("switchover", "sync", "members", "node", "operations", "history"),
            },
        )
        self.assertEqual((view["scope"], view["stream"]), ("demo", self.stream.name))
        self.assertEqual(
            set(view["node"]), {"name", "state", "role", "pending_restart", "drain", "config"}
        )
        self.assertEqual(view["node"]["config"], "0123abcd")
        self.assertEqual([each["name"] for each in view["members"]], ["alpha", "beta", "gamma"])
        self.assertEqual(view["operations"], [])

    def test_up_to_date(self) -> None:
        """It is taken anew after each event, and after a second."""
        self.engine.outcomes["applied_config"] = "old"
        self.request("GET", "/events")
        self.engine.outcomes["applied_config"] = "new"
        self.publish("config")
        view = self.request("GET", "/events").json()["snapshot"]
        self.assertEqual(view["node"]["config"], "new")
        self.engine.outcomes["applied_config"] = "newer"
        self.api.clock.advance(1)
        view = self.request("GET", "/events").json()["snapshot"]
        self.assertEqual(view["node"]["config"], "newer")

    def test_shared(self) -> None:
        """Those who come in one moment share it."""
        self.assertEqual(self.sse().messages(), self.sse().messages())


class OriginTests(EventCase):
    """Pages in browsers."""

    ORIGIN = "https://dash.example:8443"

    def begin(self, way: str, origin: str, host: str = "node") -> Reply:
        """Ask as a page does; return the head of the answer."""
        lines = [f"{name}: {value}" for name, value in WAYS[way].items()]
        lines += [f"Origin: {origin}", f"Host: {host}"]
        connection = self.api.begin("GET", "/patroni", version="1.1")
        connection.received()
        connection.send("\r\n".join(["GET /events HTTP/1.1", *lines, "", ""]).encode("latin-1"))
        self.turns()
        reply = Reply.parse(connection.received())
        connection.vanish()
        return reply

    def test_own(self) -> None:
        """A page of this node may follow, also where TLS ends at a proxy."""
        for way in WAYS:
            for origin, host in (
                ("http://node", "node"),
                ("https://node", "node"),
                ("http://node:8008", "NODE:8008"),
                ("https://[::1]:8008", "[::1]:8008"),
            ):
                reply = self.begin(way, origin, host)
                self.assertIn(reply.code, (101, 200), (way, origin))
                self.assertIsNone(reply.header("Access-Control-Allow-Origin"))

    def test_strange(self) -> None:
        """No other page may, and is told its name."""
        self.start(origins=[self.ORIGIN])
        for way in WAYS:
            for origin in (
                "http://evil.example",
                "http://node:8009",
                "http://dash.example:8443",
                "https://dash.example",
                "null",
                "node",
                "file://node",
                "http://",
                "http://node/",
                "",
                "<script>",
                "x" * 3000,
            ):
                reply = self.begin(way, origin)
                self.assertEqual((reply.code, reply.header("Vary")), (403, None), (way, origin))
                self.assertIn(f"the origin '{origin[:100]}'", reply.json()["error"])
        self.assertEqual(len(self.subscribers), 0)

    def test_listed(self) -> None:
        """A page of a listed origin may, and may read the answer, errors as well."""
        self.start(origins=["HTTPS://Dash.Example:8443", "http://other"])
        for way in ("sse", "long_poll"):
            for query in ("", "?types=x", "?after=y"):
                head = {**WAYS[way], "Origin": self.ORIGIN}
                raw = self.api.begin("GET", f"/events{query}", head, version="1.1").received()
                reply = Reply.parse(raw)
                self.assertEqual(reply.code, 400 if query else 200)
                self.assertEqual(reply.header("Access-Control-Allow-Origin"), self.ORIGIN)
                self.assertEqual(reply.header("Vary"), "Origin")
        self.assertEqual(self.begin("websocket", self.ORIGIN).code, 101)

    def test_reload(self) -> None:
        """Other origins count with the next request."""
        self.assertEqual(self.begin("sse", self.ORIGIN).code, 403)
        self.api.apply(evolve(self.api.settings, origins=frozenset({self.ORIGIN})))
        self.assertEqual(self.begin("sse", self.ORIGIN).code, 200)

    def test_several(self) -> None:
        """Of several headers each must do."""
        self.start(origins=[self.ORIGIN])
        reply = self.begin("sse", f"{self.ORIGIN}\r\nOrigin: http://evil.example")
        self.assertEqual(reply.code, 403)

    def test_without_host(self) -> None:
        """A page without a host to compare with is strange."""
        self.assertFalse(same_origin("http://node", ""))
        self.assertFalse(same_origin("http://", ""))
