"""Tests of what a node is asked to begin, to foresee and to leave to others, by known answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.nodecase import NODE, NodeCase
from twisted_patroni.client import errors
from twisted_patroni.client.outcomes import Eligibility
from twisted_patroni.client.values import Drain, Operation

AT = datetime(2026, 11, 22, 3, tzinfo=UTC)
RUNNING = {"id": "op-1", "kind": "switchover", "state": "running", "result": None}
ENDED = {**RUNNING, "state": "succeeded", "result": {"status": 200, "text": "done"}}
ASYNC = {"Accept": "application/json", "Prefer": "respond-async"}
#: What upstream's own daemon says of a path that it does not know.
UNKNOWN = (503, {"state": "running", "role": "primary", "patroni": {"name": "a"}})
NOT_THERE = {"error": "there is no such operation, or no more"}


class BeginTests(NodeCase):
    """Operations that are begun."""

    def test_begun(self) -> None:
        """Each goes where it belongs, and what comes back is the operation."""
        begin = self.node.begin
        for asking, expected in (
            (
                begin.switchover("a", "b"),
                ("POST", "/switchover", {"leader": "a", "candidate": "b"}),
            ),
            (
                begin.switchover("a", at=AT),
                ("POST", "/switchover", {"leader": "a", "scheduled_at": AT.isoformat()}),
            ),
            (begin.failover("b"), ("POST", "/failover", {"candidate": "b"})),
            (begin.restart(role="replica"), ("POST", "/restart", {"role": "replica"})),
            (
                begin.reinitialize(force=True),
                ("POST", "/reinitialize", {"force": True, "from_leader": False}),
            ),
            (begin.reload(), ("POST", "/reload", None)),
            (begin.patch_config({"ttl": 20}), ("PATCH", "/config", {"ttl": 20})),
            (begin.replace_config({"ttl": 20}), ("PUT", "/config", {"ttl": 20})),
        ):
            self.answers(202, RUNNING)
            self.assertEqual(self.get(asking), Operation.of(RUNNING))
            self.assertEqual(self.last()[:3], expected)
            self.assertEqual(self.last()[3]["headers"], ASYNC)

    def test_key(self) -> None:
        """A request can be made one that may be repeated."""
        self.answers(202, RUNNING)
        self.get(self.node.begin.restart(key="maintenance-4711", timeout=3.0))
        more = self.last()[3]
        self.assertEqual(more["headers"], {**ASYNC, "Idempotency-Key": "maintenance-4711"})
        self.assertEqual(more["timeout"], 3.0)

    def test_refused(self) -> None:
        """What the node refuses at once is an error, with its reasons."""
        told = [{"name": "b", "eligible": False, "reason": "nofailover"}]
        self.answers(412, {"error": "not possible", "candidates": told})
        error = self.fails(self.node.begin.failover("b"), errors.PreconditionFailed)
        self.assertEqual(error.candidates, (Eligibility("b", False, "nofailover"),))
        self.answers(422, {"error": "Idempotency-Key: it belongs to another request"})
        self.fails(self.node.begin.reload(key="x"), errors.Refused)

    def test_upstream(self) -> None:
        """Upstream's own daemon has done it, or tells nothing of the end; nobody waits for that."""
        for status, content, state, text in (
            (200, "restarted successfully", "succeeded", "restarted successfully"),
            (202, "reload scheduled", "unknown", "reload scheduled"),
        ):
            self.answers(status, content)
            operation = self.get(self.node.begin.restart())
            self.assertEqual((operation.id, operation.kind), ("", "restart"))
            self.assertEqual((operation.state, operation.text), (state, text))
            self.assertIs(self.get(self.node.wait(operation)), operation)
        self.answers(200, {"ttl": 20, "id": "op-x"})
        operation = self.get(self.node.begin.patch_config({"ttl": 20}))
        self.assertEqual((operation.id, operation.succeeded), ("", True))


class WaitTests(NodeCase):
    """Operations that are waited for, and called off."""

    def test_wait(self) -> None:
        """It asks again until the end, and no longer than it may take."""
        self.answers(200, RUNNING)
        self.answers(200, ENDED)
        found = self.get(self.node.wait(Operation.of(RUNNING), timeout=90.0))
        self.assertEqual(found, Operation.of(ENDED))
        asked = [each[1] for each in self.pool.asked]
        self.assertEqual(asked, ["/operations/op-1?wait=60"] * 2)
        self.answers(200, ENDED)
        self.get(self.node.wait("op-1", timeout=30.0))
        self.assertEqual(self.last()[1], "/operations/op-1?wait=30")

    def test_ended(self) -> None:
        """One that has ended is not asked for."""
        ended = Operation.of(ENDED)
        self.assertIs(self.get(self.node.wait(ended)), ended)
        self.assertEqual(self.pool.asked, [])

    def test_too_late(self) -> None:
        """Time is up at last, whatever goes on."""
        self.fails(self.node.wait("op-1", timeout=0.0), errors.TimedOut)

    def test_cancel(self) -> None:
        """It is called off, or it is too late for that."""
        self.answers(200, {**RUNNING, "state": "cancelled"})
        found = self.get(self.node.cancel_operation(Operation.of(RUNNING)))
        self.assertEqual(found.state, "cancelled")
        self.assertEqual(self.last()[:2], ("DELETE", "/operations/op-1"))
        self.answers(409, {"error": "too late"})
        self.fails(self.node.cancel_operation("op-1"), errors.Conflict)

    def test_strange_id(self) -> None:
        """An id cannot lead elsewhere."""
        self.answers(404, NOT_THERE)
        self.fails(self.node.cancel_operation("../restart?x"), errors.NotFound)
        self.assertEqual(self.last()[1], "/operations/..%2Frestart%3Fx")


class ForeseeTests(NodeCase):
    """Forecasts."""

    def test_forecast(self) -> None:
        """It tells what would happen, after the node has shown that it can."""
        foresee = self.node.foresee
        told = [{"name": "b", "eligible": True, "reason": None}]
        for asking, path, body in (
            (foresee.switchover("a", at=AT), "/switchover", {"leader": "a",
                                                             "scheduled_at": AT.isoformat()}),
            (foresee.failover("b"), "/failover", {"candidate": "b"}),
            (foresee.restart(), "/restart", {}),
            (
                foresee.reinitialize(),
                "/reinitialize",
                {"force": False, "from_leader": False},
            ),
        ):  # fmt: skip
            self.answers(404, NOT_THERE)
            self.answers(
                200, {"possible": False, "reason": "because", "candidates": told, "leader": "a"}
            )
            forecast = self.get(asking)
            self.assertEqual((forecast.possible, forecast.reason), (False, "because"))
            self.assertEqual(forecast.candidates, (Eligibility("b", True),))
            self.assertEqual(self.last()[:3], ("POST", f"{path}?dry_run=true", body))

    def test_upstream(self) -> None:
        """A node that may not know dry runs is asked nothing that it could do."""
        for status, content, error in (
            (*UNKNOWN, errors.NotSupported),
            (501, "page", errors.NotSupported),
            (404, "<html>no such page</html>", errors.NotFound),
            (200, "<html>login</html>", errors.BrokenAnswer),
            (401, "no auth header received", errors.Unauthorized),
            (503, {"error": "too much to do"}, errors.Unavailable),
        ):
            self.answers(status, content)
            self.fails(self.node.foresee.restart(), error)
            self.assertEqual(self.last()[:2], ("GET", "/operations/none"))
        self.assertEqual(len(self.pool.asked), 6)

    def test_invalid(self) -> None:
        """What is no valid request is refused as always, and what is no forecast is no answer."""
        self.answers(404, NOT_THERE)
        self.answers(400, "Switchover target and source are the same")
        self.fails(self.node.foresee.switchover("a", "a"), errors.Refused)
        self.answers(404, NOT_THERE)
        self.answers(200, "restarted successfully")
        self.fails(self.node.foresee.restart(), errors.BrokenAnswer)


class DrainTests(NodeCase):
    """Nodes that load balancers are to leave."""

    def test_drain(self) -> None:
        """The end may be a time, a duration or seconds."""
        document = {"since": AT.isoformat(), "owner": "joe", "reason": "kernel", "expires": None,
                    "primary": True}  # fmt: skip
        for expires, sent in (
            (AT, AT.isoformat()),
            (timedelta(minutes=30), 1800.0),
            ("30min", "30min"),
            (1800, 1800),
        ):
            self.answers(200, document)
            asking = self.node.drain("kernel", owner="joe", expires=expires, primary=True)
            self.assertEqual(self.get(asking), Drain(AT, "joe", "kernel", None, True))
            body = {"reason": "kernel", "owner": "joe", "expires": sent, "primary": True}
            self.assertEqual(self.last()[:3], ("POST", "/drain", body))
        self.answers(200, document)
        self.get(self.node.drain())
        self.assertEqual(self.last()[2], {"primary": False})

    def test_drained(self) -> None:
        """There is a drain, or there is none."""
        for asking, method in ((self.node.drained, "GET"), (self.node.undrain, "DELETE")):
            self.answers(200, {"reason": "kernel"})
            self.assertEqual(self.get(asking()), Drain(reason="kernel"))
            self.assertEqual(self.last()[:2], (method, "/drain"))
            self.answers(404, {"error": "this node is not drained"})
            self.assertIsNone(self.get(asking()))
            self.answers(404, "<html>no such page</html>")
            self.fails(asking(), errors.BrokenAnswer)

    def test_upstream(self) -> None:
        """Upstream's own daemon knows nothing of it, nor of operations."""
        for asking, answer in (
            (self.node.drain, (501, "<html>")),
            (self.node.undrain, (501, "<html>")),
            (self.node.drained, UNKNOWN),
            (self.node.operations, UNKNOWN),
        ):
            self.answers(*answer)
            error = self.fails(asking(), errors.NotSupported)
            self.assertIn("is not known to the node's daemon", str(error))


class CheckTests(NodeCase):
    """Health checks, and who else may answer them."""

    def test_all(self) -> None:
        """Each question has its path; bounds and tags are sent along."""
        node = self.node
        for asking, path in (
            (node.is_primary(), "/primary"),
            (node.is_read_write(), "/read-write"),
            (node.is_leader(), "/leader"),
            (node.is_standby_leader(), "/standby-leader"),
            (node.is_replica(1024, {"nosync": True}), "/replica?lag=1024&tag_nosync=true"),
            (
                node.is_replica(replication_state="in archive recovery"),
                "/replica?replication_state=in+archive+recovery",
            ),
            (node.is_read_only("1.5MB", {"zone": "x"}), "/read-only?lag=1.5MB&tag_zone=x"),
            (node.is_synchronous(), "/sync"),
            (node.is_asynchronous(), "/async"),
            (node.is_quorum(), "/quorum"),
            (node.is_read_only_synchronous(), "/read-only-sync"),
            (node.is_read_only_quorum(), "/read-only-quorum"),
            (node.is_healthy(), "/health"),
            (node.is_alive(), "/liveness"),
            (node.is_ready("16MB", "write"), "/readiness?lag=16MB&mode=write"),
        ):
            status = 503 if "sync" in path else 200
            self.answers(status, {"state": "running"})
            self.assertIs(self.get(asking), status == 200)
            self.assertEqual(self.last()[:2], ("GET", path))

    def test_lag(self) -> None:
        """An amount that nodes take for none at all is not sent."""
        for lag in ("10mb", "1KB", "1MiB", "5s", "", "MB", True, "1 000"):
            error = self.fails(self.node.is_replica(lag), ValueError)
            self.assertIn("lag: ", str(error))
        self.assertEqual(self.pool.asked, [])

    def test_proxy(self) -> None:
        """A page of a proxy is neither a yes nor a no."""
        for status in (200, 503):
            self.answers(status, "<html>please log in</html>")
            self.fails(self.node.is_primary(), errors.BrokenAnswer)
        self.answers(503, "<html>no backend</html>")
        self.fails(self.node.is_alive(), errors.BrokenAnswer)
        self.answers(502, "<html>bad gateway</html>")
        self.assertIn("answers 502", str(self.fails(self.node.is_primary(), errors.Refused)))

    def test_busy(self) -> None:
        """Nor is a node that has too much to do."""
        self.answers(503, {"error": "too many requests"})
        error = self.fails(self.node.is_primary(), errors.Unavailable)
        self.assertEqual(str(error), f"{NODE}/primary answers 503: too many requests")

    def test_failsafe(self) -> None:
        """The members that failsafe mode asks are known, or it is off."""
        self.answers(200, {"a": f"{NODE}/patroni"})
        self.assertEqual(self.get(self.node.failsafe()), {"a": f"{NODE}/patroni"})
        self.answers(502, "<html>Error code: 502")
        self.assertIsNone(self.get(self.node.failsafe()))
        self.answers(502, "<html>Bad Gateway")
        self.fails(self.node.failsafe(), errors.Refused)
        self.answers(200, [])
        self.fails(self.node.failsafe(), errors.BrokenAnswer)
