"""Tests of twisted_patroni.web.cluster: GET /cluster and GET /history."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.doubles import make_cluster, make_node
from tests.memory_api import ApiCase, Reply
from twisted_patroni.engine.interface import DcsUnavailable

HISTORY = [[1, 50331744, "no recovery target specified", "2026-06-01T10:00:00+00:00", "beta"]]


class ClusterTests(ApiCase):
    """GET /cluster."""

    def test_document(self) -> None:
        """The engine's document, as it is, under whatever comes after the first component."""
        document = {"members": [{"name": "alpha", "port": 5432}], "scope": "demo"}
        self.engine.outcomes["cluster_document"] = document
        for target in ("/cluster", "/cluster/", "/cluster/x/y", "//cluster", "/cluster?x=1"):
            reply = self.request("GET", target)
            self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
            self.assertEqual(reply.json(), document, target)

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        full, head = self.request("GET", "/cluster"), self.request("HEAD", "/cluster")
        self.assertEqual((head.code, head.body), (200, b""))
        self.assertEqual(head.headers, full.headers)

    def test_other_methods(self) -> None:
        """OPTIONS is a health check that is never true, and nothing else is there."""
        reply = self.request("OPTIONS", "/cluster")
        self.assertEqual((reply.code, reply.headers, reply.body), (503, [], b""))
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE"):
            self.assertErrorPage(self.request(method, "/cluster"), 501)

    def test_slow_dcs(self) -> None:
        """A slow DCS delays this answer and no health check."""
        pending: Deferred[object] = Deferred()
        self.engine.outcomes["cluster_document"] = pending
        connection = self.api.begin("GET", "/cluster")
        self.assertEqual(self.request("GET", "/primary").code, 200)
        self.assertEqual(connection.received(), b"")
        pending.callback({"members": []})
        self.assertEqual(Reply.parse(connection.received()).json(), {"members": []})

    def test_dcs_away(self) -> None:
        """Without the DCS there is no cluster to show."""
        self.engine.outcomes["cluster_document"] = DcsUnavailable("away")
        self.assertReply(self.request("GET", "/cluster"), 503, "DCS is not accessible: away")


class HistoryTests(ApiCase):
    """GET /history."""

    def test_cached(self) -> None:
        """What was seen last is shown, without a look at the DCS."""
        self.engine.view = make_node(cluster=make_cluster(history=HISTORY))
        for target in ("/history", "/history/x"):
            reply = self.request("GET", target)
            self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
            self.assertEqual(reply.json(), HISTORY)
        self.assertEqual(self.engine.begun, 0)

    def test_none(self) -> None:
        """No history is an empty list."""
        self.assertEqual(self.request("GET", "/history").body, b"[]")

    def test_not_cached(self) -> None:
        """Only when nothing is known is the DCS asked."""
        self.engine.view = make_node(cluster=None)
        self.engine.dcs = make_cluster(history=HISTORY)
        self.assertEqual(self.request("GET", "/history").json(), HISTORY)
        self.assertEqual(self.engine.begun, 1)
        self.engine.outcomes["look"] = DcsUnavailable("away")
        self.assertEqual(self.request("GET", "/history").code, 503)
