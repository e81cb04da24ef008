"""Tests of a leader that is told of a failover key which no DCS would wake it for."""

from __future__ import annotations

from datetime import timedelta

from tests.doubles import NOW, FakeEngine, make_cluster, make_replica
from tests.operationcase import SWITCH, WAITING, OperationCase
from twisted_patroni.engine.interface import EngineError, FailoverView


class LeaderTests(OperationCase):
    """The leader, of a key that another node has written."""

    def test_woken(self) -> None:
        """Its HA loop is woken, once."""
        self.look(WAITING)
        self.look(WAITING)
        self.assertEqual(len(self.engine.called("wake")), 1)

    def test_scheduled(self) -> None:
        """A switchover of tonight does not wake it."""
        tonight = FailoverView("alpha", "beta", NOW + timedelta(hours=5))
        self.look(make_cluster(failover=tonight))
        self.assertEqual(self.engine.called("wake"), [])

    def test_own(self) -> None:
        """What it was asked for itself wakes it when it is written, and then no more."""
        self.api.begin("POST", "/switchover", body=SWITCH)
        self.look(WAITING)
        self.assertEqual(self.engine.called("wake"), [])
        self.assertEqual(self.engine.called("ask_member"), [])


class ReplicaTests(OperationCase):
    """Another node that is asked to switch over."""

    def setUp(self) -> None:
        """Go on with a replica."""
        super().setUp()
        self.use(FakeEngine(make_replica()))

    def test_leader_told(self) -> None:
        """The leader is made to look at the DCS."""
        self.api.begin("POST", "/switchover", body=SWITCH)
        self.assertEqual(self.engine.called("ask_member"), [["alpha", "/cluster"]])

    def test_leader_away(self) -> None:
        """A leader that does not answer changes nothing."""
        self.engine.outcomes["ask_member"] = EngineError("alpha does not answer")
        client = self.api.begin("POST", "/switchover", body=SWITCH)
        self.assertEqual(client.received(), b"")

    def test_not_woken(self) -> None:
        """A replica that sees the key has nothing to do at once."""
        self.api.open()
        self.look(WAITING)
        self.assertEqual(self.engine.called("wake"), [])
