"""Tests of twisted_patroni.web.operations: operations over HTTP."""

from __future__ import annotations

from typing import Any

from tests.doubles import make_cluster
from tests.memory_api import ApiCase, Reply
from tests.test_operations import LATER, LATER_AS_TIME
from twisted_patroni.engine.interface import Candidate, FailoverView, ModeView


class RestartTests(ApiCase):
    """POST and DELETE /restart."""

    def test_restart(self) -> None:
        """The body is optional, and what follows the path is ignored."""
        for target in ("/restart", "/restart/zzz"):
            bodies: tuple[dict[str, Any] | None, ...] = (None, {})
            for body in bodies:
                reply = self.request("POST", target, body=body)
                self.assertReply(reply, 200, "restarted successfully")
        self.assertEqual(self.engine.called("restart"), [[{}]] * 4)

    def test_conditions(self) -> None:
        """The conditions reach the engine, parsed."""
        body = {"role": "replica", "postgres_version": "15.2", "timeout": "1min"}
        self.request("POST", "/restart", body={**body, "restart_pending": True})
        expected = {**body, "timeout": 60, "restart_pending": True}
        self.assertEqual(self.engine.called("restart"), [[expected]])

    def test_refused(self) -> None:
        """Sentences of the engine, and of the validation."""
        self.engine.outcomes["restart"] = (False, "postgres is still starting")
        self.assertReply(self.request("POST", "/restart"), 503, "postgres is still starting")
        self.assertReply(
            self.request("POST", "/restart", body={"role": "master"}),
            400,
            "PostgreSQL role should be either primary, standby_leader, or replica",
        )
        self.assertReply(
            self.request("POST", "/restart", body={"schedule": "2026-06-01T00:00Z"}),
            422,
            "Cannot schedule restart in the past",
        )

    def test_failed(self) -> None:
        """A restart that raises has upstream's answer."""
        self.engine.outcomes["restart"] = OSError("oops")
        self.assertReply(self.request("POST", "/restart"), 400, "restart failed")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_scheduled(self) -> None:
        """A schedule is 202, a second one 409, and one in a pause 500."""
        body = {"schedule": LATER}
        self.assertReply(self.request("POST", "/restart", body=body), 202, "Restart scheduled")
        self.engine.outcomes["schedule_restart"] = False
        already = "Another restart is already scheduled"
        self.assertReply(self.request("POST", "/restart", body=body), 409, already)
        self.engine.dcs = make_cluster(mode=ModeView(paused=True))
        paused = "Can't schedule restart in the paused state"
        self.assertReply(self.request("POST", "/restart", body=body), 500, paused)

    def test_delete(self) -> None:
        """A scheduled restart can be forgotten once."""
        self.assertReply(self.request("DELETE", "/restart"), 200, "scheduled restart deleted")
        self.engine.outcomes["delete_restart"] = False
        self.assertReply(self.request("DELETE", "/restart"), 404, "no restarts are scheduled")


class ReinitializeTests(ApiCase):
    """POST /reinitialize."""

    def test_flags(self) -> None:
        """The two flags are truth values in any spelling; other keys are ignored."""
        rows: list[tuple[dict[str, Any] | None, list[bool]]] = [
            (None, [False, False]),
            ({}, [False, False]),
            ({"force": True}, [True, False]),
            ({"force": "on", "from_leader": "yes"}, [True, True]),
            ({"force": 1, "from_leader": "1"}, [True, True]),
            ({"force": "off", "from_leader": None}, [False, False]),
            ({"force": "perhaps"}, [False, False]),
            ({"from-leader": True, "other": []}, [False, False]),
        ]
        for body, expected in rows:
            self.engine.calls.clear()
            reply = self.request("POST", "/reinitialize", body=body)
            self.assertReply(reply, 200, "reinitialize started")
            self.assertEqual(self.engine.called("reinitialize"), [expected], str(body))

    def test_refused(self) -> None:
        """The engine's reason is the answer."""
        for sentence in (
            "Cluster has no leader, can not reinitialize",
            "I am the leader, can not reinitialize",
            "restart already in progress",
        ):
            self.engine.outcomes["reinitialize"] = sentence
            self.assertReply(self.request("POST", "/reinitialize"), 503, sentence)

    def test_bad_body_wipes_nothing(self) -> None:
        """After a 400 nothing is started, and there is one reply."""
        reply = self.request("POST", "/reinitialize", body=b"{")
        self.assertErrorPage(reply, 400)
        self.assertNotIn(b"HTTP/1.0 200", reply.body)
        self.assertEqual(self.engine.calls, [])


class ChangeOfLeaderTests(ApiCase):
    """POST /switchover and /failover."""

    def test_switchover(self) -> None:
        """The answer comes when the DCS has a new leader."""
        body = {"leader": "alpha", "candidate": "beta"}
        connection = self.api.begin("POST", "/switchover", body=body)
        self.engine.dcs = make_cluster(leader="beta")
        self.assertEqual(connection.received(), b"")
        self.api.wait(1)
        reply = Reply.parse(connection.received())
        self.assertReply(reply, 200, 'Successfully switched over to "beta"')

    def test_failover(self) -> None:
        """A failover has sentences of its own, and candidate is also called member."""
        connection = self.api.begin("POST", "/failover", body={"member": "beta"})
        self.engine.dcs = make_cluster(leader="gamma")
        self.api.wait(1)
        reply = Reply.parse(connection.received())
        self.assertReply(reply, 200, 'Failed over to "gamma" instead of "beta"')
        self.assertEqual(self.engine.called("write_failover"), [[None, "beta", None]])

    def test_unknown(self) -> None:
        """After the deadline the answer is that nobody knows."""
        connection = self.api.begin("POST", "/switchover", body={"leader": "alpha"})
        self.engine.dcs = make_cluster(failover=FailoverView("alpha", None, None))
        self.api.wait(20)
        reply = Reply.parse(connection.received())
        self.assertEqual((reply.code, reply.header("Content-Type")), (503, "text/html"))
        self.assertTrue(reply.body.startswith(b"Switchover status unknown"))

    def test_refused(self) -> None:
        """400, 412 and 503, with their sentences."""
        rows: list[tuple[str, dict[str, Any], int, str]] = [
            (
                "/switchover",
                {"candidate": "beta"},
                400,
                "Switchover could be performed only from a specific leader",
            ),
            (
                "/failover",
                {"leader": "alpha"},
                400,
                "Failover could be performed only to a specific candidate",
            ),
            (
                "/switchover",
                {"leader": "alpha", "candidate": "alpha", "scheduled_at": LATER},
                400,
                "Switchover target and source are the same",
            ),
            ("/switchover", {"leader": "beta"}, 412, "leader name does not match"),
            ("/failover", {"candidate": "delta"}, 412, "candidate does not exists"),
        ]
        for target, body, code, sentence in rows:
            self.assertReply(self.request("POST", target, body=body), code, sentence)
        self.engine.outcomes["write_failover"] = False
        self.assertReply(
            self.request("POST", "/switchover", body={"leader": "alpha"}),
            503,
            "failed to write failover key into DCS",
        )
        self.engine.outcomes["probe"] = [Candidate("beta", "nofailover")]
        reply = self.request("POST", "/switchover", body={"leader": "alpha"})
        self.assertEqual(reply.code, 412)
        self.assertTrue(
            reply.body.startswith(b"switchover is not possible: no good candidates have been found")
        )

    def test_scheduled(self) -> None:
        """A schedule is 202."""
        body = {"leader": "alpha", "scheduled_at": LATER}
        reply = self.request("POST", "/switchover", body=body)
        self.assertReply(reply, 202, "Switchover scheduled")
        self.assertEqual(self.engine.called("write_failover"), [["alpha", None, LATER_AS_TIME]])

    def test_body_is_mandatory(self) -> None:
        """Without a body nothing happens."""
        for target in ("/switchover", "/failover"):
            self.assertErrorPage(self.request("POST", target), 411)
            self.assertErrorPage(self.request("POST", target, body={}), 400)
        self.assertEqual(self.engine.calls, [])


class DeleteSwitchoverTests(ApiCase):
    """DELETE /switchover."""

    def test_scheduled(self) -> None:
        """A scheduled one is removed, by the version that was read."""
        key = FailoverView("alpha", None, LATER_AS_TIME, 9)
        self.engine.dcs = make_cluster(failover=key)
        reply = self.request("DELETE", "/switchover")
        self.assertReply(reply, 200, "scheduled switchover deleted")
        ((deleted,),) = self.engine.called("delete_failover")
        self.assertEqual(deleted.version, 9)

    def test_none(self) -> None:
        """Without a schedule there is nothing to remove, also while one is under way."""
        for failover in (None, FailoverView("alpha", "beta", None)):
            self.engine.dcs = make_cluster(failover=failover)
            reply = self.request("DELETE", "/switchover")
            self.assertReply(reply, 404, "no switchover is scheduled")
        self.assertEqual(self.engine.called("delete_failover"), [])

    def test_not_written(self) -> None:
        """If the key has changed meanwhile that is 409."""
        self.engine.dcs = make_cluster(failover=FailoverView("alpha", None, LATER_AS_TIME, 9))
        self.engine.outcomes["delete_failover"] = False
        self.assertErrorPage(self.request("DELETE", "/switchover"), 409)


class OtherTests(ApiCase):
    """POST /mpp, /citus and /sigterm."""

    def test_mpp(self) -> None:
        """An event is handed over, whatever is in it; both names do the same."""
        event = {"type": "before_demote", "group": 1, "leader": "x", "timeout": 30, "cooldown": 1}
        for target in ("/mpp", "/citus", "/mpp/x"):
            self.assertReply(self.request("POST", target, body=event), 200, "OK")
            self.assertErrorPage(self.request("POST", target), 411)
            self.assertErrorPage(self.request("POST", target, body={}), 400)
        self.assertEqual(self.engine.called("handle_mpp_event"), [[event]] * 3)

    def test_sigterm(self) -> None:
        """It says that it does, and does nothing."""
        self.assertReply(self.request("POST", "/sigterm"), 202, "shutdown scheduled")
        self.assertEqual(self.engine.calls, [])
