"""A follower in memory, for tests: a clock set by hand and nodes that do as they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import EventNode, Network, Notes
from twisted_patroni.client.asking import Asker
from twisted_patroni.client.following import Follower

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = (f"http://{name}:8008" for name in "abc")


class FollowCase(SynchronousTestCase):
    """A follower in memory."""

    def follow(
        self, nodes: dict[str, EventNode], given: Sequence[str] = (A,), **options: Any
    ) -> None:
        """Begin to follow."""
        self.network = Network(**nodes)
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.notes = Notes()
        login = options.pop("login", None)
        asker = Asker(self.clock, self.network, login)
        self.follower = Follower(
            self.clock, asker, given, self.notes, random=lambda: 1.0, **options
        )
        self.running = Deferred.fromCoroutine(self.follower.run())
        self.addCleanup(self.stop)
        self.network.flush()

    def stop(self) -> None:
        """End it, and see that nothing is left."""
        if not self.running.called:
            self.running.cancel()
            self.failureResultOf(self.running, CancelledError)
            self.network.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            self.network.flush()

    def say(self, node: EventNode, kind: str, data: Any) -> Any:
        """Let a node tell of an event."""
        told = node.say(kind, data)
        self.network.flush()
        return told

    def cut(self, node: EventNode) -> None:
        """Let a node end its connections."""
        node.cut()
        self.network.flush()
        self.network.flush()

    def assertTold(self, *expected: tuple[Any, ...]) -> None:
        """Fail unless the listener was told this, and nothing else since the last time."""
        self.assertEqual(self.notes.told, list(expected))
        self.notes.told.clear()

    def types(self) -> list[str]:
        """Return the types of what was received since the last time."""
        found = [each["type"] for each in self.notes.events]
        self.notes.events.clear()
        return found
