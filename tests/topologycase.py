"""A cluster in memory, and what is known of it, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import EventNode, Network, member, view
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Sequence

A, B, C = (f"http://{name}:8008" for name in "abc")


def status(name: str, role: str = "replica", timeline: int = 3, **changes: Any) -> dict[str, Any]:
    """Return what a healthy node says of itself."""
    document = {
        "state": "running",
        "role": role,
        "timeline": timeline,
        "patroni": {"name": name, "scope": "demo", "version": "4.1.5"},
    }
    return {**document, **changes}


class TopologyCase(SynchronousTestCase):
    """A cluster in memory of which ``a`` leads, and what is known of it."""

    def setUp(self) -> None:
        """Have three nodes with events."""
        self.nodes = {name: EventNode(f"stream{name}") for name in "abc"}
        for name, node in self.nodes.items():
            node.greeting = view(member("a", "leader"), member("b"), member("c"))
            node.status = status(name, "primary" if name == "a" else "replica")
        self.a, self.b, self.c = self.nodes.values()
        self.network = Network(**self.nodes)
        self.clock = Clock()
        self.clock.advance(1_790_000_000)

    def make(self, seeds: Sequence[str] = (A,), **settings: Any) -> Topology:
        """Begin to find out."""
        self.topology = Topology(
            self.clock, seeds, ClientSettings(**settings), self.network, lambda: 1.0
        )
        self.addCleanup(self.end)
        self.topology.start()
        self.flush()
        return self.topology

    def flush(self) -> None:
        """Let all that was sent arrive."""
        for _ in range(5):
            self.network.flush()

    def end(self) -> None:
        """End it, if it was begun, and see that nothing is left."""
        if not hasattr(self, "topology"):
            return
        closing = self.topology.close()
        self.flush()
        self.successResultOf(closing)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
            self.flush()

    def names(self) -> list[str]:
        """Return the members' names."""
        return [each.name for each in self.topology.members]

    def leader(self) -> str | None:
        """Return the leader's name."""
        return None if self.topology.leader is None else self.topology.leader.name

    def say(self, node: EventNode, kind: str, data: Any) -> None:
        """Let a node tell of an event."""
        node.say(kind, data)
        self.flush()
