"""Tests of twisted_patroni.web.config: the dynamic configuration, and reloading the local one."""

from __future__ import annotations

from typing import Any

from tests.doubles import make_cluster, make_node
from tests.memory_api import ApiCase
from twisted_patroni.engine.interface import ConfigConflict

CONFIG = {"ttl": 30, "postgresql": {"parameters": {"work_mem": "4MB"}}}


class ShowTests(ApiCase):
    """GET /config."""

    def test_cached(self) -> None:
        """What was seen last is shown, without a look at the DCS."""
        self.engine.view = make_node(cluster=make_cluster(config=CONFIG))
        for target in ("/config", "/config/abc"):
            reply = self.request("GET", target)
            self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
            self.assertEqual(reply.json(), CONFIG)
        self.assertEqual(self.engine.begun, 0)

    def test_empty(self) -> None:
        """A configuration without any key is one all the same."""
        self.engine.view = make_node(cluster=make_cluster(config={}))
        self.assertEqual(self.request("GET", "/config").body, b"{}")

    def test_missing(self) -> None:
        """One that was never written is 502."""
        self.engine.view = make_node(cluster=make_cluster(config=None))
        self.assertErrorPage(self.request("GET", "/config"), 502)

    def test_not_cached(self) -> None:
        """Only when nothing is known is the DCS asked."""
        self.engine.view = make_node(cluster=None)
        self.engine.dcs = make_cluster(config=CONFIG)
        self.assertEqual(self.request("GET", "/config").json(), CONFIG)
        self.assertEqual(self.engine.begun, 1)


class PatchTests(ApiCase):
    """PATCH /config."""

    def test_result(self) -> None:
        """The answer is the configuration that results."""
        self.engine.outcomes["patch_config"] = CONFIG
        patch: dict[str, Any] = {"pause": None, "postgresql": {"parameters": {"work_mem": "4MB"}}}
        reply = self.request("PATCH", "/config", body=patch)
        self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
        self.assertEqual(reply.json(), CONFIG)
        self.assertEqual(self.engine.called("patch_config"), [[patch]])

    def test_missing(self) -> None:
        """Without a configuration there is nothing to patch: 503."""
        self.engine.dcs = make_cluster(config=None)
        self.assertErrorPage(self.request("PATCH", "/config", body={"ttl": 20}), 503)

    def test_conflict(self) -> None:
        """If someone else wrote first, that is 409."""
        self.engine.outcomes["patch_config"] = ConfigConflict()
        self.assertErrorPage(self.request("PATCH", "/config", body={"ttl": 20}), 409)


class PutTests(ApiCase):
    """PUT /config."""

    def test_result(self) -> None:
        """The answer is what was sent."""
        reply = self.request("PUT", "/config", body=CONFIG)
        self.assertEqual((reply.code, reply.header("Content-Type")), (200, "application/json"))
        self.assertEqual(reply.json(), CONFIG)
        self.assertEqual(self.engine.called("replace_config"), [[CONFIG]])

    def test_not_written(self) -> None:
        """A write that failed is 502."""
        self.engine.outcomes["replace_config"] = False
        self.assertErrorPage(self.request("PUT", "/config", body=CONFIG), 502)


class ReloadTests(ApiCase):
    """POST /reload."""

    def test_scheduled(self) -> None:
        """A note is left for the HA loop, and that is all."""
        for target in ("/reload", "/reload/x"):
            self.assertReply(self.request("POST", target), 202, "reload scheduled")
        self.assertEqual(self.engine.calls, [("reload",)] * 2)
