"""A real HAProxy in front of a real cluster: its checks find the primary and the replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.real.asking import sql
from tests.real.balancing import DOWN, UP, HAProxy
from tests.real.harness import RealClusterTests
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted_patroni.demo import Node

#: How each proxy asks. The first is what one gets by naming no method and no path.
CHECKS: Mapping[str, Sequence[str]] = {
    "bare": ("option httpchk",),
    "options": ("option httpchk OPTIONS /primary", "http-check expect status 200"),
    "lag": ("option httpchk GET /replica?lag=1MB", "http-check expect status 200"),
    "head": ("option httpchk", "http-check send meth HEAD uri /replica"),
    "http11": (
        "option httpchk",
        "http-check connect",
        "http-check send meth GET uri /primary ver HTTP/1.1 hdr Host cluster",
        "http-check expect status 200",
    ),
}
PRIMARY = ("bare", "options", "http11")


class HAProxyTests(RealClusterTests):
    """What load balancers make of the health checks."""

    async def test_switchover(self) -> None:
        """Each way of asking finds the right servers, before and after a switchover."""
        leader, (replica, _) = await self.roles()
        proxy = HAProxy({name: [*checks, *self.servers()] for name, checks in CHECKS.items()})
        self.addCleanup(proxy.stop)
        await self.assert_follows(proxy, leader)
        body = {"leader": leader.name, "candidate": replica.name}
        text = f'Successfully switched over to "{replica.name}"'
        await self.answers("POST", leader, "/switchover", body, 200, text)
        await self.assert_follows(proxy, replica)

    def servers(self) -> list[str]:
        """Return HAProxy's lines for the nodes."""
        places = [node.place for node in self.cluster.nodes]
        return [
            f"server {place.name} {HOST}:{place.postgres_port} check port {place.rest_port}"
            for place in places
        ]

    async def assert_follows(self, proxy: HAProxy, leader: Node) -> None:
        """Assert that HAProxy finds the leader and the replicas, and leads clients there."""
        expected: set[tuple[str, ...]] = {
            (name, node.name, *(UP if (node is leader) == (name in PRIMARY) else DOWN))
            for name in CHECKS
            for node in self.cluster.nodes
        }
        await proxy.until(f"HAProxy sees that {leader.name} leads", expected)
        question = "SELECT pg_is_in_recovery(), current_setting('port')::int"
        for name, standby in (("bare", False), ("lag", True)):
            conninfo = f"{leader.conninfo} port={proxy.ports[name]}"
            ((recovering, port),) = await sql(conninfo, question)
            self.assertIs(recovering, standby)
            self.assertEqual(port == leader.place.postgres_port, not standby)
