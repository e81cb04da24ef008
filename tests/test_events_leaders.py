"""Tests of twisted_patroni.events.watcher: how each node learns of another leader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.doubles import make_node, make_replica
from tests.test_events_watcher import WatcherCase
from twisted_patroni.engine.interface import Stir
from twisted_patroni.looks import RACE_INTERVAL, RACE_TIME

if TYPE_CHECKING:
    from twisted_patroni.events import Event


class SwitchoverTests(WatcherCase):
    """A switchover from alpha to beta, on each node: one event of the leader on each."""

    def promoted(self) -> list[Event]:
        """See beta promoted, and return what that tells."""
        return self.see(leader="beta", leader_timeline=4)

    def finish(self) -> None:
        """Assert that the rest tells of the timeline, and of no other leader."""
        events = self.promoted()
        self.assertEqual([each.type for each in events], ["cluster"])
        self.assertEqual(events[0].data["changed"], ["timeline"])
        self.assertEqual((events[0].data["leader"], events[0].data["timeline"]), ("beta", 4))

    def test_old_leader(self) -> None:
        """Alpha gives the key up, sees nobody, and then beta, whom the DCS tells of."""
        self.engine.view = make_node(role="demoted", state="stopping")
        self.watcher.stirred(Stir.NODE)
        self.watcher.stirred(Stir.RELEASED)  # a look behind shows alpha still
        events = self.told()
        self.assertEqual([each.type for each in events], ["node", "cluster"])
        self.assertEqual(events[1].data["changed"], ["locked", "timeline"])
        self.assertEqual(self.see(leader=None, leader_timeline=None), [])
        self.show(leader="beta", leader_confirmed=False)
        self.watcher.stirred(Stir.DCS)
        leader, cluster = self.told()
        self.assertEqual(leader.data, {"old": "alpha", "new": "beta", "timeline": None})
        self.assertEqual((cluster.data["changed"], cluster.data["leader"]), (["locked"], "beta"))
        self.finish()

    def test_new_leader(self) -> None:
        """Beta sees nobody, and takes the key."""
        self.watch(make_replica())
        self.see(leader=None, leader_timeline=None)
        self.show(leader="beta", leader_confirmed=False)
        self.watcher.stirred(Stir.ACQUIRED)
        self.assertEqual(self.leaders(), [("alpha", "beta")])
        self.watcher.refresh()
        self.assertEqual(self.told(), [])
        self.finish()

    def test_third_node(self) -> None:
        """Gamma sees beta in the place of alpha."""
        self.watch(make_replica(name="gamma"))
        self.show(leader="beta", leader_confirmed=False)
        self.watcher.stirred(Stir.DCS)
        (event,) = self.told()
        self.assertEqual(event.data, {"old": "alpha", "new": "beta", "timeline": None})
        self.finish()

    def test_newer_timeline(self) -> None:
        """A timeline that nobody had before is the new leader's, before it says that it leads."""
        self.see(leader="beta", leader_timeline=3, leader_confirmed=False)
        (event,) = self.see(leader="beta", leader_timeline=4, leader_confirmed=False)
        self.assertEqual((event.type, event.data["timeline"]), ("cluster", 4))

    def test_restart(self) -> None:
        """A leader that restarts its PostgreSQL publishes no timeline meanwhile; it has one."""
        self.assertEqual(self.see(leader_timeline=None, leader_confirmed=False), [])
        self.assertEqual(self.see(), [])


class RaceTests(WatcherCase):
    """Looks while nobody leads."""

    def test_looks(self) -> None:
        """A leader is found soon although neither the DCS nor a cycle tells of it."""
        self.watch(make_replica(name="gamma"))
        self.see(leader=None)
        self.clock.advance(RACE_INTERVAL)
        self.show(leader="beta")
        self.clock.advance(RACE_INTERVAL)
        self.assertEqual(self.leaders(), [("alpha", "beta")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_for_ever(self) -> None:
        """A cluster without a leader is not looked at all the time; each race counts anew."""
        for _ in range(2):
            before = self.engine.begun
            self.see(leader=None)
            self.clock.pump([RACE_INTERVAL] * round(RACE_TIME * 2 / RACE_INTERVAL))
            self.assertLess(self.engine.begun - before, RACE_TIME / RACE_INTERVAL + 3)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.see(leader="alpha")

    def test_end(self) -> None:
        """At the end of the API nothing is looked at any more."""
        self.see(leader=None)
        self.looks.stop()
        self.see(leader="alpha")
        self.see(leader=None)
        before = self.engine.begun
        self.clock.advance(1.0)
        self.assertEqual(self.engine.begun, before)
