"""Tests of twisted_patroni.web.resource: bodies, errors and clients that leave."""

from __future__ import annotations

from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred

from tests.doubles import make_node
from tests.memory_api import ApiCase, Reply
from twisted_patroni.engine.interface import ConfigConflict, DcsUnavailable, LaneFull
from twisted_patroni.web.answers import text_answer
from twisted_patroni.web.resource import Refused, known_error

CHUNKED = {"Transfer-Encoding": "chunked"}


@frozen
class BodyCase:
    """One row of the contract's matrix of bodies.

    :param what: its name.
    :param headers: of the request.
    :param body: what follows them.
    :param mandatory: the status where a body must be there.
    :param optional: the status where it may be left out.
    """

    what: str
    headers: dict[str, str]
    body: bytes | None
    mandatory: int
    optional: int


MATRIX = (
    BodyCase("no length", {}, None, 411, 200),
    BodyCase("length 0", {"Content-Length": "0"}, None, 400, 200),
    BodyCase("no number", {"Content-Length": "many"}, None, 400, 400),
    BodyCase("negative", {"Content-Length": "-1"}, None, 400, 400),
    BodyCase("not UTF-8", {}, b"\xff\xfe", 400, 400),
    BodyCase("not JSON", {}, b"{", 400, 400),
    BodyCase("not a number", {}, b'{"ttl": NaN}', 400, 400),
    BodyCase("null", {}, b"null", 400, 400),
    BodyCase("a list", {}, b"[]", 400, 400),
    BodyCase("a text", {}, b'"x"', 400, 400),
    BodyCase("a digit", {}, b"1", 400, 400),
    BodyCase("nested too deeply", {}, b"[" * 100000, 400, 400),
    BodyCase("empty object", {}, b"{}", 400, 200),
    BodyCase("an object", {}, b'{"timeout": 5}', 200, 200),
    BodyCase("after a byte order mark", {}, b'\xef\xbb\xbf{"timeout": 5}', 400, 400),
    # Upstream takes an empty length for 0; RFC 9110 does not allow it.
    BodyCase("empty length", {"Content-Length": ""}, None, 400, 400),
    BodyCase(
        "labelled as a form",
        {"Content-Type": "application/x-www-form-urlencoded"},
        b'{"timeout": 5}',
        200,
        200,
    ),
    BodyCase("chunked", CHUNKED, b'e\r\n{"timeout": 5}\r\n0\r\n\r\n', 200, 200),
    BodyCase("chunked, not JSON", CHUNKED, b"1\r\n{\r\n0\r\n\r\n", 400, 400),
)


class BodyTests(ApiCase):
    """Request bodies."""

    def send(self, method: str, target: str, case: BodyCase) -> Reply:
        """Send a request with a body; chunks go without a length."""
        if case.headers is CHUNKED:
            connection = self.api.begin(method, target, case.headers, version="1.1")
            return Reply.parse(connection.received() + connection.ask(case.body or b""))
        return self.request(method, target, case.headers, case.body)

    def test_mandatory(self) -> None:
        """Where a body must be there."""
        for case in MATRIX:
            for method, target in (("PATCH", "/config"), ("PUT", "/config")):
                reply = self.send(method, target, case)
                self.assertEqual(reply.code, case.mandatory, f"{method} {case.what}")
                if reply.code != 200:
                    self.assertErrorPage(reply, case.mandatory)

    def test_optional(self) -> None:
        """Where it may be left out; what is wrong with it ends the request all the same."""
        for case in MATRIX:
            for target in ("/restart", "/reinitialize"):
                self.engine.calls.clear()
                reply = self.send("POST", target, case)
                self.assertEqual(reply.code, case.optional, f"{target} {case.what}")
                if reply.code != 200:
                    self.assertErrorPage(reply, case.optional)
                    self.assertEqual(self.engine.calls, [], f"{target} {case.what}")

    def test_chunked_restart_is_not_unconditional(self) -> None:
        """The conditions of a chunked body count."""
        case = BodyCase("", CHUNKED, b'13\r\n{"role": "replica"}\r\n0\r\n\r\n', 0, 0)
        self.send("POST", "/restart", case)
        self.assertEqual(self.engine.called("restart"), [[{"role": "replica"}]])

    def test_length_required(self) -> None:
        """The page of 411 has the sentence of Python's http.server."""
        reply = self.request("PATCH", "/config")
        self.assertEqual(reply.reason, "Length Required")
        self.assertErrorPage(reply, 411, "Client must specify Content-Length")

    def test_slow_body(self) -> None:
        """A body that is not complete yet is waited for."""
        connection = self.api.begin("PATCH", "/config", {"Content-Length": "11"})
        self.assertEqual(connection.ask(b'{"ttl":'), b"")
        self.assertEqual(Reply.parse(connection.ask(b" 20}")).code, 200)

    def test_access_comes_first(self) -> None:
        """Who may not use the endpoint learns nothing about the body."""
        self.use(auth="user:secret")
        for body in (None, b"{", b"{}"):
            self.assertReply(
                self.request("PATCH", "/config", body=body), 401, "no auth header received"
            )

    def test_unread_body(self) -> None:
        """An endpoint that reads no body does not mind one."""
        for body in (b"{", b"x" * 1000):
            self.assertReply(self.request("POST", "/reload", body=body), 202, "reload scheduled")

    def test_too_large(self) -> None:
        """A body has its limit, which the head tells of."""
        self.assertErrorPage(self.request("PATCH", "/config", {"Content-Length": "5242881"}), 413)


class ErrorTests(ApiCase):
    """Errors of handlers."""

    def test_lane_full(self) -> None:
        """A full lane is 503, and says when to come back."""
        for target, method, call in (
            ("/cluster", "GET", "cluster_document"),
            ("/restart", "POST", "restart"),
            ("/restart", "DELETE", "delete_restart"),
            ("/reinitialize", "POST", "reinitialize"),
            ("/switchover", "DELETE", "look"),
        ):
            self.use().engine.outcomes[call] = LaneFull("read", 7)
            reply = self.request(method, target)
            self.assertEqual((reply.code, reply.header("Retry-After")), (503, "7"), target)
            self.assertIn(b"read", reply.body)

    def test_dcs_away(self) -> None:
        """Without the DCS the answer is 503, never an empty reply."""
        rows: list[tuple[str, str, str, Any]] = [
            ("GET", "/cluster", "cluster_document", None),
            ("GET", "/history", "look", None),
            ("GET", "/config", "look", None),
            ("PATCH", "/config", "patch_config", {"ttl": 20}),
            ("PUT", "/config", "replace_config", {"ttl": 20}),
            ("POST", "/switchover", "look", {"leader": "alpha"}),
            ("POST", "/switchover", "write_failover", {"leader": "alpha"}),
            ("POST", "/failover", "look", {"candidate": "beta"}),
            ("DELETE", "/switchover", "look", None),
            ("POST", "/restart", "look", {"schedule": "2026-07-02T12:00Z"}),
            ("POST", "/reinitialize", "reinitialize", None),
            ("POST", "/mpp", "handle_mpp_event", {"type": "x"}),
        ]
        for method, target, call, body in rows:
            engine = self.use().engine
            engine.view = make_node(cluster=None)
            engine.outcomes[call] = DcsUnavailable("etcd is away")
            reply = self.request(method, target, body=body)
            self.assertReply(reply, 503, "DCS is not accessible: etcd is away")

    def test_defect(self) -> None:
        """A defect is 500 with a page, is logged once, and does not end the API."""
        self.engine.outcomes["cluster_document"] = ZeroDivisionError("oops")
        reply = self.request("GET", "/cluster")
        self.assertErrorPage(reply, 500)
        self.assertNotIn(b"oops", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.request("GET", "/primary").code, 200)

    def test_defect_before_anything_is_awaited(self) -> None:
        """A handler that fails before it waits for anything is the same."""
        self.engine.view = None  # type: ignore[assignment]
        for target in ("/primary", "/liveness", "/readiness", "/patroni", "/failsafe"):
            self.assertErrorPage(self.request("GET", target), 500)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 5)

    def test_not_for_json(self) -> None:
        """What JSON does not know is text, not an error."""
        self.engine.view = make_node(effective_tags={"when": object})
        reply = self.request("GET", "/patroni")
        self.assertEqual(reply.json()["tags"], {"when": "<class 'object'>"})

    def test_known_errors(self) -> None:
        """The errors that have an answer, and those that have none."""
        answer = text_answer(418, "teapot")
        self.assertIs(known_error(Refused(answer)), answer)
        self.assertEqual((known_error(ConfigConflict()) or answer).code, 409)
        for error in (ValueError("x"), OSError("x"), KeyError("x")):
            self.assertIsNone(known_error(error), repr(error))


class DisconnectTests(ApiCase):
    """Clients that leave before their answer is there."""

    def test_waiting_is_cancelled(self) -> None:
        """The handler's waiting is cancelled, and nothing is logged."""
        for method, target, call, body in (
            ("GET", "/cluster", "cluster_document", None),
            ("POST", "/restart", "restart", None),
            ("PATCH", "/config", "patch_config", {"ttl": 20}),
        ):
            cancelled: list[Deferred[Any]] = []
            pending: Deferred[Any] = Deferred(cancelled.append)
            self.use().engine.outcomes[call] = pending
            connection = self.api.begin(method, target, body=body)
            self.assertEqual((connection.received(), cancelled), (b"", []))
            connection.vanish()
            self.assertEqual(cancelled, [pending], target)
            self.assertEqual(len(self.api.api.site.connections), 0)

    def test_others_are_not_disturbed(self) -> None:
        """Who shares the work with one who leaves is answered."""
        self.link.held = True
        gone, stays = self.api.begin("GET", "/primary"), self.api.begin("GET", "/primary")
        gone.vanish()
        self.link.release()
        self.api.clock.advance(0)
        self.link.release()
        self.assertEqual(Reply.parse(stays.received()).code, 200)

    def test_switchover_goes_on(self) -> None:
        """A client that leaves a switchover stops the polling, not the switchover."""
        connection = self.api.begin("POST", "/switchover", body={"leader": "alpha"})
        connection.vanish()
        before = self.engine.begun
        self.api.wait(5)
        self.assertEqual(self.engine.begun, before)
        self.assertEqual(self.engine.called("delete_failover"), [])
