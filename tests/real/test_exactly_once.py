"""Each event exactly once: subscribers are cut at random while PostgreSQL and leaders change."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from twisted.internet import reactor
from twisted.internet.task import LoopingCall

from tests.real.asking import eventually
from tests.real.following import (
    LongPollSubscriber,
    SseSubscriber,
    Subscriber,
    WebSocketSubscriber,
)
from tests.real.harness import RealClusterTests
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from twisted_patroni.demo import Node

SUBSCRIBERS = 50
SWITCHOVERS = 10
#: Seconds between two cuts: each of the subscribers is cut every other second.
CUTS = 0.04
WAYS = (SseSubscriber, WebSocketSubscriber, LongPollSubscriber)


class ExactlyOnceTests(RealClusterTests):
    """Subscribers of all three nodes, by all three ways."""

    timeout = 300

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with subscribers that have their snapshot."""
        await super().setUp()
        nodes = self.cluster.nodes
        self.random = Random(20261121)
        self.subscribers: list[Subscriber] = [
            WAYS[number % 3](reactor, HOST, nodes[number // 3 % 3].place.rest_port)
            for number in range(SUBSCRIBERS)
        ]
        for each in self.subscribers:
            each.start()
            self.addCleanup(each.stop)

        async def all_there() -> bool:
            return all(each.snapshots for each in self.subscribers)

        await eventually("everybody has a snapshot", all_there)

    def on(self, node: Node) -> list[Subscriber]:
        """Return the subscribers of a node."""
        return [each for each in self.subscribers if each.port == node.place.rest_port]

    async def switch_over(self) -> str:
        """Switch over and return the new leader, once both others follow it."""
        leader, replicas = await self.roles()
        candidate = self.random.choice(replicas)
        request = {"leader": leader.name, "candidate": candidate.name}
        reply = await self.ask(
            "POST", self.random.choice(self.cluster.nodes), "/switchover", request
        )
        self.assertEqual(reply.code, 200, reply.text)
        await self.until(candidate, "/primary", 200)
        for each in self.cluster.nodes:
            if each is not candidate:
                await self.until(each, "/replica?replication_state=streaming", 200)
        return candidate.name

    async def restart_postgresql(self) -> None:
        """Restart PostgreSQL on a replica."""
        _, replicas = await self.roles()
        node = self.random.choice(replicas)
        reply = await self.ask("POST", node, "/restart")
        self.assertEqual((reply.code, reply.text), (200, "restarted successfully"))
        await self.until(node, "/replica?replication_state=streaming", 200)
        self.restarted = node

    def cut_all(self) -> None:
        """Cut everybody at the same moment; they come back together, too."""
        for each in self.subscribers:
            each.cut()

    async def test_switchovers(self) -> None:
        """Nobody misses an event or sees one twice, however often he is cut."""
        cutting = LoopingCall(lambda: self.random.choice(self.subscribers).cut())
        cutting.start(CUTS, now=False).addErrback(self.fail)
        leaders = []
        try:
            for number in range(SWITCHOVERS):
                leaders.append(await self.switch_over())
                if number == SWITCHOVERS // 3:
                    await self.restart_postgresql()
                elif number == 2 * SWITCHOVERS // 3:
                    self.cut_all()
        finally:
            cutting.stop()
        for node in self.cluster.nodes:
            await self.assertAgree(self.on(node), leaders)
        states = [
            event["data"]["state"]
            for event in self.on(self.restarted)[0].events
            if event["type"] == "node" and "state" in event["data"]["changed"]
        ]
        self.assertIn("restarting", states)

    async def assertAgree(self, subscribers: list[Subscriber], leaders: list[str]) -> None:
        """Assert that subscribers of one node have seen the same, and all of it."""

        async def level() -> bool:
            return len({each.events[-1]["number"] for each in subscribers if each.events}) == 1

        await eventually("all have seen the last event", level)
        for each in subscribers:
            self.assertGreater(each.cuts, 0)
            self.assertEqual(each.gaps, 0)
            numbers = [event["number"] for event in each.events]
            self.assertEqual(numbers, list(range(numbers[0], numbers[-1] + 1)))
            told = [event["data"]["new"] for event in each.events if event["type"] == "leader"]
            self.assertEqual(told, leaders)
            self.assertEqual(len(each.snapshots), 1)
        reference = max((each.events for each in subscribers), key=len)
        for each in subscribers:
            self.assertEqual(each.events, reference[-len(each.events) :])
