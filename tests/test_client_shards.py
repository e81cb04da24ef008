"""Tests of twisted_patroni.client.shards, over clusters in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.client.errors import ClientError, ClusterUnknown, OutcomeUnknown
from twisted_patroni.client.pool import PoolClosed
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.shards import NoOwner, Shards
from twisted_patroni.client.testing import MemoryCluster

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from twisted_patroni.client.replicas import Replicas

T = TypeVar("T")


class ShardsTests(SynchronousTestCase):
    """Tests of shards over three clusters: east and west both own the keys that begin with e."""

    def setUp(self) -> None:
        """Begin with the clusters, and a number that chooses the first of several."""
        self.number = 0.0
        self.east = MemoryCluster(scope="east")
        self.clock = self.east.clock
        self.west = MemoryCluster(scope="west", clock=self.clock)
        self.south = MemoryCluster(scope="south", clock=self.clock)
        settings = ClientSettings(timeout=4.0)
        self.by_scope = {
            name: getattr(self, name).replicas(settings) for name in ("east", "west", "south")
        }
        self.owned = {"e": ("east", "west"), "s": ("south",), "n": ()}
        self.shards: Shards[str] = Shards(self.owners, lambda: self.number)

    def tearDown(self) -> None:
        """See that nothing is left once all is closed."""
        self.result(self.shards.close())
        for each in self.by_scope.values():
            self.result(each.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def owners(self, key: str) -> list[Replicas]:
        """Return the owners of a key."""
        return [self.by_scope[name] for name in self.owned[key[0]]]

    def result(self, work: Awaitable[T]) -> T:
        """Return what has come of something by now."""
        return self.successResultOf(self.begin(work))

    def begin(self, work: Awaitable[T]) -> Deferred[T]:
        """Begin something."""

        async def run() -> T:
            return await work

        return Deferred.fromCoroutine(run())

    def failure(self, work: Awaitable[Any], kind: type[Exception]) -> str:
        """Return the text of what something has failed with by now."""
        return str(self.failureResultOf(self.begin(work), kind).value)

    def scope(self, key: str, **options: Any) -> str:
        """Return the name of the cluster that answers for a key."""
        response = self.result(self.shards.request(key, "GET", "/cluster", **options))
        scope: str = response.json()["scope"]
        return scope

    def test_choice(self) -> None:
        """Each owner of a key is chosen as the random number says."""
        for number, scope in ((0.0, "east"), (0.49, "east"), (0.5, "west"), (1.0, "west")):
            self.number = number
            self.assertIs(self.shards.choice("e1"), self.by_scope[scope])
            self.assertEqual(self.scope("e1"), scope)
        self.assertIs(self.shards.choice("s1"), self.by_scope["south"])

    def test_no_owner(self) -> None:
        """A key without an owner is named, whether the mapping knows it or not."""
        for key in ("n1", "x1"):
            error = self.assertRaises(NoOwner, self.shards.choice, key)
            self.assertEqual(str(error), f"no cluster owns '{key}'")
            self.failure(self.shards.request(key, "GET", "/health"), NoOwner)
            self.failure(self.shards.broadcast(key, "GET", "/health"), NoOwner)

    def test_other_owner(self) -> None:
        """Where no member of an owner can be reached, another owner is asked."""
        for name in "abc":
            self.east.kill(name)
        answering = self.begin(self.shards.request("e1", "GET", "/cluster", timeout=3.0))
        self.clock.pump([0.5] * 3)
        self.assertEqual(self.successResultOf(answering).json()["scope"], "west")

    def test_silent_owner(self) -> None:
        """One that is silent leaves the other owners their part of the time."""
        for name in "abc":
            self.east.hang(name)
        answering = self.begin(self.shards.request("e1", "GET", "/cluster", timeout=3.0))
        self.clock.pump([0.25] * 7)
        self.assertEqual(self.successResultOf(answering).json()["scope"], "west")

    def test_changes(self) -> None:
        """What changes something is not asked of another owner once it may have been done."""
        self.result(self.by_scope["east"].start())
        self.east.hang("a")
        patch = {"ttl": 25}
        changing = self.begin(
            self.shards.request("e1", "PATCH", "/config", json=patch, timeout=3.0)
        )
        self.clock.pump([0.5] * 7)
        self.failureResultOf(changing, OutcomeUnknown)
        self.assertEqual([each for each in self.west.asked if each[0] == "PATCH"], [])

    def test_changes_elsewhere(self) -> None:
        """It is asked of another owner if nobody was asked."""
        for name in "abc":
            self.east.kill(name)
        changing = self.begin(self.shards.request("e1", "PATCH", "/config", json={"ttl": 25}))
        self.clock.pump([0.5] * 9)
        self.assertEqual(self.successResultOf(changing).json()["ttl"], 25)

    def test_all_fail(self) -> None:
        """Where no owner can be asked, the last of them says why."""
        for cluster in (self.east, self.west):
            for name in "abc":
                cluster.kill(name)
        answering = self.begin(self.shards.request("e1", "GET", "/cluster", timeout=3.0))
        self.clock.pump([0.5] * 7)
        self.failureResultOf(answering, ClusterUnknown)

    def test_broadcast(self) -> None:
        """All owners are asked, and each has its answer or its failure."""
        found = self.result(self.shards.broadcast("e1", "PATCH", "/config", json={"ttl": 25}))
        self.assertEqual(
            [
                (owner, each.json()["ttl"])
                for owner, each in found
                if not isinstance(each, Exception)
            ],
            [(self.by_scope["east"], 25), (self.by_scope["west"], 25)],
        )
        for name in "abc":
            self.west.kill(name)
        asking = self.begin(self.shards.broadcast("e1", "GET", "/health", timeout=2.0))
        self.clock.pump([0.5] * 5)
        (_, good), (owner, bad) = self.successResultOf(asking)
        self.assertNotIsInstance(good, ClientError)
        self.assertIs(owner, self.by_scope["west"])
        self.assertIsInstance(bad, ClientError)

    def test_gather(self) -> None:
        """Each key has its answer or its failure, in the order of the keys."""
        for name in "abc":
            self.south.kill(name)
        keys = ["e2", "s1", "n1", "e1", "e2"]
        gathering = self.begin(self.shards.gather(keys, "GET", "/cluster", timeout=2.0))
        self.clock.pump([0.5] * 5)
        found = self.successResultOf(gathering)
        self.assertEqual(list(found.responses), ["e2", "e1"])
        self.assertEqual(list(found.failures), ["s1", "n1"])
        self.assertIsInstance(found.failures["s1"], ClusterUnknown)
        self.assertIn("http://a:8008", str(found.failures["s1"]))
        self.assertFalse(found.complete)
        self.assertEqual(len([each for each in self.east.asked if "/cluster" in each[1]]), 2)

    def test_gather_limit(self) -> None:
        """No more keys than the limit are asked for at a time."""
        self.result(self.by_scope["south"].start())
        for name in "abc":
            self.south.hang(name)
        begun = len(self.south.asked)
        gathering = self.begin(
            self.shards.gather([f"s{number}" for number in range(9)], "POST", "/reload", limit=3)
        )
        self.assertEqual(len(self.south.asked) - begun, 3)
        gathering.cancel()
        self.failureResultOf(gathering, CancelledError)

    def test_wrong_arguments(self) -> None:
        """A mistake of the caller is no failure of a key."""
        self.failure(self.shards.gather(["s1"], "GET", "/health", target="master"), ValueError)
        self.failure(self.shards.gather(["s1"], "GET", "/health", limit=0), ValueError)

    def test_mapping(self) -> None:
        """A mapping names one owner of a key or several; all are closed, used or not."""
        shards = Shards.of({0: self.by_scope["east"], 1: [self.by_scope["west"]]})
        self.assertIs(shards.choice(1), self.by_scope["west"])
        self.assertRaises(NoOwner, shards.choice, 2)
        self.result(shards.close())
        for scope in ("east", "west"):
            self.failure(self.by_scope[scope].get("/health"), PoolClosed)

    def test_close(self) -> None:
        """Closing ends what is on its way, and nothing can be asked for afterwards."""

        async def use() -> None:
            async with self.shards as shards:
                await shards.request("s1", "GET", "/health")

        self.result(use())
        self.assertRaises(PoolClosed, self.shards.choice, "s1")
        self.failure(self.by_scope["south"].get("/health"), PoolClosed)
        self.result(self.by_scope["east"].get("/health"))  # was not used, and is not closed

    def test_closed_while_asked(self) -> None:
        """Whoever waits for an answer when the shards are closed is told so."""
        self.result(self.by_scope["south"].start())
        for name in "abc":
            self.south.hang(name)
        asking = self.begin(self.shards.request("s1", "GET", "/health"))
        self.result(self.shards.close())
        self.failureResultOf(asking, PoolClosed)
