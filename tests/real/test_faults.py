"""A cluster in trouble: its DCS frozen, its API crowded, its leader changing."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.real.asking import eventually, together
from tests.real.faults import Pair, step
from tests.real.watching import Watch, now, prober, sampling

if TYPE_CHECKING:
    from twisted_patroni.demo import Node

#: What needs no DCS, and does not wait for it: that would take as long as the engine tries.
MEMORY = ("/primary", "/replica", "/health", "/liveness", "/readiness", "/patroni", "/metrics",
          "/failsafe")  # fmt: skip
QUICKLY = 2.5
#: What is asked of the DCS when the engine has lost sight of it.
SHARED = ("/cluster", "/history", "/config")
TTL = 20.0
RETRY_TIMEOUT = 3.0


class CrowdTests(TestCase):
    """Many clients, and many operators."""

    timeout = 240

    async def test_crowd(self) -> None:
        """Idle connections, and operators who repeat themselves, delay nobody else."""
        crowd = self._allow_descriptors() - 1000
        pair = await Pair.started(self)
        leader, replica = await pair.roles()
        for number in (200, min(2000, crowd)):
            with step(f"{number} idle connections", *pair.logs):
                siege = pair.siege(self, leader)
                await deferToThread(siege.lay, number)
                self.assertGreater(await pair.metric(leader, "twisted_patroni_connections"), number)
                for path in ("/liveness", "/primary", "/patroni"):
                    reply = await pair.get(leader, path)
                    self.assertEqual(reply.code, 200)
                    self.assertLess(reply.seconds, QUICKLY)
                siege.leave()
        with step("ten operators restart at once", *pair.logs):
            await self._restarts(pair, leader)
        with step("many who ask for the cluster share looks at the DCS", *pair.logs):
            await pair.cluster.ready()
            before = await pair.metric(replica, "twisted_patroni_dcs_looks_total")
            begun = now()
            replies = await together(*(pair.get(replica, "/cluster") for _ in range(200)))
            own = (now() - begun) + 2  # the engine's, one a second
            self.assertEqual({reply.code for reply in replies}, {200})
            looks = await pair.metric(replica, "twisted_patroni_dcs_looks_total") - before
            print(
                f"\n200 requests for /cluster: {looks:.0f} looks at the DCS, {now() - begun:.2f} s"
            )
            self.assertLess(looks, 100 + own)

    def _allow_descriptors(self) -> int:
        """Allow this process, and so the nodes, as many descriptors as may be; return how many."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = max(soft, min(hard, 8192))
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        return allowed

    async def _restarts(self, pair: Pair, leader: Node) -> None:
        samplers = prober(leader, "/liveness"), prober(leader, "/patroni")
        with sampling(*samplers):
            asking = together(*(pair.post(leader, "/restart", {}) for _ in range(10)))
            asking_cluster = together(*(self._timed_cluster(pair, leader) for _ in range(3)))
            replies, slowest = await asking, max(await asking_cluster)
        self.assertLessEqual({reply.code for reply in replies}, {200, 503})
        # Whoever waited for the restart would have to wait for the most of it.
        took = max(reply.seconds for reply in replies if reply.code == 200)
        self.assertLess(slowest, 0.7 * took)
        for sampler in samplers:
            self.assertLess(max(one.ended - one.begun for one in sampler.samples), 0.7 * took)

    async def _timed_cluster(self, pair: Pair, node: Node) -> float:
        slowest = 0.0
        for _ in range(10):
            reply = await pair.get(node, "/cluster")
            self.assertEqual(reply.code, 200)
            slowest = max(slowest, reply.seconds)
            await deferLater(reactor, 0.05)
        return slowest


class LeaderTests(TestCase):
    """The leader changes, has to step down, or need not."""

    timeout = 300

    async def test_leaders(self) -> None:
        """There never are two primaries: not in a switchover, not without a DCS, failsafe or not.

        Two clusters at the same time, because one has to wait for so long.
        """
        plain, failsafe = await together(
            Pair.started(self), Pair.started(self, {"failsafe_mode": True})
        )
        await together(self._one_primary(plain), self._failsafe(failsafe))

    async def _one_primary(self, pair: Pair) -> None:
        leader, replica = await pair.roles()
        with step("a switchover", *pair.logs):
            watch = Watch(pair.key, (leader, replica))
            with watch.sampling:
                wanted = {"leader": leader.name, "candidate": replica.name}
                reply = await pair.post(leader, "/switchover", wanted)
                self.assertEqual(reply.text, f'Successfully switched over to "{replica.name}"')
                await pair.cluster.ready()
            self.assertEqual(watch.faults(), [])
            self.assertEqual(watch.codes(0), {200, 503})
            self.assertEqual(watch.codes(1), {200, 503})
        leader, replica = replica, leader
        with step("the DCS does not answer for longer than the ttl", *pair.logs):
            watch = Watch(pair.key, (leader, replica))
            with watch.sampling:
                pair.etcd.freeze()
                begun = now()
                await self._without_dcs(pair, leader, replica)

                async def demoted() -> bool:
                    return (await pair.get(leader, "/primary")).code == 503

                await eventually("the primary steps down", demoted, TTL)
                print(f"\nwithout DCS: demoted after {now() - begun:.1f} s")
                await self._without_dcs(pair, leader, replica)
                await deferLater(reactor, max(0.0, begun + TTL + 2.0 - now()))
                await self._without_dcs(pair, leader, replica)
                pair.etcd.thaw()
                thawed = now()
                await pair.cluster.ready()
                print(f"healed after {now() - thawed:.1f} s")
            self.assertEqual(watch.faults(), [])
            self.assertEqual(watch.codes(1, until=thawed), {503})

    async def _without_dcs(self, pair: Pair, *nodes: Node) -> None:
        """Assert that all pages are answered soon, and those that need the DCS by 503."""

        async def check(node: Node, path: str) -> None:
            reply = await pair.get(node, path)
            self.assertLess(reply.seconds, QUICKLY, f"{node.name} {path}")
            self.assertIn(reply.code, (200, 502, 503), f"{node.name} {path}")

        async def check_shared(node: Node, path: str) -> None:
            reply = await pair.get(node, path)
            # 200 while the engine still trusts what it was told last.
            self.assertIn(reply.code, (200, 503))
            self.assertLess(reply.seconds, 2 * RETRY_TIMEOUT + 6.0)
            print(f"\n{node.name} {path}: {reply.code} after {reply.seconds:.2f} s")

        asking = [check(node, path) for node in nodes for path in MEMORY]
        await together(*asking, *(check_shared(node, path) for node in nodes for path in SHARED))

    async def _failsafe(self, pair: Pair) -> None:
        """In failsafe mode the primary goes on without a DCS for as long as its members agree."""
        leader, replica = await pair.roles()
        members = {one.name: f"{one.rest_url}/patroni" for one in pair.cluster.nodes}

        async def known() -> bool:
            return (await pair.get(leader, "/failsafe")).code == 200

        with step("before", *pair.logs):
            await eventually("failsafe mode has its members", known)
            self.assertEqual((await pair.get(leader, "/failsafe")).json(), members)
        watch = Watch(pair.key, (leader, replica))
        with step("the DCS does not answer for longer than the ttl", *pair.logs), watch.sampling:
            pair.etcd.freeze()
            begun = now()
            for node in (leader, replica):

                async def active(node: Node = node) -> bool:
                    document = (await pair.get(node, "/patroni")).json()
                    return document.get("failsafe_mode_is_active") is True

                await eventually(f"failsafe mode is active on {node.name}", active)
            self.assertEqual(await pair.metric(leader, "patroni_failsafe_mode_is_active"), 1)
            self.assertEqual((await pair.get(leader, "/failsafe")).json(), members)
            await deferLater(reactor, max(0.0, begun + TTL + 2.0 - now()))
            self.assertEqual((await pair.get(leader, "/primary")).code, 200)
            pair.etcd.thaw()
            thawed = now()
            await pair.cluster.ready()

            async def over() -> bool:
                return await pair.metric(leader, "patroni_failsafe_mode_is_active") == 0

            await eventually("failsafe mode is over", over)
        # Later on it has to take the lock again, which has expired meanwhile.
        self.assertEqual(watch.codes(0, until=thawed), {200})
        self.assertEqual(watch.faults(), [])
