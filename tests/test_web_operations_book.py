"""Tests of web.operation_book: operations that are looked at, waited for and cancelled."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.doubles import make_cluster, make_node
from tests.memory_api import Reply
from tests.operationcase import SWITCH, SWITCHED, WAITING, OperationCase
from tests.test_operations import LATER, LATER_AS_TIME
from twisted_patroni.engine.interface import FailoverView
from twisted_patroni.operations import KEPT, MOST_UNFINISHED

SCHEDULE = {"leader": "alpha", "candidate": "beta", "scheduled_at": LATER}
SCHEDULED = make_cluster(failover=FailoverView("alpha", "beta", LATER_AS_TIME, 9))


class IndexTests(OperationCase):
    """GET /operations."""

    def test_empty(self) -> None:
        """Without any there are none, and the history is there all the same."""
        line = [3, 1234, "no recovery target specified", "2026-06-30T12:00:00+00:00", "alpha"]
        self.engine.view = make_node(cluster=make_cluster(history=[line[:3], line]))
        reply = self.request("GET", "/operations")
        self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
        names = ("timeline", "lsn", "reason", "time", "leader")
        short = dict(zip(names, [*line[:3], None, None], strict=True))
        expected = {"operations": [], "history": [short, dict(zip(names, line, strict=True))]}
        self.assertEqual(reply.json(), expected)

    def test_synchronous(self) -> None:
        """Requests whose clients wait are there, too, newest first."""
        self.request("POST", "/restart", body={"role": "replica"})
        self.request("POST", "/reinitialize")
        self.request("PATCH", "/config", body={"ttl": 20})
        self.request("POST", "/switchover", body={"leader": "x"})
        shown = [
            (
                each["kind"],
                each["state"],
                each["request"],
                each["result"] and each["result"]["text"],
            )
            for each in self.request("GET", "/operations").json()["operations"]
        ]
        self.assertEqual(
            shown,
            [
                ("switchover", "failed", {"leader": "x"}, "leader name does not match"),
                ("config", "succeeded", {"ttl": 20}, "configuration written"),
                ("reinitialize", "running", {}, None),
                ("restart", "succeeded", {"role": "replica"}, "restarted successfully"),
            ],
        )

    def test_no_operations(self) -> None:
        """What has no JSON that can be read begins nothing, and neither do other requests."""
        self.request("POST", "/switchover", body=b"{")
        self.request("POST", "/restart", body=b"[]")
        self.request("GET", "/config")
        self.request("DELETE", "/restart")
        self.request("POST", "/sigterm")
        self.assertEqual(self.request("GET", "/operations").json()["operations"], [])

    def test_wait(self) -> None:
        """One can wait for one of them, not for all."""
        reply = self.request("GET", "/operations?wait=1")
        self.assertEqual(reply.code, 400)
        self.assertIn("wait", reply.json()["error"])

    def test_head(self) -> None:
        """HEAD has the status of GET."""
        self.assertEqual(self.request("HEAD", "/operations").code, 200)
        self.assertEqual(self.request("HEAD", "/operations/x").code, 404)

    def test_bounded(self) -> None:
        """The last ones are kept, and what has not ended is never dropped."""
        held: Deferred[Any] = Deferred()
        self.engine.outcomes["restart"] = held
        path = self.order("POST", "/restart")
        self.engine.outcomes = {}
        for _ in range(KEPT + 5):
            self.request("POST", "/restart")
        listed = self.request("GET", "/operations").json()["operations"]
        self.assertEqual(len(listed), KEPT)
        self.assertEqual(self.document(path)["state"], "running")

    def test_too_many(self) -> None:
        """No more than a hundred are on their way; the next are refused, and say so."""
        self.engine.outcomes["restart"] = Deferred()
        paths = [self.order("POST", "/restart") for _ in range(MOST_UNFINISHED)]
        for headers in ({"Prefer": "respond-async"}, {}):
            reply = self.request("POST", "/reload", headers)
            self.assertEqual((reply.code, reply.header("Retry-After")), (429, "10"))
            self.assertIn("too many", reply.json()["error"])
        self.assertEqual(self.engine.called("reload"), [])
        self.assertEqual(len({*paths}), MOST_UNFINISHED)

    def test_long_request(self) -> None:
        """Of a request that is too long only the keys are kept."""
        config = {"ttl": 30, "x" * 100: "y" * 5000}
        self.request("PUT", "/config", body=config)
        shown = self.newest()["request"]
        self.assertEqual(set(shown), {"omitted", "keys"})
        self.assertEqual(shown["keys"], ["ttl", "x" * 40])

    def test_no_json(self) -> None:
        """A request that JSON has no number for is not shown, so that events can be read."""
        self.request("POST", "/restart", body=b'{"timeout": 1e999}')
        self.assertEqual(list(self.newest()["request"]), ["omitted"])


class ShowTests(OperationCase):
    """GET /operations/<id>."""

    def test_unknown(self) -> None:
        """An id that nobody knows is 404, as JSON."""
        for method in ("GET", "DELETE"):
            reply = self.request(method, "/operations/op-0123")
            self.assertEqual((reply.code, list(reply.json())), (404, ["error"]))

    def test_wait(self) -> None:
        """With ``wait`` the answer comes at the end, not later."""
        path = self.order("POST", "/switchover", SWITCH)
        waiting = [self.api.begin("GET", f"{path}?wait=60") for _ in range(3)]
        self.look(WAITING)
        self.assertEqual([each.received() for each in waiting], [b""] * 3)
        self.look(SWITCHED)
        for each in waiting:
            self.assertEqual(self.answer(each).json()["state"], "succeeded")
        self.assertEqual(self.document(f"{path}?wait=60")["state"], "succeeded")

    def test_wait_ends(self) -> None:
        """Or after that time, with the operation as it is."""
        path = self.order("POST", "/switchover", SWITCH)
        self.look(WAITING)
        for seconds in ("2", "1.5", "0"):
            connection = self.api.begin("GET", f"{path}?wait={seconds}")
            self.api.wait(float(seconds))
            self.assertEqual(self.answer(connection).json()["state"], "running", seconds)

    def test_leaving(self) -> None:
        """A client that leaves ends its own waiting only."""
        path = self.order("POST", "/switchover", SWITCH)
        stays = self.api.begin("GET", f"{path}?wait=60")
        self.api.begin("GET", f"{path}?wait=60").vanish()
        self.look(SWITCHED)
        self.assertEqual(self.answer(stays).json()["state"], "succeeded")

    def test_bad_wait(self) -> None:
        """Any other ``wait`` is 400."""
        path = self.order("POST", "/switchover", SWITCH)
        for text in ("61", "-1", "soon", "1e1", "60.1", "%C2%B2", "1." + "0" * 9):
            reply = self.request("GET", f"{path}?wait={text}")
            self.assertEqual(reply.code, 400, text)
            self.assertTrue(reply.json()["error"].startswith("wait: "), text)

    def test_events(self) -> None:
        """Each change is an event with the document as it was then."""
        self.order("POST", "/switchover", SWITCH)
        self.look(SWITCHED)
        published = self.published()
        self.assertEqual([each["state"] for each in published],
                         ["accepted", "accepted", "running", "running", "succeeded"])  # fmt: skip
        self.assertEqual([len(each["steps"]) for each in published], [0, 1, 2, 3, 3])
        self.assertEqual(published[-1], self.newest())
        self.assertEqual(self.api.api.operations.unfinished(), [])

    def test_metrics(self) -> None:
        """Operations are counted by kind and end."""
        self.request("POST", "/restart")
        text = self.request("GET", "/metrics").body.decode()
        name = "twisted_patroni_operations_total"
        self.assertIn(f'{name}{{kind="restart",state="succeeded"}} 1.0', text)
        self.assertIn(f'{name}{{kind="switchover",state="unknown"}} 0.0', text)
        self.assertIn("twisted_patroni_operations_unfinished 0.0", text)


class AccessTests(OperationCase):
    """Who may look, and who may cancel."""

    def test_cancelling_is_checked(self) -> None:
        """Cancelling needs what operating needs; looking is free where reads are."""
        self.use(allowlist=["10.0.0.0/8"])
        self.assertEqual(self.request("GET", "/operations").code, 200)
        self.assertEqual(self.request("DELETE", "/operations/x").code, 403)
        self.assertEqual(self.request("DELETE", "/operations/x", client="10.1.1.1").code, 404)


class CancelTests(OperationCase):
    """DELETE, of operations and of schedules."""

    def schedule(self) -> str:
        """Schedule a switchover and return where it is."""
        path = self.order("POST", "/switchover", SCHEDULE)
        self.look(SCHEDULED)
        return path

    def test_switchover(self) -> None:
        """A scheduled one is removed from the DCS, by the version that was read, and cancelled."""
        path = self.schedule()
        before = self.document(path)
        self.assertEqual((before["state"], before["cancellable"]), ("accepted", True))
        self.assertEqual(before["scheduled_at"], LATER)
        reply = self.request("DELETE", path)
        self.assertEqual((reply.code, reply.json()), (200, self.document(path)))
        self.assertEqual((reply.json()["state"], reply.json()["cancellable"]), ("cancelled", False))
        ((deleted,),) = self.engine.called("delete_failover")
        self.assertEqual(deleted.version, 9)
        again = self.request("DELETE", path)
        self.assertEqual((again.code, list(again.json())), (409, ["error"]))

    def test_by_the_old_way(self) -> None:
        """``DELETE /switchover`` cancels the operation, too."""
        path = self.schedule()
        reply = self.request("DELETE", "/switchover")
        self.assertReply(reply, 200, "scheduled switchover deleted")
        self.assertEqual(self.document(path)["state"], "cancelled")

    def test_elsewhere(self) -> None:
        """So does whoever removes it through another node, before its time."""
        path = self.schedule()
        self.look(make_cluster())
        document = self.document(path)
        self.assertEqual((document["state"], document["result"]["text"]),
                         ("cancelled", "The scheduled switchover was deleted"))  # fmt: skip

    def test_not_removed(self) -> None:
        """If the key has changed meanwhile, or is gone, that is 409, and it is still scheduled."""
        path = self.schedule()
        self.engine.outcomes["delete_failover"] = False
        self.assertEqual(self.request("DELETE", path).code, 409)
        self.assertEqual(self.document(path)["state"], "accepted")

    def test_replaced(self) -> None:
        """Another request's key is left alone."""
        path = self.schedule()
        key = SCHEDULED.failover
        assert key is not None
        self.engine.dcs = evolve(SCHEDULED, failover=evolve(key, candidate="gamma"))
        self.assertEqual(self.request("DELETE", path).code, 409)
        self.assertEqual(self.engine.called("delete_failover"), [])
        document = self.document(path)
        self.assertEqual(document["state"], "failed")
        self.assertIn("Another request", document["result"]["text"])

    def test_restart(self) -> None:
        """A scheduled restart is cancelled in either way."""
        for target in ("/restart", None):
            self.engine.view = make_node(scheduled_restart={"schedule": LATER})
            path = self.order("POST", "/restart", {"schedule": LATER})
            self.assertTrue(self.document(path)["cancellable"])
            self.assertEqual(self.request("DELETE", target or path).code, 200)
            self.assertEqual(self.document(path)["state"], "cancelled")
        self.assertEqual(len(self.engine.called("delete_restart")), 2)

    def test_restart_gone(self) -> None:
        """One that is not there any more cannot be cancelled."""
        self.engine.view = make_node(scheduled_restart={"schedule": LATER})
        path = self.order("POST", "/restart", {"schedule": LATER})
        self.engine.outcomes["delete_restart"] = False
        self.assertEqual(self.request("DELETE", path).code, 409)

    def test_too_late(self) -> None:
        """What is under way is not cancelled."""
        path = self.order("POST", "/switchover", SWITCH)
        reply = self.request("DELETE", path)
        self.assertEqual(reply.code, 409)
        self.assertIn("running", reply.json()["error"])
        self.assertEqual(self.engine.called("delete_failover"), [])


class ClientTests(OperationCase):
    """Clients that wait as ever, and leave."""

    def test_before_anything_is_written(self) -> None:
        """What was done for a client alone ends with it."""
        for call in ("look", "probe"):
            cancelled: list[Deferred[Any]] = []
            self.engine.outcomes = {call: Deferred(cancelled.append)}
            connection = self.api.begin("POST", "/switchover", body=SWITCH)
            connection.vanish()
            self.assertEqual(len(cancelled), 1)
            self.assertEqual(self.newest()["state"], "cancelled")
        self.assertEqual(self.engine.called("write_failover"), [])

    def test_after_the_key_is_written(self) -> None:
        """After that it is followed to its end, without asking the DCS for that."""
        self.api.begin("POST", "/switchover", body=SWITCH).vanish()
        before = self.engine.begun
        self.api.wait(30)
        self.assertEqual((self.engine.begun, self.newest()["state"]), (before, "running"))
        self.look(SWITCHED)
        self.assertEqual(self.newest()["state"], "succeeded")

    def test_while_the_key_is_written(self) -> None:
        """A write that had begun is followed, one that had not ends with its client."""
        for cluster, state in ((SWITCHED, "succeeded"), (make_cluster(), "cancelled")):
            cancelled: list[Deferred[Any]] = []
            self.engine.outcomes = {"write_failover": Deferred(cancelled.append)}
            self.engine.dcs = make_cluster()
            self.api.begin("POST", "/switchover", body=SWITCH).vanish()
            self.assertEqual(len(cancelled), 1)
            self.api.wait(2)
            self.look(cluster)
            self.assertEqual(self.newest()["state"], state)

    def test_unknown(self) -> None:
        """Who is told that nobody knows can look later, for ten minutes."""
        connection = self.api.begin("POST", "/switchover", body=SWITCH)
        self.engine.dcs = WAITING
        self.api.wait(20)
        self.assertEqual(Reply.parse(connection.received()).code, 503)
        self.assertEqual(self.newest()["state"], "running")
        self.assertIn("20 seconds", self.newest()["steps"][-1]["text"])
        before = self.engine.begun
        self.api.clock.pump([5.0] * 119)
        self.assertEqual((self.engine.begun, self.newest()["state"]), (before, "running"))
        self.api.clock.pump([5.0] * 2)
        self.assertEqual(self.newest()["state"], "unknown")

    def test_shutdown(self) -> None:
        """At the end of the API nothing is left to be done."""
        self.order("POST", "/switchover", SWITCH)
        self.order("POST", "/reload")
        path = self.order("PATCH", "/config", {"ttl": 20})
        documents = self.api.api.operations
        operation = documents.find(path.rpartition("/")[2])
        self.api.api.close()
        self.api.wait(5)
        assert operation is not None
        self.assertEqual(operation.state, "unknown")
        self.assertEqual(documents.unfinished(), [])
        self.assertEqual(self.api.clock.getDelayedCalls(), [])
