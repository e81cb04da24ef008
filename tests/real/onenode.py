"""Tests that need a cluster of one node only, each with a cluster of its own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import TestCase

from tests.real.asking import eventually
from tests.real.harness import api_of, destroy, kill, new_cluster, rewrite_node_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.demo import Cluster, Node


class OneNode(TestCase):
    """Tests of a cluster of one node.

    :cvar tls: whether its REST API speaks TLS.
    """

    timeout = 240
    tls = False

    def prepared(self, overrides: Mapping[str, Any] | None = None) -> Cluster:
        """Return a cluster whose files are written.

        :param overrides: what to change in the configuration.
        """
        cluster = new_cluster(1, overrides=overrides, tls=self.tls)
        self.addCleanup(destroy, cluster)
        cluster.prepare()
        self.node, self.api = cluster.nodes[0], api_of(cluster)
        return cluster

    async def started(self, overrides: Mapping[str, Any] | None = None) -> Node:
        """Return a node that is a running primary.

        :param overrides: what to change in the configuration.
        """
        cluster = self.prepared(overrides)
        await cluster.start()
        await cluster.ready()
        return self.node

    def reload(self, **section: Any) -> None:
        """Change the ``restapi`` section and send SIGHUP.

        :param section: what to replace.
        """
        if section:
            rewrite_node_file(self.node, {"restapi": section})
        assert self.node.pid is not None
        kill(self.node.pid, signal.SIGHUP)

    def log(self) -> str:
        """Return what the daemon and PostgreSQL have written."""
        return self.node.place.log_file.read_text()

    async def logged(self, text: str, within: float = 30.0) -> None:
        """Wait until the log has a text.

        :param text: the text.
        :param within: after how many seconds the test fails.
        """

        async def look() -> bool:
            return text in self.log()

        await eventually(f"the log has {text!r}", look, within)
