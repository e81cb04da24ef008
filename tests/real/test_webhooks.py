"""A real cluster tells receivers that fail, are away, or swallow everything."""

from __future__ import annotations

from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor

from tests.real.asking import eventually
from tests.real.harness import RealClusterTests, rewrite_node_file
from tests.real.receiving import BlackHole, Receiver
from tests.webhook_cases import SECRET

if TYPE_CHECKING:
    from twisted_patroni.demo import Node

PREFIX = "twisted_patroni_webhook"
#: Seconds within which a node ends, on the slowest machine.
SHUTDOWN = 30.0
#: How many cycles a node has to make meanwhile. It makes one a second, and one at each change.
CYCLES = 20
#: Seconds within which it makes them, on the slowest machine; a request to a hole takes longer.
LONG = 30.0


class WebhookTests(RealClusterTests):
    """What receivers get from three nodes with the same list."""

    timeout = 240

    async def setUp(self) -> None:  # type: ignore[override]
        """Begin with a receiver that nobody knows yet."""
        await super().setUp()
        self.receiver = Receiver(SECRET)
        await self.receiver.open()
        self.addCleanup(self.receiver.shut)
        self.addCleanup(self.configure)

    async def configure(self, *entries: dict[str, Any]) -> None:
        """Let all nodes have these webhooks."""
        for node in self.cluster.nodes:
            rewrite_node_file(node, {"restapi": {"webhooks": list(entries)}})
            await self.ask("POST", node, "/reload")

        async def look() -> bool:
            found = [await self.metric(node, f"{PREFIX}_queue") for node in self.cluster.nodes]
            return all(len(each) == len(entries) for each in found)

        await eventually("all nodes know the webhooks", look)

    async def metric(self, node: Node, name: str) -> dict[str, float]:
        """Return the values of a metric, by the first of its labels; none without an answer."""
        reply = await self.ask("GET", node, "/metrics")
        if reply.code != 200:
            return {}
        return {
            next(iter(sample.labels.values()), ""): sample.value
            for family in text_string_to_metric_families(reply.text)
            for sample in family.samples
            if sample.name == name
        }

    async def set_ttl(self, ttl: int) -> None:
        """Change the dynamic configuration."""
        reply = await self.ask("PATCH", self.cluster.nodes[0], "/config", {"ttl": ttl})
        self.assertEqual(reply.code, 200, reply.text)

    async def until_seen(self, ttl: int) -> None:
        """Wait until the receiver knows of a change of the configuration."""

        async def look() -> bool:
            changes = [event["data"]["changed"] for event in self.receiver.accepted("config")]
            return any(each.get("ttl", {}).get("new") == ttl for each in changes)

        await eventually(f"the receiver knows that ttl is {ttl}", look, 60.0)

    async def test_switchover(self) -> None:
        """Of a switchover the receiver is told once, by the new leader, though it often fails."""
        self.receiver.answer = lambda number: (503, 200, 200)[number % 3]
        everything = ["leader", "cluster", "member", "node", "config", "history", "operation"]
        await self.configure({"url": self.receiver.url, "secret": SECRET, "events": everything})
        leader, (replica, _) = await self.roles()
        body = {"leader": leader.name, "candidate": replica.name}
        text = f'Successfully switched over to "{replica.name}"'
        await self.answers("POST", leader, "/switchover", body, 200, text)
        await self.until(leader, "/replica?replication_state=streaming", 200)
        # What all nodes see after it comes after it: whoever tells of the leader has done so.
        await self.set_ttl(21)
        await self.until_seen(21)

        async def idle() -> bool:
            queues = [await self.metric(node, f"{PREFIX}_queue") for node in self.cluster.nodes]
            return not any(sum(each.values()) for each in queues)

        await eventually("all events are delivered", idle)
        (event,) = self.receiver.accepted("leader")
        self.assertEqual((event["data"]["old"], event["data"]["new"]), (leader.name, replica.name))
        self.assertEqual((event["scope"], event["node"]), ("demo", replica.name))
        deliveries = self.receiver.deliveries
        self.assertTrue(all(each.genuine for each in deliveries))
        accepted = [each.id for each in deliveries if each.code == 200]
        self.assertCountEqual(accepted, set(accepted))
        self.assertEqual({each.id for each in deliveries}, set(accepted))
        changes = [repr(each["data"]["changed"]) for each in self.receiver.accepted("config")]
        self.assertCountEqual(changes, set(changes))
        for node in self.cluster.nodes:
            numbers = [
                each.event["number"]
                for each in deliveries
                if each.code == 200 and each.event["node"] == node.name
            ]
            self.assertEqual(numbers, sorted(numbers), node.name)

    async def test_crash(self) -> None:
        """A leader that is killed tells nothing; the others tell once of what follows."""
        leader, others = await self.roles()
        await eventually("the past is over", partial(self.is_past, leader))
        events = ["leader", "cluster", "history"]
        await self.configure({"url": self.receiver.url, "secret": SECRET, "events": events})
        await leader.stop("KILL")

        async def told() -> list[dict[str, Any]]:
            return self.receiver.accepted("leader")

        (event,) = await eventually("the receiver knows the new leader", told, 90.0)
        new = event["data"]["new"]
        self.assertEqual((event["node"], event["data"]["old"]), (new, leader.name))
        self.assertIn(new, [node.name for node in others])

        async def history() -> list[dict[str, Any]]:
            events = self.receiver.accepted("history")
            # The leader who was killed may have become one just before; and a line of the past
            # may be without a leader's name.
            passed = (leader.name, None)
            return [event for event in events if event["data"]["leader"] not in passed]

        # Its history comes last of all that follows.
        await eventually("it has a history", history, 60.0)
        locks = [
            each["data"]["locked"]
            for each in self.receiver.accepted("cluster")
            if "locked" in each["data"]["changed"]
        ]
        self.assertIn(locks, ([False, True], [True], [False], []))
        self.assertEqual(len(self.receiver.accepted("leader")), 1)
        self.assertEqual([event["data"]["leader"] for event in await history()], [new])
        leader.start()

    async def is_past(self, leader: Node) -> bool:
        """Tell whether the history, which is a little late, names the leader as its last."""
        histories = [await self.get(node, "/history") for node in self.cluster.nodes]
        return all(not each or each[-1][-1] == leader.name for each in histories)

    async def test_away(self) -> None:
        """A receiver that is away for a while gets everything when it comes back, in order."""
        await self.configure({"url": self.receiver.url, "secret": SECRET, "events": "config"})
        await self.set_ttl(22)
        await self.until_seen(22)
        await self.receiver.shut()
        leader, _ = await self.roles()
        for ttl in (23, 24, 25):
            await self.set_ttl(ttl)

            async def queued(wanted: int = ttl - 22) -> bool:
                queue = await self.metric(leader, f"{PREFIX}_queue")
                return queue[self.receiver.name] >= wanted

            await eventually("the leader has it in its queue", queued)
        await self.receiver.open()
        await self.until_seen(25)
        told = [event["data"]["changed"]["ttl"] for event in self.receiver.accepted("config")]
        self.assertEqual([each["new"] for each in told], [22, 23, 24, 25])
        self.assertTrue(all(each.genuine for each in self.receiver.deliveries))

    async def cycles(self, node: Node) -> float:
        """Return how many HA cycles a node has made."""
        (number,) = (await self.metric(node, "twisted_patroni_ha_cycles_total")).values()
        return number

    async def test_black_hole(self) -> None:
        """A receiver that swallows all delays no HA cycles, no other receiver, and no shutdown."""
        hole = BlackHole()
        self.addCleanup(hole.close)
        leader, _ = await self.roles()
        receiver = {"url": self.receiver.url, "secret": SECRET, "events": "config"}
        many = [{"url": hole.url, "name": f"hole {n}", "timeout": 60} for n in range(10)]
        await self.configure(receiver, *many)
        wanted = await self.cycles(leader) + CYCLES
        ttls = cycle((21, 22))

        async def burdened() -> bool:
            await self.set_ttl(next(ttls))
            queue = await self.metric(leader, f"{PREFIX}_queue")
            return queue["hole 0"] > 3 and await self.cycles(leader) >= wanted

        await eventually(f"{leader.name} makes {CYCLES} cycles more", burdened, LONG)
        self.assertEqual((await self.metric(leader, f"{PREFIX}_attempts_total"))["hole 9"], 1)
        # The usual one: for so long a key stays whose holder is killed, as in the next test.
        await self.set_ttl(20)
        await self.until_seen(20)
        log = leader.place.log_file
        length = log.stat().st_size
        begun = reactor.seconds()
        self.assertEqual(await leader.stop(), 0)
        self.assertLess(reactor.seconds() - begun, SHUTDOWN)
        said = log.read_text()[length:]
        self.assertRegex(said, r"[1-9]\d* events for the webhook hole 9 have 2.0 seconds left")
        self.assertNotIn("Traceback", said)
        leader.start()
