"""Tests of twisted_patroni.engine.views, and of what the adapter makes of upstream's memory."""

from __future__ import annotations

from typing import Any

from patroni.dcs import (
    ClusterConfig,
    Failover,
    Leader,
    Member,
    SyncState,
    TimelineHistory,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import primary_row, replica_row
from tests.upstream import LATER, AdapterCase, make_upstream, member
from twisted_patroni.engine.interface import (
    FailoverView,
    MemberView,
    ModeView,
)
from twisted_patroni.engine.views import cluster_view


class ClusterViewTests(SynchronousTestCase):
    """Upstream's cluster as a view."""

    def test_usual(self) -> None:
        """A healthy cluster."""
        view = cluster_view(make_upstream())
        self.assertEqual(
            (view.leader, view.unlocked, view.leader_timeline, view.last_lsn),
            ("alpha", False, 3, 5000),
        )
        self.assertEqual(
            view.members,
            (
                MemberView("alpha", "http://alpha:8008/patroni", role="leader", timeline=3),
                MemberView("beta", "http://beta:8008/patroni"),
            ),
        )
        self.assertEqual((view.failover, view.history), (None, []))
        self.assertEqual((view.config or {})["ttl"], 30)
        self.assertEqual(view.config_version, 7)
        self.assertEqual(view.mode, ModeView(maximum_lag_on_failover=1048576))

    def test_no_leader(self) -> None:
        """A cluster without a leader is unlocked."""
        view = cluster_view(make_upstream(leader=None))
        self.assertEqual((view.leader, view.unlocked, view.leader_timeline), (None, True, None))

    def test_sync(self) -> None:
        """The standbys of the key count, in lower case; the leader it names does not."""
        sync = SyncState.from_node(
            1, {"leader": "Alpha", "sync_standby": "Beta,gamma", "quorum": 0}
        )
        view = cluster_view(make_upstream(sync=sync))
        self.assertEqual(view.sync_members, {"beta", "gamma"})

    def test_failover(self) -> None:
        """The failover key, with empty names as none."""
        failover = Failover.from_node(
            9, {"leader": "alpha", "member": "", "scheduled_at": LATER.isoformat()}
        )
        view = cluster_view(make_upstream(failover=failover)).failover
        self.assertEqual(view, FailoverView("alpha", None, LATER))
        assert view is not None
        self.assertEqual(view.version, 9)
        empty = Failover.from_node(9, {})
        self.assertIsNone(cluster_view(make_upstream(failover=empty)).failover)

    def test_config_that_was_never_written(self) -> None:
        """A configuration without a version in the DCS is none."""
        for config in (None, ClusterConfig(0, {}, 0)):
            view = cluster_view(make_upstream(config=config))
            self.assertEqual((view.config, view.config_version), (None, None))

    def test_mode(self) -> None:
        """The mode is what the configuration says."""
        config = {
            "pause": True,
            "synchronous_mode": "quorum",
            "maximum_lag_on_failover": 5,
        }
        view = cluster_view(make_upstream(config=ClusterConfig(1, config, 1)))
        self.assertEqual(view.mode, ModeView(True, False, True, True, 5))

    def test_standby_cluster(self) -> None:
        """A standby cluster is never synchronous."""
        config = {"synchronous_mode": True, "standby_cluster": {"host": "x"}}
        view = cluster_view(make_upstream(config=ClusterConfig(1, config, 1)))
        self.assertEqual((view.mode.standby_cluster, view.mode.synchronous), (True, False))

    def test_history(self) -> None:
        """The lines of the history key, as they are."""
        history = TimelineHistory.from_node(1, '[[1, 50331744, "no recovery target"]]')
        view = cluster_view(make_upstream(history=history))
        self.assertEqual(
            [list(line) for line in view.history], [[1, 50331744, "no recovery target"]]
        )

    def test_workers(self) -> None:
        """Members of worker groups are known, too."""
        workers = {1: make_upstream(members=[member("delta")]), 2: make_upstream(members=[])}
        view = cluster_view(make_upstream(workers=workers))
        self.assertEqual(view.worker_members, (MemberView("delta", "http://delta:8008/patroni"),))


class MemberTests(SynchronousTestCase):
    """Members as `patronictl list` shows them."""

    def members(self, *members: Member, **changes: Any) -> dict[str, MemberView]:
        """Return the views of some members of a cluster, by name."""
        view = cluster_view(make_upstream(members=[*members], **changes))
        return {each.name: each for each in view.members}

    def test_replica(self) -> None:
        """All that a replica has published."""
        schedule = {"schedule": LATER.isoformat()}
        beta = member(
            "beta", conn_url="postgres://10.0.0.2:5433/postgres", state="running", role="replica",
            replication_state="streaming", timeline=3, receive_lsn=4000, replay_lsn=3900,
            xlog_location=4000, tags={"nofailover": True}, pending_restart=True,
            scheduled_restart=schedule,
        )  # fmt: skip
        shown = self.members(beta)["beta"]
        expected = MemberView(
            "beta", "http://beta:8008/patroni", "replica", "streaming", "10.0.0.2", 5433, 3, 1000,
            {"nofailover": True}, True, schedule,
        )  # fmt: skip
        self.assertEqual(shown, expected)

    def test_roles(self) -> None:
        """Roles are those of the cluster, not what members think of themselves."""
        sync = SyncState.from_node(1, {"leader": "alpha", "sync_standby": "beta", "quorum": 0})
        for config, roles in (
            ({}, ("leader", "replica")),
            ({"synchronous_mode": True}, ("leader", "sync_standby")),
            ({"synchronous_mode": "quorum"}, ("leader", "quorum_standby")),
            ({"standby_cluster": {"host": "x"}}, ("standby_leader", "replica")),
        ):
            shown = self.members(
                member("alpha"), member("beta"), sync=sync, config=ClusterConfig(1, config, 1)
            )
            self.assertEqual((shown["alpha"].role, shown["beta"].role), roles, config)

    def test_garbage(self) -> None:
        """What somebody else has written as a member's data blinds nobody; others are known."""
        for data in ({"conn_url": "postgres://x:port/"}, {"conn_url": 5}, {"tags": "x"},
                     {"tags": [1]}, {"receive_lsn": "x"}, {"state": None}):  # fmt: skip
            shown = self.members(member("alpha"), member("beta", **data))
            self.assertEqual([*shown], ["alpha", "beta"], data)
            self.assertEqual((shown["beta"].tags, shown["beta"].lag), ({}, None), data)
        self.assertEqual(self.members(Member.from_node(1, "beta", None, "[]"))["beta"].name, "beta")

    def test_numbers_that_are_none(self) -> None:
        """A tag that is no number is the same at each look, and JSON has it."""
        looks = [self.members(member("beta", tags={"x": float("nan"), "y": 1.5})) for _ in "ab"]
        self.assertEqual(looks[0], looks[1])
        self.assertEqual(looks[0]["beta"].tags, {"x": "nan", "y": 1.5})

    def test_confirmed(self) -> None:
        """A leader leads once it has published that it does."""
        for role, expected in (
            ("primary", True), ("master", True), ("standby_leader", True), ("replica", False),
            ("promoted", False), ("demoted", False), (None, False),
        ):  # fmt: skip
            leader = Leader(1, None, member("alpha", role=role))
            view = cluster_view(make_upstream(leader=leader))
            self.assertIs(view.leader_confirmed, expected, role)
        self.assertIs(cluster_view(make_upstream(leader=None)).leader_confirmed, False)


class NodeTests(AdapterCase):
    """The engine's memory as a view."""

    def test_usual(self) -> None:
        """Everything comes from where upstream's API takes it."""
        node = self.engine.node()
        self.assertEqual((node.name, node.scope, node.version), ("alpha", "demo", "4.1.5"))
        self.assertEqual((node.state, node.role, node.leader), ("running", "primary", True))
        self.assertEqual((node.ttl, node.loop_wait, node.dcs_last_seen), (30, 10, 1782907198))
        self.assertEqual((node.tags, node.noloadbalance), ({"dc": "east"}, False))
        self.assertEqual(node.effective_tags, {"dc": "east", "nosync": True})
        self.assertEqual((node.failsafe_mode, node.failsafe_members), (True, None))
        self.assertEqual(node.system_identifier, "739")
        self.assertEqual((node.scheduled_restart, node.watchdog_healthy), (None, True))
        self.assertEqual(node.cluster and node.cluster.leader, "alpha")
        self.assertEqual(self.engine.state(), "running")

    def test_without_dcs(self) -> None:
        """No cluster is known while the DCS is away."""
        self.dcs.cluster = None
        self.assertIsNone(self.engine.node().cluster)

    def test_failsafe_members(self) -> None:
        """The topology is a mapping or not known."""
        for failsafe, expected in (
            ({"alpha": "http://alpha"}, {"alpha": "http://alpha"}),
            ({}, {}),
            (None, None),
            ("", None),
        ):
            self.dcs.failsafe = failsafe
            self.assertEqual(self.engine.node().failsafe_members, expected, repr(failsafe))

    def test_scheduled_restart(self) -> None:
        """The schedule is ISO text with a T, and what is internal stays out."""
        self.patroni.scheduled_restart = {
            "schedule": LATER,
            "postmaster_start_time": "x",
            "role": "replica",
        }
        expected = {"schedule": "2026-07-02T12:00:00+00:00", "role": "replica"}
        self.assertEqual(self.engine.node().scheduled_restart, expected)
        self.assertIn("postmaster_start_time", self.patroni.scheduled_restart)

    def test_log_queue(self) -> None:
        """The log queue is told of when it is longer than normal."""
        for size, lost, expected in ((2, 5, (0, 0)), (3, 0, (3, 0)), (9, 5, (9, 5))):
            self.patroni.logger.queue_size, self.patroni.logger.records_lost = size, lost
            node = self.engine.node()
            self.assertEqual((node.log_queue_size, node.log_records_lost), expected)

    def test_view_is_made_once(self) -> None:
        """The same cluster object is not viewed anew at each request."""
        self.assertIs(self.engine.node().cluster, self.engine.node().cluster)

    def test_status_query(self) -> None:
        """The statement fits the server, and there is none before its version is known."""
        query = self.engine.status_query()
        assert query is not None
        self.assertIn("pg_wal_lsn_diff", query.sql)
        self.postgresql.major_version = 0
        self.assertIsNone(self.engine.status_query())

    def test_replication_state(self) -> None:
        """Upstream decides, from what the row says."""
        got: Any = self.engine.replication_state(replica_row(restore_command="cp"))
        self.assertEqual(got, (False, "streaming", "cp"))
        got = self.engine.replication_state(primary_row())
        self.assertEqual(got, (True, None, ""))

    def test_known_timeline(self) -> None:
        """A timeline is known if it was read before and is the leader's."""
        for cached, leaders, expected in (
            (3, 3, 3),
            (3, 4, None),
            (None, None, None),
            (0, 0, None),
        ):
            self.postgresql._cached_replica_timeline = cached
            self.assertEqual(self.engine.known_replica_timeline(leaders), expected, leaders)

    def test_conninfo(self) -> None:
        """The engine's parameters, under a name that tells the connections apart."""
        conninfo = self.engine.conninfo()
        self.assertEqual((conninfo["host"], conninfo["user"]), ("/run", "postgres"))
        self.assertIn("restapi", conninfo["application_name"])

    def test_notes_for_the_engine(self) -> None:
        """What only leaves a note in memory is done at once."""
        self.engine.reload()
        self.assertEqual(self.engine.update_failsafe({"name": "beta"}), 4900)
        self.assertEqual(self.ha.calls, [("sighup",), ("update_failsafe", {"name": "beta"})])
