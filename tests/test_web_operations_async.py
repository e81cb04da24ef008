"""Tests of web.orders: operations that are asked for and not waited for, or asked for twice."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.doubles import make_cluster
from tests.operationcase import ASYNC, SWITCH, SWITCHED, WAITING, OperationCase
from tests.test_operations import LATER
from twisted_patroni.engine.interface import Candidate, ConfigConflict, DcsUnavailable, LaneFull
from twisted_patroni.tls import ClientCertificate


class AsyncTests(OperationCase):
    """``Prefer: respond-async``."""

    def test_switchover(self) -> None:
        """The answer is the operation, which goes on to its end and tells its steps."""
        path = self.order("POST", "/switchover", SWITCH)
        begun = self.document(path)
        self.assertEqual(
            (begun["kind"], begun["node"], begun["request"], begun["state"], begun["ended"]),
            ("switchover", "alpha", SWITCH, "running", None),
        )
        self.assertEqual((begun["result"], begun["cancellable"]), (None, False))
        self.assertEqual(begun["by"], {"user": None, "certificate": None, "address": "192.0.2.7"})
        self.look(WAITING)
        self.look(make_cluster(leader=None, failover=WAITING.failover))
        self.look(SWITCHED)
        ended = self.document(path)
        self.assertEqual(ended["state"], "succeeded")
        text = 'Successfully switched over to "beta"'
        self.assertEqual(ended["result"], {"status": 200, "text": text})
        self.assertIsNotNone(ended["ended"])
        self.assertEqual(
            self.steps(ended),
            [
                "candidates asked: beta",
                "failover key written",
                "alpha has released the leader key",
                "beta has taken the leader key",
            ],
        )

    def test_polled(self) -> None:
        """The DCS is asked for the outcome as for a client that waits."""
        path = self.order("POST", "/failover", {"candidate": "beta"})
        self.engine.dcs = SWITCHED
        self.api.wait(1)
        self.assertEqual(self.document(path)["state"], "succeeded")

    def test_each_kind(self) -> None:
        """Each request that begins an operation can be asked so."""
        rows: list[tuple[str, str, Any, str]] = [
            ("POST", "/switchover", SWITCH, "switchover"),
            ("POST", "/failover", {"candidate": "beta"}, "failover"),
            ("POST", "/restart", {"timeout": 10}, "restart"),
            ("POST", "/reinitialize", None, "reinitialize"),
            ("POST", "/reload", None, "reload"),
            ("PATCH", "/config", {"ttl": 20}, "config"),
            ("PUT", "/config", {"ttl": 20}, "config"),
        ]
        self.engine.outcomes["restart"] = Deferred()
        for method, target, body, kind in rows:
            document = self.document(self.order(method, target, body))
            self.assertEqual((document["kind"], document["state"]), (kind, "running"), target)
            self.assertEqual(document["request"], body or {}, target)
        self.assertEqual(len(self.api.api.operations.unfinished()), len(rows))

    def test_refused(self) -> None:
        """What is refused at once is answered as it always is, but kept in the book."""
        self.engine.outcomes["probe"] = [Candidate("beta", "lags")]
        rows = [
            ("/switchover", {"candidate": "beta"}, 400, "failed"),
            ("/switchover", {"leader": "beta"}, 412, "failed"),
            ("/switchover", SWITCH, 412, "failed"),
            ("/restart", {"role": "x"}, 400, "failed"),
        ]
        for target, body, code, state in rows:
            reply = self.request("POST", target, ASYNC, body)
            self.assertEqual((reply.code, reply.header("Location")), (code, None), target)
            newest = self.newest()
            self.assertEqual((newest["state"], newest["result"]["status"]), (state, code))
        self.assertEqual(self.steps(self.document(f"/operations/{self.ids()[1]}"))[-1],
                         "beta cannot take over: lags")  # fmt: skip

    def ids(self) -> list[str]:
        """Return the ids of all operations, newest first."""
        return [each["id"] for each in self.request("GET", "/operations").json()["operations"]]

    def test_errors(self) -> None:
        """So is what the engine cannot do: the answer is the usual one."""
        rows: list[tuple[str, str, str, Any, Exception, int]] = [
            ("POST", "/switchover", "look", SWITCH, DcsUnavailable("away"), 503),
            ("POST", "/switchover", "probe", SWITCH, LaneFull("probe", 2), 503),
            ("POST", "/restart", "restart", None, LaneFull("long", 10), 503),
            ("PATCH", "/config", "patch_config", {"ttl": 20}, ConfigConflict(), 409),
        ]
        for method, target, call, body, error, code in rows:
            self.engine.outcomes = {call: error}
            usual = self.request(method, target, body=body)
            reply = self.request(method, target, ASYNC, body)
            self.assertEqual((reply.code, reply.body), (usual.code, usual.body))
            self.assertEqual(reply.code, code)
            self.engine.outcomes = {}
            newest = self.newest()
            self.assertEqual((newest["state"], newest["result"]["status"]), ("failed", code))

    def test_defect(self) -> None:
        """A defect is logged once, answered 500, and told in the operation."""
        self.engine.outcomes["look"] = ValueError("oops")
        self.assertErrorPage(self.request("POST", "/switchover", ASYNC, SWITCH), 500)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.newest()["result"]["status"], 500)
        late: Deferred[Any] = Deferred()
        self.engine.outcomes = {"look": late}
        connection = self.api.begin("POST", "/switchover", ASYNC, SWITCH)
        self.api.wait(2)
        self.assertEqual(self.answer(connection).code, 202)
        late.errback(ValueError("oops"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.newest()["state"], "failed")

    def test_slow_checks(self) -> None:
        """Where it takes long to know whether it is possible, the answer does not wait for it."""
        self.engine.outcomes["look"] = Deferred()
        connection = self.api.begin("POST", "/switchover", ASYNC, SWITCH)
        self.api.wait(1.5)
        self.assertEqual(connection.received(), b"")
        self.api.wait(0.5)
        reply = self.answer(connection)
        self.assertEqual((reply.code, reply.json()["state"]), (202, "accepted"))

    def test_wait(self) -> None:
        """With ``wait`` the end is waited for, and the answer then is the usual one."""
        headers = {"Prefer": "respond-async, wait=5"}
        connection = self.api.begin("POST", "/switchover", headers, SWITCH)
        self.look(WAITING)
        self.api.wait(4)
        self.assertEqual(connection.received(), b"")
        self.look(SWITCHED)
        self.assertReply(self.answer(connection), 200, 'Successfully switched over to "beta"')

    def test_wait_too_short(self) -> None:
        """If the end does not come in time the answer is the operation as it is then."""
        headers = {"Prefer": "respond-async; x, wait=5"}
        connection = self.api.begin("POST", "/switchover", headers, SWITCH)
        self.look(WAITING)
        self.api.wait(5)
        reply = self.answer(connection)
        self.assertEqual((reply.code, reply.json()["state"]), (202, "running"))

    def test_unknown_preferences(self) -> None:
        """Preferences that nobody here knows, and ``wait`` alone, change nothing."""
        headers = {"Prefer": "return=minimal, wait=3"}
        self.assertReply(self.request("POST", "/restart", headers), 200, "restarted successfully")

    def test_malformed(self) -> None:
        """A header that cannot be read is 400 with a sentence, and nothing begins."""
        for headers in ({"Prefer": "respond-async foo"}, {"Idempotency-Key": "a b"}):
            for method, target, body in (
                ("POST", "/restart", None),
                ("POST", "/reload", None),
                ("PATCH", "/config", {"ttl": 20}),
            ):
                reply = self.request(method, target, headers, body)
                self.assertEqual(reply.code, 400)
                self.assertTrue(reply.json()["error"].startswith(next(iter(headers))))
        self.assertEqual((self.engine.calls, self.api.api.operations.documents()), ([], []))

    def test_client_leaves(self) -> None:
        """Nothing of it ends when the client leaves."""
        look: Deferred[Any] = Deferred()
        self.engine.outcomes["look"] = look
        self.api.begin("POST", "/switchover", ASYNC, SWITCH).vanish()
        self.assertEqual(self.newest()["state"], "accepted")
        restart: Deferred[Any] = Deferred(self.fail)
        self.engine.outcomes = {"restart": restart}
        self.api.begin("POST", "/restart", {"Prefer": "respond-async, wait=9"}).vanish()
        self.api.wait(10)
        self.assertEqual(self.newest()["state"], "running")
        restart.callback((True, "restarted successfully"))
        self.assertEqual(self.newest()["state"], "succeeded")


class IdempotencyTests(OperationCase):
    """``Idempotency-Key``."""

    def post(self, key: str, body: Any = SWITCH, target: str = "/switchover", **more: str) -> Any:
        """Begin a request with a key."""
        return self.api.begin("POST", target, {"Idempotency-Key": key, **more}, body)

    def test_waiting(self) -> None:
        """A request that is repeated while the first is under way gets the same answer."""
        first, second = self.post("one"), self.post('"one"')
        self.assertEqual(self.engine.called("write_failover"), [["alpha", "beta", None]])
        self.look(SWITCHED)
        text = 'Successfully switched over to "beta"'
        for connection in (first, second, self.post("one")):
            self.assertReply(self.answer(connection), 200, text)
        self.assertEqual(len(self.engine.called("write_failover")), 1)
        self.assertEqual(len(self.api.api.operations.documents()), 1)

    def test_client_comes_back(self) -> None:
        """Whoever sends a key may leave at any time, and finds the operation again."""
        look: Deferred[Any] = Deferred()
        self.engine.outcomes["look"] = look
        self.post("one").vanish()
        del self.engine.outcomes["look"]
        self.engine.look().chainDeferred(look)
        self.assertEqual(len(self.engine.called("write_failover")), 1)
        connection = self.post("one")
        self.look(SWITCHED)
        self.assertEqual(self.answer(connection).code, 200)
        self.assertEqual(len(self.engine.called("write_failover")), 1)

    def test_async(self) -> None:
        """Without waiting, a repeated request is told the same operation."""
        paths = {self.order("POST", "/switchover", SWITCH, **{"Idempotency-Key": "one"})
                 for _ in range(3)}  # fmt: skip
        self.assertEqual(len(paths), 1)
        self.look(SWITCHED)
        reply = self.request("POST", "/switchover", {**ASYNC, "Idempotency-Key": "one"}, SWITCH)
        self.assertEqual((reply.code, {reply.header("Location")}), (202, paths))
        self.assertEqual(reply.json()["state"], "succeeded")

    def test_unknown_outcome(self) -> None:
        """A repeated request whose outcome is not known yet waits anew, for as long."""
        self.post("one")
        self.look(WAITING)
        self.api.wait(20)
        again = self.post("one")
        self.api.wait(19)
        self.assertEqual(again.received(), b"")
        self.api.wait(1)
        reply = self.answer(again)
        self.assertEqual(reply.code, 503)
        self.assertTrue(reply.body.startswith(b"Switchover status unknown"))
        last = self.post("one")
        self.look(SWITCHED)
        self.assertEqual(self.answer(last).code, 200)

    def test_another_request(self) -> None:
        """The same key with another path or body is 422, whatever has become of the first."""
        self.engine.outcomes["restart"] = True, "restarted successfully"
        self.assertEqual(self.answer(self.post("one", {}, "/restart")).code, 200)
        for body, target in (
            ({"timeout": 5}, "/restart"),
            (None, "/restart"),
            ({}, "/restart/x"),
            ({}, "/reinitialize"),
            (SWITCH, "/switchover"),
        ):
            reply = self.answer(self.post("one", body, target))
            self.assertEqual(reply.code, 422, target)
            self.assertIn("Idempotency-Key", reply.json()["error"])
        self.assertEqual(len(self.engine.called("restart")), 1)

    def test_other_identities(self) -> None:
        """Others may use the same key for what they ask."""
        for name in ("ann", "bob", "ann"):
            shown, headers = ClientCertificate(f"CN={name}"), {"Idempotency-Key": "one"}
            connection = self.api.begin("POST", "/restart", headers, certificate=shown)
            self.assertEqual(self.answer(connection).code, 200)
        self.assertEqual(len(self.engine.called("restart")), 2)
        subjects = [each["by"]["certificate"] for each in self.api.api.operations.documents()]
        self.assertEqual(subjects, ["CN=bob", "CN=ann"])

    def test_nothing_was_done(self) -> None:
        """After an error that came before anything was done, a repeated request begins anew."""
        rows: list[dict[str, Any]] = [
            {"look": DcsUnavailable("x")},
            {"write_failover": LaneFull("write", 2)},
        ]
        for outcomes in rows:
            self.engine.outcomes = outcomes
            self.assertEqual(self.answer(self.post("one")).code, 503)
        self.engine.outcomes = {}
        connection = self.post("one")
        self.look(SWITCHED)
        self.assertEqual(self.answer(connection).code, 200)

    def test_perhaps_something_was_done(self) -> None:
        """After one that may have come later, the same answer is given again."""
        self.engine.outcomes["write_failover"] = DcsUnavailable("x")
        for _ in range(2):
            self.assertEqual(self.answer(self.post("one")).code, 503)
        self.assertEqual(len(self.engine.called("write_failover")), 1)

    def test_refusals(self) -> None:
        """A refusal is repeated, too."""
        for _ in range(2):
            reply = self.answer(self.post("one", {"leader": "beta"}))
            self.assertReply(reply, 412, "leader name does not match")
        self.assertEqual(len(self.api.api.operations.documents()), 1)

    def test_configuration(self) -> None:
        """The answer to a change of the configuration is the same document."""
        headers = {"Idempotency-Key": "one"}
        replies = [self.request("PATCH", "/config", headers, {"ttl": 20}) for _ in range(2)]
        self.assertEqual([reply.json() for reply in replies], [{"ttl": 20}] * 2)
        self.assertEqual(len(self.engine.called("patch_config")), 1)

    def test_scheduled(self) -> None:
        """A schedule is written once."""
        for _ in range(2):
            body = {"leader": "alpha", "scheduled_at": LATER}
            self.assertReply(self.answer(self.post("one", body)), 202, "Switchover scheduled")
        self.assertEqual(len(self.engine.called("write_failover")), 1)
