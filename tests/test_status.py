"""Tests of twisted_patroni.status over doubles of the engine and of PostgreSQL."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import (
    NOW,
    STARTED,
    FakeEngine,
    FakeLink,
    make_cluster,
    make_node,
    make_replica,
    primary_row,
    replica_row,
)
from twisted_patroni.engine.interface import STATES, DcsUnavailable, ModeView, NodeView
from twisted_patroni.postgres import PostgresError
from twisted_patroni.status import DEADLINE, Snapshot, Status, StatusSource

SYNC = ModeView(synchronous=True)
QUORUM = ModeView(synchronous=True, quorum=True)
QUERIED = {"running", "restarting", "starting"}


class StatusCase(SynchronousTestCase):
    """A status source over doubles."""

    def setUp(self) -> None:
        """Put the parts together."""
        self.clock = Clock()
        self.engine = FakeEngine()
        self.link = FakeLink()
        self.source = StatusSource(self.engine, self.link, self.clock)

    def asking(self) -> Deferred[Snapshot]:
        """Ask, and let the turn of the reactor end in which a statement gathers its callers."""
        asking = self.source.current()
        self.clock.advance(0)
        return asking

    def current(self) -> Snapshot:
        """Return the snapshot that is there at the end of this turn."""
        return self.successResultOf(self.asking())

    def status(self) -> Status:
        """Return the status that is there at once."""
        return self.current().status


class SharingTests(StatusCase):
    """One statement at a time, and none that began before the question."""

    def test_those_who_ask_meanwhile_share_the_next(self) -> None:
        """Callers that arrive during a statement all get the answer of the one after it."""
        self.link.held = True
        first = self.asking()
        late = [self.asking() for _ in range(5)]
        self.assertEqual(len(self.link.statements), 1)
        self.link.row = primary_row(location=6000)
        self.link.release()
        self.assertEqual(self.successResultOf(first).status.location, 6000)
        self.clock.advance(0)
        for each in late:
            self.assertNoResult(each)
        self.assertEqual(len(self.link.statements), 2)
        self.link.row = primary_row(location=7000)
        self.link.release()
        for each in late:
            self.assertEqual(self.successResultOf(each).status.location, 7000)
        self.assertEqual((self.source.statements, self.source.failures), (2, 0))

    def test_those_who_ask_together_share_a_statement(self) -> None:
        """Callers that arrive in one turn of the reactor cost one statement."""
        asking = [self.source.current() for _ in range(5)]
        self.clock.advance(0)
        for each in asking:
            self.assertEqual(self.successResultOf(each).status.state, "running")
        self.assertEqual(self.source.statements, 1)

    def test_view_is_as_old_as_the_answer(self) -> None:
        """The engine's view in a snapshot is taken when PostgreSQL has answered."""
        self.link.held = True
        asking = self.asking()
        self.engine.view = make_node(leader=False)
        self.link.release()
        self.assertFalse(self.successResultOf(asking).node.leader)

    def test_client_that_leaves(self) -> None:
        """Cancelling one caller disturbs no other."""
        self.link.held = True
        gone, stays = self.asking(), self.asking()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.link.release()
        self.clock.advance(0)
        self.link.release()
        self.assertEqual(self.successResultOf(stays).status.state, "running")

    def test_work_is_shared_too(self) -> None:
        """What is made of a snapshot is made once for all who ask for the same."""
        made: list[str] = []

        def make(snapshot: Snapshot) -> str:
            made.append(snapshot.status.state)
            return "made"

        snapshot = self.current()
        self.assertEqual([snapshot.once("a", make) for _ in range(3)], ["made"] * 3)
        snapshot.once("b", make)
        self.assertEqual(made, ["running"] * 2)


class FailureTests(StatusCase):
    """What is known while PostgreSQL does not answer."""

    def test_states_without_a_statement(self) -> None:
        """PostgreSQL is asked while it may answer, and not at all in other states."""
        self.link.row = replica_row()
        for _, state in STATES:
            self.link.statements.clear()
            self.engine.view = make_replica(state=state)
            status = self.status()
            self.assertEqual((status.state, status.role), (state, "replica"), state)
            self.assertEqual(len(self.link.statements), int(state in QUERIED), state)
            self.assertEqual(bool(status.server_version), state in QUERIED, state)

    def test_error(self) -> None:
        """A running server that fails to answer is unknown; another keeps the engine's state."""
        self.link.error = PostgresError("gone")
        for state, expected in (
            ("running", "unknown"),
            ("starting", "starting"),
            ("restarting", "restarting"),
        ):
            self.engine.view = make_node(state=state, role="primary")
            self.assertEqual(self.status(), Status(expected, "primary"), state)
        self.assertEqual(self.source.failures, 3)

    def test_state_after_the_error_counts(self) -> None:
        """A server that was stopped meanwhile is not unknown."""
        self.link.held = True
        asking = self.asking()
        self.engine.view = make_node(state="stopped", role="demoted")
        self.link.waiting[0].errback(PostgresError("gone"))
        self.assertEqual(self.successResultOf(asking).status, Status("stopped", "demoted"))

    def test_deadline(self) -> None:
        """Nobody waits for PostgreSQL longer than three seconds."""
        self.assertEqual(DEADLINE, 3.0)
        self.link.held = True
        asking = self.source.current()
        self.clock.advance(2.9)
        self.assertNoResult(asking)
        self.clock.advance(0.1)
        self.assertEqual(self.successResultOf(asking).status, Status("unknown", "primary"))
        self.link.held = False
        self.link.release()
        self.assertEqual(self.status().state, "running")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadline_of_those_who_wait_for_the_next(self) -> None:
        """The deadline holds for callers whose statement has not even begun."""
        self.link.held = True
        first = self.source.current()
        self.clock.advance(1.0)
        second = self.source.current()
        self.clock.advance(2.0)
        self.assertEqual(self.successResultOf(first).status.state, "unknown")
        self.assertNoResult(second)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(second).status.state, "unknown")
        self.assertEqual(len(self.link.statements), 1)

    def test_version_not_known_yet(self) -> None:
        """Before the engine knows the server's version there is nothing to ask."""
        self.engine.major_version = None
        self.assertEqual(self.status(), Status("unknown", "primary"))
        self.assertEqual((self.link.statements, self.source.statements), ([], 0))


class RowTests(StatusCase):
    """What a row means."""

    def replica(self, row: dict[str, Any] | None = None, **node: Any) -> Status:
        """Return the status of a replica."""
        self.engine.view = make_replica(**node)
        self.link.row = replica_row(**(row or {}))
        return self.status()

    def test_primary(self) -> None:
        """A primary has a position and a timeline of its own."""
        status = self.status()
        self.assertEqual(
            (status.role, status.location, status.timeline, status.in_recovery),
            ("primary", 5000, 3, False),
        )
        self.assertEqual((status.start_time, status.server_version), (STARTED, 180000))
        self.assertIsNone(status.replication_state)

    def test_postgresql_knows_its_role(self) -> None:
        """The role is what PostgreSQL says, not what the engine still believes."""
        self.engine.view = make_node(role="replica", leader=False)
        self.assertEqual(self.status().role, "primary")
        self.assertEqual(self.replica(role="primary").role, "replica")

    def test_positions(self) -> None:
        """Received is what is written, else received, else replayed; the first that is not 0."""
        rows: list[tuple[dict[str, Any], int | None]] = [
            ({"written": 4910, "received": 4900, "replayed": 4800}, 4910),
            ({"written": None, "received": 4900, "replayed": 4800}, 4900),
            ({"written": 0, "received": 0, "replayed": 4800}, 4800),
            ({"written": None, "received": 0, "replayed": None}, None),
        ]
        for row, expected in rows:
            self.assertEqual(self.replica(row).received, expected, str(row))

    def test_latest_end(self) -> None:
        """A position of 0 reported by the sender is none."""
        for reported, expected in ((4950, 4950), (0, None), (None, None)):
            status = self.replica({"latest_end": reported})
            self.assertEqual(status.latest_end_lsn, expected, reported)

    def test_replication_state(self) -> None:
        """A replica streams, restores, or does neither."""
        rows = (
            ("streaming", "", "streaming"),
            ("streaming", "cp", "streaming"),
            (None, "cp", "in archive recovery"),
            ("stopped", "", None),
            (None, None, None),
        )
        for receiver, command, expected in rows:
            row = {"receiver_status": receiver, "restore_command": command}
            self.assertEqual(self.replica(row).replication_state, expected, str(row))

    def test_synchronous_standby(self) -> None:
        """A replica named in the key is a synchronous or a quorum standby."""
        rows: list[tuple[str, dict[str, Any], set[str], tuple[bool, bool]]] = [
            ("synchronous", {"mode": SYNC}, {"beta"}, (True, False)),
            ("quorum", {"mode": QUORUM, "global_quorum": True}, {"beta"}, (False, True)),
            ("quorum not applied yet", {"mode": QUORUM}, {"beta"}, (True, False)),
            ("not in the key", {"mode": SYNC}, {"gamma"}, (False, False)),
            ("mode off", {}, {"beta"}, (False, False)),
            ("another case", {"mode": SYNC, "name": "Beta"}, {"beta"}, (True, False)),
        ]
        for what, node, names, expected in rows:
            cluster = make_cluster(sync_members=frozenset(names))
            status = self.replica(cluster=cluster, **node)
            self.assertEqual((status.sync_standby, status.quorum_standby), expected, what)

    def test_synchronous_standby_without_dcs(self) -> None:
        """Without the DCS nobody is a synchronous standby."""
        status = self.replica(cluster=None, mode=SYNC)
        self.assertEqual((status.sync_standby, status.quorum_standby), (False, False))

    def test_primary_is_no_standby(self) -> None:
        """A primary in the key is no standby."""
        self.engine.view = make_node(
            cluster=make_cluster(sync_members=frozenset({"alpha"}), mode=SYNC)
        )
        self.assertFalse(self.status().sync_standby)

    def test_standby_cluster(self) -> None:
        """In a standby cluster a replica has the role that the engine gives it."""
        cluster = make_cluster(mode=ModeView(standby_cluster=True, synchronous=True))
        for role in ("standby_leader", "replica"):
            self.assertEqual(self.replica(cluster=cluster, role=role).role, role)
        self.engine.view, self.link.row = make_node(cluster=cluster), primary_row()
        self.assertEqual(self.status().role, "primary")


class TimelineTests(StatusCase):
    """A replica's timeline."""

    def setUp(self) -> None:
        """Make the node a replica."""
        super().setUp()
        self.engine.view, self.link.row = make_replica(), replica_row()

    def asked(self) -> list[tuple[Any, ...]]:
        """Return what the engine was asked over a connection."""
        return self.engine.called("replica_timeline")

    def test_known(self) -> None:
        """A timeline that is the leader's already costs nothing."""
        self.engine.known_timeline = 3
        self.assertEqual(self.status().timeline, 3)
        self.assertEqual(self.asked(), [])

    def test_read(self) -> None:
        """Otherwise it is read, with the leader's in hand."""
        self.engine.known_timeline = 2
        self.assertEqual(self.status().timeline, 3)
        self.assertEqual(self.asked(), [[3]])

    def test_no_leader(self) -> None:
        """Without a leader to compare with, it is read every time."""
        views: list[NodeView] = [
            make_replica(cluster=None),
            make_replica(cluster=make_cluster(leader=None)),
            make_replica(cluster=make_cluster(leader_timeline=None)),
        ]
        for view in views:
            self.engine.view = view
            self.assertEqual(self.status().timeline, 3)
        self.assertEqual(self.asked(), [[None]] * 3)

    def test_primary_is_not_asked(self) -> None:
        """A primary's row has the timeline."""
        self.link.row = primary_row(timeline=9)
        self.assertEqual(self.status().timeline, 9)
        self.assertEqual(self.asked(), [])

    def test_failure(self) -> None:
        """A timeline that cannot be read costs only itself."""
        for error in (OSError("refused"), DcsUnavailable("away")):
            self.engine.outcomes["replica_timeline"] = error
            status = self.status()
            self.assertEqual((status.state, status.timeline), ("running", None))

    def test_too_slow(self) -> None:
        """A timeline that takes too long costs only itself, too."""
        self.engine.outcomes["replica_timeline"] = Deferred()
        asking = self.asking()
        self.clock.advance(1.0)
        status = self.successResultOf(asking).status
        self.assertEqual((status.state, status.timeline), ("running", None))
        self.assertEqual(status.replayed_timestamp, NOW)
