"""Tests of twisted_patroni.client.node and values, with a pool that knows its answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from tests.nodecase import NODE, NodeCase
from twisted_patroni.client import errors
from twisted_patroni.client.outcomes import Eligibility
from twisted_patroni.client.response import Response
from twisted_patroni.client.values import HistoryEntry, Member, Operation

LEADER = {"name": "a", "role": "leader", "state": "running", "api_url": f"{NODE}/patroni",
          "host": "a", "port": 5432, "timeline": 7}  # fmt: skip
REPLICA = {"name": "b", "role": "replica", "state": "streaming", "lag": 16, "tags": {"zone": "x"},
           "pending_restart": True}  # fmt: skip
#: What a request sends along that may be refused with reasons.
SENT = {"headers": {"Accept": "application/json"}}


class ReadingTests(NodeCase):
    """What a node tells."""

    def test_status(self) -> None:
        """Its status has what `GET /patroni` tells, and the document itself."""
        document = {"state": "running", "role": "primary", "timeline": 7, "server_version": 180000,
                    "patroni": {"name": "a", "scope": "demo", "version": "4.1.5"},
                    "pending_restart": True, "drain": {"reason": "x"}}  # fmt: skip
        self.answers(200, document)
        status = self.get(self.node.status())
        self.assertEqual((status.name, status.scope, status.role), ("a", "demo", "primary"))
        self.assertEqual((status.timeline, status.patroni_version), (7, "4.1.5"))
        self.assertTrue(status.pending_restart and status.drained)
        self.assertEqual(status.document, document)
        self.assertEqual(self.last()[:2], ("GET", "/patroni"))

    def test_cluster(self) -> None:
        """A cluster has members, one of which may lead."""
        self.answers(200, {"scope": "demo", "members": [LEADER, REPLICA, 7], "pause": True})
        cluster = self.get(self.node.cluster())
        self.assertEqual(cluster.leader, Member.of(LEADER))
        self.assertEqual([member.lag for member in cluster.members], [None, 16])
        self.assertTrue(cluster.paused and cluster.members[1].pending_restart)
        self.answers(200, {"members": [REPLICA]})
        self.assertIsNone(self.get(self.node.cluster()).leader)

    def test_strange(self) -> None:
        """What is missing or of another type is not there; nothing fails."""
        document: dict[str, Any]
        for document in ({}, {"members": {}}, {"members": [{"name": 1, "tags": [], "lag": "x"}]}):
            self.answers(200, document)
            for member in self.get(self.node.cluster()).members:
                self.assertEqual((member.name, member.tags, member.lag), ("", {}, None))
        self.answers(200, {"patroni": "x", "timeline": True})
        self.assertIsNone(self.get(self.node.status()).timeline)

    def test_history(self) -> None:
        """Old lines are shorter."""
        time = "2026-11-21T15:00:00+00:00"
        self.answers(200, [[1, 67, "no recovery target specified"], [2, 68, "x", time, "b"], 3])
        first, second = self.get(self.node.history())
        self.assertEqual(first, HistoryEntry(1, 67, "no recovery target specified"))
        moment = datetime(2026, 11, 21, 15, tzinfo=UTC)
        self.assertEqual((second.time, second.leader), (moment, "b"))

    def test_no_object(self) -> None:
        """What is JSON, but of another shape, is no answer."""
        for asking, content in (
            (self.node.status, []),
            (self.node.history, {}),
            (self.node.cluster, "<html>"),
        ):
            self.answers(200, content)
            self.fails(asking(), errors.BrokenAnswer)

    def test_checks(self) -> None:
        """A check is a yes or a no; parameters that are not given are not sent."""
        self.answers(200, {})
        self.assertTrue(self.get(self.node.is_primary()))
        self.answers(503, {})
        self.assertFalse(self.get(self.node.is_replica()))
        self.assertEqual(self.last()[1], "/replica")
        self.answers(200, {})
        self.get(self.node.is_replica(lag="1MB", tags={"zone": "x"}))
        self.assertEqual(self.last()[1], "/replica?lag=1MB&tag_zone=x")
        self.answers(401, "no")
        self.fails(self.node.is_healthy(), errors.Unauthorized)

    def test_errors(self) -> None:
        """Each status of refusal has its error, with the answer and what the node says."""
        for status, error in (
            (400, errors.Refused),
            (401, errors.Unauthorized),
            (403, errors.Forbidden),
            (404, errors.NotFound),
            (409, errors.Conflict),
            (503, errors.Unavailable),
        ):
            self.answers(status, {"error": "because"})
            found = self.fails(self.node.metrics(), error)
            self.assertEqual(found.response.status, status)
            self.assertEqual(str(found), f"{NODE}/metrics answers {status}: because")


class ActingTests(NodeCase):
    """What a node is asked to do."""

    def test_switchover(self) -> None:
        """Names and a time are sent, and the node's sentence comes back."""
        self.answers(200, 'Successfully switched over to "b"')
        outcome = self.get(self.node.switchover("a", "b"))
        self.assertEqual((outcome.status, outcome.scheduled), (200, False))
        self.assertEqual(outcome.text, 'Successfully switched over to "b"')
        method, path, body, said = self.last()
        self.assertEqual((method, path, said), ("POST", "/switchover", {**SENT, "timeout": 60.0}))
        self.assertEqual(body, {"leader": "a", "candidate": "b"})
        self.answers(202, "Switchover scheduled")
        at = datetime(2026, 11, 22, 3, tzinfo=UTC)
        self.assertTrue(self.get(self.node.switchover("a", at=at)).scheduled)
        self.assertEqual(
            self.last()[2], {"leader": "a", "scheduled_at": "2026-11-22T03:00:00+00:00"}
        )

    def test_precondition(self) -> None:
        """A refused switchover may tell what is the matter with each candidate."""
        told = [{"name": "b", "eligible": False, "reason": "nofailover"}]
        self.answers(412, {"error": "not possible", "candidates": told})
        error = self.fails(self.node.switchover("a"), errors.PreconditionFailed)
        self.assertEqual(error.candidates, (Eligibility("b", False, "nofailover"),))
        self.answers(412, "leader name does not match")
        error = self.fails(self.node.failover("b"), errors.PreconditionFailed)
        self.assertEqual(error.candidates, ())
        self.assertIn("leader name does not match", str(error))

    def test_others(self) -> None:
        """The other requests go where they belong."""
        at = datetime(2026, 11, 22, 3, tzinfo=UTC)
        node = self.node
        for asking, expected in (
            (node.restart(role="replica"), ("POST", "/restart", {"role": "replica"})),
            (node.restart(at=at), ("POST", "/restart", {"schedule": at.isoformat()})),
            (node.cancel_restart(), ("DELETE", "/restart", None)),
            (node.cancel_switchover(), ("DELETE", "/switchover", None)),
            (
                node.reinitialize(force=True),
                ("POST", "/reinitialize", {"force": True, "from_leader": False}),
            ),
            (node.reload(), ("POST", "/reload", None)),
        ):
            self.answers(200, "done")
            self.assertEqual(self.get(asking).text, "done")
            self.assertEqual(self.last()[:3], expected)

    def test_config(self) -> None:
        """The configuration is read, merged and replaced."""
        self.answers(200, {"ttl": 30})
        self.assertEqual(self.get(self.node.config()), {"ttl": 30})
        self.answers(200, {"ttl": 20})
        self.assertEqual(self.get(self.node.patch_config({"ttl": 20})), {"ttl": 20})
        self.assertEqual(self.last()[:3], ("PATCH", "/config", {"ttl": 20}))
        self.answers(200, {"ttl": 20})
        self.get(self.node.replace_config({"ttl": 20}))
        self.assertEqual(self.last()[0], "PUT")
        self.answers(409, "page")
        self.fails(self.node.patch_config({"ttl": 20}), errors.Conflict)

    def test_operations(self) -> None:
        """Operations can be listed, and waited for beyond the usual time."""
        document = {"id": "op-1", "kind": "switchover", "state": "succeeded", "cancellable": False,
                    "steps": [{"text": "failover key written"}],
                    "result": {"status": 200, "text": "done"}}  # fmt: skip
        self.answers(200, {"operations": [document]})
        (found,) = self.get(self.node.operations())
        self.assertEqual(found, Operation.of(document))
        self.assertEqual((found.steps, found.status), (("failover key written",), 200))
        self.assertTrue(found.ended and found.succeeded)
        self.answers(200, {**document, "state": "running", "result": None})
        self.assertFalse(self.get(self.node.operation("op-1", wait=30)).ended)
        self.assertEqual(self.last()[1], "/operations/op-1?wait=30")
        self.assertEqual(self.last()[3]["timeout"], 40.0)


class ErrorTests(SynchronousTestCase):
    """Texts of errors."""

    def test_texts(self) -> None:
        """Each is one line that names who, and what to think of it."""
        unreachable = errors.Unreachable(NODE, "refuses connections")
        for error, text in (
            (unreachable, f"{NODE} refuses connections"),
            (
                errors.TimedOut(NODE, "has not answered"),
                f"{NODE} has not answered: what was asked for may have been done",
            ),
            (
                errors.ClusterUnknown({NODE: unreachable}),
                f"no node can be asked: {NODE} refuses connections",
            ),
            (errors.ClusterUnknown({}), "no node can be asked: none is known"),
            (
                errors.refused(Response(NODE, 418, "Teapot", Headers(), b"<html>")),
                f"{NODE} answers 418: Teapot",
            ),
        ):
            self.assertEqual(str(error), text)
