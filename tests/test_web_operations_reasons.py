"""Tests of web.operations: why something is not possible, and what would happen."""

from __future__ import annotations

from typing import Any

from tests.doubles import MEMBERS, make_cluster, make_node, make_replica
from tests.operationcase import SWITCH, OperationCase
from tests.test_operations import LATER, SYNC
from twisted_patroni.engine.interface import Candidate, LaneFull, MemberView, ModeView

JSON = {"Accept": "application/json"}


class ReasonTests(OperationCase):
    """Refusals, for clients that ask for JSON."""

    def refused(self, body: dict[str, Any], target: str = "/switchover") -> dict[str, Any]:
        """Return the document of a refusal, after a look at what others get."""
        usual = self.request("POST", target, body=body)
        self.assertEqual((usual.code, usual.header("Content-Type")), (412, "text/html"))
        reply = self.request("POST", target, JSON, body)
        self.assertEqual((reply.code, reply.header("Content-Type")), (412, "application/json"))
        document: dict[str, Any] = reply.json()
        self.assertEqual(document["error"], usual.body.decode())
        self.assertEqual(self.engine.called("write_failover"), [])
        return document

    def test_what_members_say(self) -> None:
        """The reason of each is what it said itself."""
        self.engine.outcomes["probe"] = [
            Candidate("beta", "not allowed to promote"),
            Candidate("gamma", "not reachable"),
        ]
        document = self.refused({"leader": "alpha"})
        self.assertEqual(
            document,
            {
                "error": "switchover is not possible: no good candidates have been found",
                "action": "switchover",
                "candidates": [
                    {"name": "beta", "eligible": False, "reason": "not allowed to promote"},
                    {"name": "gamma", "eligible": False, "reason": "not reachable"},
                ],
            },
        )

    def reasons(self, document: dict[str, Any]) -> dict[str, str | None]:
        """Return the reason of each candidate, after a look whether it fits."""
        for each in document["candidates"]:
            self.assertEqual(each["eligible"], each["reason"] is None)
        return {each["name"]: each["reason"] for each in document["candidates"]}

    def test_others_could(self) -> None:
        """Who could take over instead is told, too."""
        self.engine.outcomes["probe"] = [Candidate("beta", "lags"), Candidate("gamma", None)]
        found = self.reasons(self.refused({"candidate": "delta"}, "/failover"))
        self.assertEqual(
            found, {"beta": "lags", "gamma": None, "delta": "not a member of the cluster"}
        )
        self.engine.outcomes["probe"] = [Candidate("beta", None), Candidate("gamma", None)]
        found = self.reasons(self.refused({"leader": "beta", "candidate": "alpha"}))
        self.assertEqual(found, {"alpha": "is the leader", "beta": None, "gamma": None})

    def test_sync(self) -> None:
        """Where standbys are synchronous, only those may take over by a switchover."""
        self.engine.dcs = make_cluster(mode=SYNC, sync_members=frozenset({"gamma"}))
        found = self.reasons(self.refused({"leader": "alpha", "candidate": "beta"}))
        assert found["beta"] is not None
        self.assertIn("sync_standby", found["beta"])
        self.assertIsNone(found["gamma"])

    def test_no_address(self) -> None:
        """A member without an address could not be asked."""
        members = (MEMBERS[0], MemberView("beta", None))
        self.engine.dcs = make_cluster(members=members)
        found = self.reasons(self.refused({"leader": "alpha"}))
        self.assertEqual(found, {"beta": "has not published the address of its REST API"})

    def test_nobody_can_be_asked(self) -> None:
        """If there is no way to ask, that is the reason."""
        self.engine.outcomes["probe"] = LaneFull("probe", 2)
        reply = self.request("POST", "/switchover", JSON, {"leader": "beta"})
        self.assertEqual(reply.code, 412)
        reasons = {each["reason"] for each in reply.json()["candidates"]}
        self.assertEqual(reasons, {"could not be asked: the probe lane is full"})

    def test_who_asks_for_json(self) -> None:
        """Only who names it, and does not refuse it."""
        rows = {
            "application/json": True,
            "text/html, application/json;q=0.5": True,
            "Application/JSON; charset=utf-8": True,
            "*/*": False,
            "application/*": False,
            "text/html": False,
            "application/json;q=0": False,
            "application/json; q=0.000": False,
            "application/jsonx": False,
            "": False,
        }
        for accept, expected in rows.items():
            reply = self.request("POST", "/switchover", {"Accept": accept}, {"leader": "x"})
            wanted = "application/json" if expected else "text/html"
            self.assertEqual(reply.header("Content-Type"), wanted, accept)

    def test_other_answers(self) -> None:
        """What is not about candidates stays as it is."""
        reply = self.request("POST", "/switchover", JSON, {"candidate": "x"})
        sentence = "Switchover could be performed only from a specific leader"
        self.assertReply(reply, 400, sentence)


class DryRunTests(OperationCase):
    """``?dry_run=true``."""

    def foresee(self, target: str, body: Any = None) -> dict[str, Any]:
        """Return what would happen, after a look that nothing has."""
        reply = self.request("POST", f"{target}?dry_run=true", body=body)
        self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
        effects = ("write_failover", "restart", "schedule_restart", "reinitialize")
        self.assertEqual([self.engine.called(each) for each in effects], [[]] * 4)
        self.assertEqual(self.api.api.operations.documents(), [])
        document: dict[str, Any] = reply.json()
        return document

    def test_switchover(self) -> None:
        """Possible, with everybody who could take over."""
        self.engine.outcomes["probe"] = [Candidate("beta", None), Candidate("gamma", "lags")]
        self.assertEqual(
            self.foresee("/switchover", SWITCH),
            {
                "possible": True,
                "action": "switchover",
                "leader": "alpha",
                "candidate": "beta",
                "candidates": [
                    {"name": "beta", "eligible": True, "reason": None},
                    {"name": "gamma", "eligible": False, "reason": "lags"},
                ],
                "reason": None,
                "scheduled_at": None,
            },
        )

    def test_not_possible(self) -> None:
        """The reason is the sentence of the refusal."""
        found = self.foresee("/switchover", {"leader": "beta"})
        self.assertEqual(
            (found["possible"], found["reason"]), (False, "leader name does not match")
        )
        found = self.foresee("/failover", {"candidate": "delta"})
        self.assertEqual((found["possible"], found["reason"]), (False, "candidate does not exists"))
        self.assertEqual((found["action"], found["candidate"]), ("failover", "delta"))

    def test_scheduled(self) -> None:
        """A schedule is accepted in any case; what would be in its way now is told."""
        body = {"leader": "beta", "scheduled_at": LATER}
        found = self.foresee("/switchover", body)
        self.assertEqual((found["possible"], found["scheduled_at"]), (True, LATER))
        self.assertEqual(found["reason"], "leader name does not match")

    def test_invalid(self) -> None:
        """What is not valid is refused as without it."""
        for target, body in (
            ("/switchover", {"candidate": "x"}),
            ("/failover", {"leader": "alpha"}),
            ("/switchover", {"leader": "alpha", "scheduled_at": "soon"}),
            ("/restart", {"role": "x"}),
            ("/restart", b"{"),
            ("/switchover", None),
        ):
            usual = self.request("POST", target, body=body)
            reply = self.request("POST", f"{target}?dry_run=true", body=body)
            self.assertEqual((reply.code, reply.body), (usual.code, usual.body))
            self.assertGreaterEqual(reply.code, 400)

    def test_words(self) -> None:
        """Other words than ``true`` and ``false`` are 400, and nothing begins."""
        for target in ("/switchover", "/failover", "/restart", "/reinitialize"):
            for word in ("1", "True", "yes"):
                reply = self.request("POST", f"{target}?dry_run={word}", body=SWITCH)
                self.assertEqual(reply.code, 400)
                self.assertTrue(reply.json()["error"].startswith("dry_run: "))
        self.assertEqual(self.engine.calls, [])
        reply = self.request("POST", "/restart?dry_run=false")
        self.assertReply(reply, 200, "restarted successfully")

    def test_restart(self) -> None:
        """Whether its conditions hold, and what is scheduled or paused."""
        found = self.foresee("/restart", {"role": "primary"})
        self.assertEqual((found["possible"], found["conditions_match"]), (True, True))
        self.assertEqual((found["paused"], found["scheduled_restart"]), (False, None))
        self.assertEqual(self.engine.called("restart_matches"), [[{"role": "primary"}]])
        self.engine.outcomes["restart_matches"] = False
        found = self.foresee("/restart", {"role": "replica"})
        self.assertEqual((found["possible"], found["conditions_match"]), (False, False))
        self.assertEqual(found["reason"], "restart conditions are not satisfied")

    def test_scheduled_restart(self) -> None:
        """A schedule needs room, and no pause; its conditions count later."""
        body = {"schedule": LATER, "role": "replica"}
        self.engine.outcomes["restart_matches"] = False
        found = self.foresee("/restart", body)
        self.assertEqual((found["possible"], found["scheduled_at"]), (True, LATER))
        self.engine.view = make_node(scheduled_restart={"schedule": LATER})
        found = self.foresee("/restart", body)
        self.assertEqual(
            (found["possible"], found["reason"]), (False, "Another restart is already scheduled")
        )
        self.assertEqual(found["scheduled_restart"], {"schedule": LATER})
        self.engine.dcs = make_cluster(mode=ModeView(paused=True))
        found = self.foresee("/restart", body)
        self.assertEqual((found["possible"], found["paused"]), (False, True))
        self.assertIn("paused", found["reason"])

    def test_reinitialize(self) -> None:
        """Not on the leader, and not without one."""
        found = self.foresee("/reinitialize")
        self.assertEqual((found["possible"], found["is_leader"]), (False, True))
        self.assertEqual(found["reason"], "I am the leader, can not reinitialize")
        self.engine.view = make_replica()
        found = self.foresee("/reinitialize", {})
        self.assertEqual((found["possible"], found["leader"]), (True, "alpha"))
        self.engine.dcs = make_cluster(leader=None)
        found = self.foresee("/reinitialize", {"force": True})
        self.assertEqual((found["possible"], found["leader"]), (False, None))
        self.assertEqual(found["reason"], "Cluster has no leader, can not reinitialize")
