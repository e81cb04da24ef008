"""Tests of twisted_patroni.events.watcher: what the engine tells, and which events that gives."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import MEMBERS, NOW, FakeEngine, make_cluster, make_node, make_replica
from twisted_patroni.engine.interface import (
    ClusterView,
    DcsUnavailable,
    FailoverView,
    Look,
    MemberView,
    ModeView,
    NodeView,
    Stir,
)
from twisted_patroni.events import Event, EventStream, Watcher
from twisted_patroni.events.watcher import CLAIM_TIME
from twisted_patroni.looks import Looks


class WatcherCase(SynchronousTestCase):
    """A node that watches, and a DCS that shows what the test says."""

    def setUp(self) -> None:
        """Watch as the leader alpha."""
        self.watch(make_node())

    def watch(self, node: NodeView) -> None:
        """Watch as some node, which has seen the cluster once.

        :param node: the node.
        """
        self.clock = Clock()
        self.clock.advance(NOW.timestamp())
        self.engine = FakeEngine(view=node)
        self.looks = Looks(self.clock, self.engine.look)
        self.engine.on_look = self.looks.publish
        self.stream = EventStream(self.clock)
        self.drain: dict[str, Any] | None = None
        self.watcher = Watcher(self.engine, self.looks, self.stream, self.clock, lambda: self.drain)
        self.looks.listen(self.watcher.looked)
        self.looks.look_now()
        self.read = self.stream.position

    def show(self, **changes: Any) -> None:
        """Have the DCS show another cluster from now on; see make_cluster."""
        self.engine.dcs = make_cluster(**changes)

    def see(self, **changes: Any) -> list[Event]:
        """Have the DCS show another cluster, let the engine look, and return what was told."""
        self.show(**changes)
        self.looks.look_now()
        return self.told()

    def late(self, begun: int, cluster: ClusterView) -> None:
        """Have a look end that began long ago."""
        self.looks.publish(Look(begun, cluster))

    def told(self) -> list[Event]:
        """Return what was told since the last time."""
        backlog = self.stream.since(self.read)
        self.assertTrue(backlog.complete)
        self.read = self.stream.position
        return list(backlog.events)

    def leaders(self) -> list[tuple[str | None, str]]:
        """Return the leaders told of since the last time, each with the one before."""
        events = [each.data for each in self.told() if each.type == "leader"]
        return [(each["old"], each["new"]) for each in events]


class PictureTests(WatcherCase):
    """What the view shows."""

    def test_first_look(self) -> None:
        """The first look makes a view, and no events; before it there is no view."""
        self.assertEqual(self.stream.newest, self.read.number)
        view = self.stream.view
        assert view is not None
        self.assertEqual((view.scope, view.leader, view.timeline), ("demo", "alpha", 3))
        self.assertEqual([each.name for each in view.members], ["alpha", "beta", "gamma"])
        self.assertEqual((view.dcs, view.node.state, view.node.drain), (True, "running", None))
        blind = Watcher(self.engine, self.looks, EventStream(self.clock), self.clock, lambda: None)
        blind.refresh()
        blind.stirred(Stir.NODE)
        self.assertIsNone(blind.stream.view)

    def test_nothing_new(self) -> None:
        """Looks and cycles that show nothing new are no events."""
        for _ in range(3):
            self.looks.look_now()
            self.watcher.refresh()
            self.watcher.stirred(Stir.DCS)
            self.watcher.stirred(Stir.NODE)
        self.assertEqual(self.told(), [])

    def test_node(self) -> None:
        """A change of the node's state is told as it happens."""
        self.engine.view = make_node(state="restarting", pending_restart={"b": {}, "a": {}})
        self.watcher.stirred(Stir.NODE)
        (event,) = self.told()
        self.assertEqual(
            (event.type, event.data["changed"]), ("node", ["state", "pending_restart"])
        )
        self.assertEqual(event.data["pending_restart"], ("a", "b"))
        self.assertEqual(event.view, self.stream.view)

    def test_drain(self) -> None:
        """A drain is told when the watcher is told to look."""
        self.drain = {"reason": "repair"}
        self.watcher.refresh()
        (event,) = self.told()
        self.assertEqual((event.type, event.data["drain"]), ("node", {"reason": "repair"}))
        self.drain = None
        self.watcher.refresh()
        (event,) = self.told()
        self.assertEqual(event.data["old"], {"drain": {"reason": "repair"}})

    def test_members(self) -> None:
        """Members as the DCS has them, far behind or not; the leader is neither."""
        alpha, beta, gamma = MEMBERS
        members = [
            evolve(gamma, role="replica", lag=2_000_000),
            evolve(beta, role="sync_standby", lag=5, tags={"dc": "east"}),
            evolve(alpha, role="leader", timeline=3),
        ]
        self.see(members=tuple(members))
        view = self.stream.view
        assert view is not None
        self.assertEqual([each.lag_class for each in view.members], [None, "low", "high"])
        self.assertEqual(
            (view.members[1].role, view.members[1].tags), ("sync_standby", {"dc": "east"})
        )
        self.see(members=(members[2], evolve(gamma, lag=600_000)))
        self.assertEqual(self.stream.view and self.stream.view.members[1].lag_class, "high")

    def test_cluster(self) -> None:
        """Pause, a scheduled switchover and synchronous standbys."""
        (event,) = self.see(
            mode=ModeView(paused=True, synchronous=True),
            failover=FailoverView("alpha", "beta", NOW),
            sync_members=frozenset({"beta", "stranger"}),
        )
        self.assertEqual(event.data["changed"], ["paused", "switchover", "sync"])
        plan = {"from": "alpha", "to": "beta", "at": NOW.isoformat()}
        self.assertEqual((event.data["switchover"], event.data["sync"]), (plan, ("beta",)))

    def test_failover_key_for_now(self) -> None:
        """A failover key without a time is no schedule; standbys of a key out of use are none."""
        failover = FailoverView("alpha", "beta", None)
        self.assertEqual(self.see(failover=failover, sync_members=frozenset({"beta"})), [])

    def test_config_and_history(self) -> None:
        """Changed configuration and new lines of the history; garbage among them is no harm."""
        line = [3, 1, "x", "t", "alpha"]
        events = self.see(config={"ttl": 20}, history=["junk", line])
        self.assertEqual([each.type for each in events], ["config", "history"])
        self.assertEqual(events[0].data["changed"], {"ttl": {"old": 30, "new": 20}})
        self.assertEqual(events[1].data["leader"], "alpha")

    def test_removed_cluster(self) -> None:
        """When all keys are removed, everybody has left and nobody leads."""
        events = self.see(leader=None, members=(), config=None, leader_timeline=None)
        self.assertEqual([each.type for each in events], ["cluster", *["member"] * 3])
        self.assertEqual({each.data.get("change") for each in events[1:]}, {"left"})

    def test_memory(self) -> None:
        """Views share what has not changed, for a thousand events keep theirs."""
        members = tuple(evolve(each, tags={"dc": "east"}, lag=1) for each in MEMBERS)
        self.see(members=members, history=[[1, 2, "x"]])
        old = self.stream.view
        again = tuple(evolve(each, tags={"dc": "east"}) for each in members)
        self.see(members=again, config={"ttl": 30}, history=[[1, 2, "x"]])
        new = self.stream.view
        assert old is not None
        assert new is not None
        self.assertIs(new.config, old.config)
        self.assertIs(new.history, old.history)
        for each, other in zip(new.members, old.members, strict=True):
            self.assertIs(each, other)

    def test_lag(self) -> None:
        """How far members lag is shown as it is, though it is no event."""
        for lag in (5, 6):
            self.see(members=tuple(evolve(each, lag=lag) for each in MEMBERS))
            self.assertEqual({each.lag for each in (self.stream.view or ()).members}, {lag})  # type: ignore[union-attr]

    def test_strange_member(self) -> None:
        """A member of which only the name is known is one all the same."""
        (event,) = self.see(members=(*MEMBERS, MemberView("delta", None)))
        self.assertEqual((event.data["name"], event.data["change"]), ("delta", "joined"))


class DcsTests(WatcherCase):
    """A DCS that is away for a while."""

    def test_lost_and_back(self) -> None:
        """Losing it is told by the next cycle, its return too; what was known stays known."""
        self.engine.outcomes["look"] = DcsUnavailable("away")
        self.engine.view = make_node(cluster=None)
        self.watcher.refresh()
        (event,) = self.told()
        self.assertEqual((event.data["changed"], event.data["dcs"]), (["dcs"], False))
        self.assertEqual((event.data["leader"], event.data["locked"]), ("alpha", True))
        self.watcher.stirred(Stir.DCS)
        self.assertEqual(self.told(), [])
        del self.engine.outcomes["look"]
        self.engine.view = make_node()
        self.looks.look_now()
        (event,) = self.told()
        self.assertEqual((event.data["changed"], event.data["dcs"]), (["dcs"], True))

    def test_given_up_key(self) -> None:
        """The engine forgets the cluster as it gives the key up; the DCS is there all the same."""
        self.engine.view = make_node(cluster=None, dcs_answers=True)
        self.watcher.stirred(Stir.NODE)
        self.assertEqual(self.told(), [])

    def test_leader_changed_meanwhile(self) -> None:
        """A leader that was found while the DCS was away is told at its return."""
        self.engine.view = make_replica(name="gamma", cluster=None)
        self.watcher.refresh()
        self.told()
        self.engine.view = make_replica(name="gamma")
        self.see_leader("beta")

    def see_leader(self, name: str) -> None:
        """See another leader, told once."""
        self.show(leader=name)
        self.looks.look_now()
        self.assertEqual(self.leaders(), [("alpha", name)])


class ClaimTests(WatcherCase):
    """What the node does to the key counts before looks show it."""

    def setUp(self) -> None:
        """Watch as beta, a replica."""
        self.watch(make_replica())

    def test_acquired(self) -> None:
        """Taking the key is told at once, and once; a look that is behind does not undo it."""
        self.watcher.stirred(Stir.ACQUIRED)
        self.assertEqual(self.leaders(), [("alpha", "beta")])
        self.looks.look_now()
        self.see(leader=None)
        self.see(leader="beta", leader_confirmed=False)
        self.clock.advance(CLAIM_TIME * 2)
        self.looks.look_now()
        self.assertEqual(self.leaders(), [])

    def test_acquired_for_nothing(self) -> None:
        """A look long after it that does not show it is right."""
        self.watcher.stirred(Stir.ACQUIRED)
        self.told()
        self.clock.advance(CLAIM_TIME)
        self.looks.look_now()
        self.assertEqual(self.leaders(), [("beta", "alpha")])

    def test_somebody_else(self) -> None:
        """A look that shows a third leader is right at once."""
        self.watcher.stirred(Stir.ACQUIRED)
        self.told()
        self.show(leader="gamma")
        self.looks.look_now()
        self.assertEqual(self.leaders(), [("beta", "gamma")])

    def test_no_look_at_all(self) -> None:
        """While no look succeeds, what the node did goes on to count, however long."""
        self.engine.outcomes["look"] = DcsUnavailable("away")
        self.watcher.stirred(Stir.ACQUIRED)
        self.clock.advance(CLAIM_TIME * 10)
        self.watcher.refresh()
        self.assertEqual(self.leaders(), [("alpha", "beta")])

    def test_look_that_began_before(self) -> None:
        """A look that began before the key was taken is never right about it."""
        self.engine.outcomes["look"] = fail(DcsUnavailable("away")).addErrback(lambda _: None)
        self.engine.begun = 40
        self.watcher.stirred(Stir.ACQUIRED)
        self.clock.advance(CLAIM_TIME * 2)
        self.late(39, make_cluster(leader=None))
        self.assertEqual(self.leaders(), [("alpha", "beta")])
        self.assertEqual(self.stream.view and self.stream.view.leader, "beta")

    def test_out_of_order(self) -> None:
        """A look that began before one already seen is passed over."""
        self.engine.begun = 50
        self.show(leader="gamma")
        self.looks.look_now()
        self.late(50, make_cluster(leader="alpha"))
        self.assertEqual(self.leaders(), [("alpha", "gamma")])

    def test_released_by_a_replica(self) -> None:
        """Giving up what somebody else holds changes nothing, though the DCS calls it a success."""
        self.watcher.stirred(Stir.RELEASED)
        self.watcher.refresh()
        self.assertEqual(self.told(), [])

    def test_taken_and_given_up(self) -> None:
        """A key that is taken and given up at once is told as both."""
        self.show(leader=None)
        self.looks.look_now()
        self.watcher.stirred(Stir.ACQUIRED)
        self.watcher.stirred(Stir.RELEASED)
        self.assertEqual(self.stream.view and self.stream.view.leader, None)
        self.assertEqual(self.leaders(), [("alpha", "beta")])
