"""Tests of the node status that twisted_patroni.status makes: each key, and their order."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW, STARTED, make_cluster, make_node, make_replica
from twisted_patroni.engine.interface import ModeView, NodeView
from twisted_patroni.status import Status, document
from twisted_patroni.web.answers import json_answer

PRIMARY = Status("running", "primary", 180000, STARTED, location=5000, timeline=3)
REPLICA = Status(
    "running",
    "replica",
    180000,
    STARTED,
    received=4900,
    replayed=4800,
    replayed_timestamp=NOW,
    replay_paused=False,
    timeline=3,
    latest_end_lsn=4950,
    replication_state="streaming",
)
SENDER = {
    "usename": "replicator",
    "application_name": "beta",
    "client_addr": "10.0.0.2",
    "state": "streaming",
    "sync_state": "async",
    "sync_priority": 0,
}
NOW_SECONDS = int(NOW.timestamp())


class DocumentTests(SynchronousTestCase):
    """The document."""

    def test_primary(self) -> None:
        """A healthy primary."""
        self.assertEqual(
            document(make_node(), PRIMARY),
            {
                "state": "running",
                "postmaster_start_time": STARTED,
                "role": "primary",
                "server_version": 180000,
                "xlog": {"location": 5000},
                "timeline": 3,
                "dcs_last_seen": NOW_SECONDS - 2,
                "database_system_identifier": "7391038501848",
                "patroni": {"version": "4.1.5", "scope": "demo", "name": "alpha"},
            },
        )

    def test_replica(self) -> None:
        """A healthy replica; what the sender reported is not sent."""
        self.assertEqual(
            document(make_replica(), REPLICA),
            {
                "state": "running",
                "postmaster_start_time": STARTED,
                "role": "replica",
                "server_version": 180000,
                "xlog": {
                    "received_location": 4900,
                    "replayed_location": 4800,
                    "replayed_timestamp": NOW,
                    "paused": False,
                },
                "timeline": 3,
                "replication_state": "streaming",
                "dcs_last_seen": NOW_SECONDS - 2,
                "database_system_identifier": "7391038501848",
                "patroni": {"version": "4.1.5", "scope": "demo", "name": "beta"},
            },
        )

    def test_reduced(self) -> None:
        """Without an answer of PostgreSQL there is no position, for members parse it."""
        for state, role in (
            ("unknown", "primary"),
            ("stopped", "demoted"),
            ("initializing new cluster", "uninitialized"),
            ("starting", "promoted"),
        ):
            self.assertEqual(
                list(document(make_node(), Status(state, role)).items())[:3],
                [
                    ("state", state),
                    ("role", role),
                    ("dcs_last_seen", NOW_SECONDS - 2),
                ],
            )

    def test_order(self) -> None:
        """All keys there are, in the order of the contract."""
        node = make_replica(
            cluster=make_cluster(leader=None, mode=ModeView(paused=True)),
            failsafe_active=True,
            effective_tags={"nosync": True},
            pending_restart={"max_connections": {"old_value": "100", "new_value": "200"}},
            scheduled_restart={"schedule": "2026-07-02T12:00:00+00:00", "role": "replica"},
            watchdog_healthy=False,
            log_queue_size=7,
            log_records_lost=2,
        )
        status = evolve(REPLICA, sync_standby=True, quorum_standby=True, senders=[SENDER])
        self.assertEqual(
            list(document(node, status)),
            [
                "state",
                "postmaster_start_time",
                "role",
                "server_version",
                "xlog",
                "sync_standby",
                "quorum_standby",
                "timeline",
                "replication_state",
                "replication",
                "pause",
                "cluster_unlocked",
                "failsafe_mode_is_active",
                "dcs_last_seen",
                "tags",
                "database_system_identifier",
                "pending_restart",
                "pending_restart_reason",
                "patroni",
                "scheduled_restart",
                "watchdog_failed",
                "logger_queue_size",
                "logger_records_lost",
            ],
        )

    def test_keys_of_the_node(self) -> None:
        """What the engine knows appears only when there is something to say."""
        paused = ModeView(paused=True)
        pending = {"work_mem": {"old_value": "4MB", "new_value": "8MB"}}
        schedule = {"schedule": "2026-07-02T12:00:00+00:00", "role": "replica"}
        rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"cluster": make_cluster(mode=paused)}, {"pause": True}),
            ({"cluster": None}, {"cluster_unlocked": True}),
            ({"cluster": None, "mode": paused}, {"pause": True, "cluster_unlocked": True}),
            ({"cluster": make_cluster(leader=None)}, {"cluster_unlocked": True}),
            ({"cluster": make_cluster(unlocked=True)}, {"cluster_unlocked": True}),
            ({"failsafe_active": True}, {"failsafe_mode_is_active": True}),
            ({"effective_tags": {"dc": "east"}}, {"tags": {"dc": "east"}}),
            ({"tags": {"dc": "east"}}, {}),
            (
                {"pending_restart": pending},
                {"pending_restart": True, "pending_restart_reason": pending},
            ),
            ({"scheduled_restart": schedule}, {"scheduled_restart": schedule}),
            ({"watchdog_healthy": False}, {"watchdog_failed": True}),
            ({"log_queue_size": 3}, {"logger_queue_size": 3}),
            (
                {"log_queue_size": 3, "log_records_lost": 1},
                {"logger_queue_size": 3, "logger_records_lost": 1},
            ),
        ]
        usual = document(make_node(), PRIMARY)
        for changes, expected in rows:
            got = document(make_node(**changes), PRIMARY)
            self.assertEqual(got, usual | expected, str(changes))

    def test_unknown_system_identifier(self) -> None:
        """An identifier that is not known is left out."""
        node = make_node(system_identifier=None)
        self.assertNotIn("database_system_identifier", document(node, PRIMARY))

    def test_keys_of_postgresql(self) -> None:
        """What PostgreSQL said appears only when there is something to say."""
        rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"sync_standby": True}, {"sync_standby": True}),
            ({"quorum_standby": True}, {"quorum_standby": True}),
            ({"timeline": None}, {"timeline": None}),
            ({"timeline": 0}, {"timeline": 0}),
            ({"senders": [SENDER]}, {"replication": [SENDER]}),
            ({"senders": []}, {}),
            ({"latest_end_lsn": None}, {}),
            (
                {"replication_state": "in archive recovery"},
                {"replication_state": "in archive recovery"},
            ),
        ]
        usual = document(make_replica(), REPLICA)
        for changes, expected in rows:
            got = document(make_replica(), evolve(REPLICA, **changes))
            self.assertEqual(got, usual | expected, str(changes))
        silent = document(make_replica(), evolve(REPLICA, replication_state=None))
        self.assertNotIn("replication_state", silent)

    def test_positions_are_never_null(self) -> None:
        """Members compare a replica's positions as integers."""
        nothing = evolve(REPLICA, received=None, replayed=None, replayed_timestamp=None)
        positions = document(make_replica(), nothing)["xlog"]
        self.assertEqual(
            positions,
            {
                "received_location": 0,
                "replayed_location": 0,
                "replayed_timestamp": None,
                "paused": False,
            },
        )

    def test_legacy_roles(self) -> None:
        """Patroni 3 called a primary master, and nothing else changes."""
        rows: list[tuple[NodeView, Status, str]] = [
            (make_node(), PRIMARY, "master"),
            (make_node(), Status("unknown", "primary"), "master"),
            (make_replica(), REPLICA, "replica"),
            (make_node(), evolve(REPLICA, role="standby_leader"), "standby_leader"),
        ]
        for node, status, role in rows:
            legacy = document(node, status, legacy_roles=True)
            self.assertEqual(legacy["role"], role)
            self.assertEqual(legacy | {"role": status.role}, document(node, status))
            self.assertEqual(list(legacy), list(document(node, status)))

    def test_as_json(self) -> None:
        """Times are written with a space, all on one line, in ASCII."""
        node = make_replica(effective_tags={"city": "K\u00f6ln"})
        text = json_answer(document(node, REPLICA)).body
        self.assertIn(b'"postmaster_start_time": "2026-07-01 06:30:00+00:00"', text)
        self.assertIn(b'"replayed_timestamp": "2026-07-01 12:00:00+00:00"', text)
        self.assertIn(b'{"city": "K\\u00f6ln"}', text)
        self.assertNotIn(b"\n", text)
