"""Tests of twisted_patroni.metrics.engine: names, types, values, order of what dashboards read."""

from __future__ import annotations

import re
from typing import Any

from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW, STARTED, make_cluster, make_node, make_replica
from tests.test_status_document import PRIMARY, REPLICA
from twisted_patroni.engine.interface import ModeView, NodeView
from twisted_patroni.metrics import engine_metrics
from twisted_patroni.status import Status

#: Names and types in the order of the contract.
CONTRACT = """\
patroni_version gauge
patroni_postgres_running gauge
patroni_postmaster_start_time gauge
patroni_primary gauge
patroni_xlog_location counter
patroni_standby_leader gauge
patroni_replica gauge
patroni_sync_standby gauge
patroni_quorum_standby gauge
patroni_xlog_received_location counter
patroni_xlog_replayed_location counter
patroni_xlog_replayed_timestamp gauge
patroni_xlog_paused gauge
patroni_postgres_streaming gauge
patroni_postgres_in_archive_recovery gauge
patroni_postgres_server_version gauge
patroni_cluster_unlocked gauge
patroni_failsafe_mode_is_active gauge
patroni_postgres_timeline gauge
patroni_dcs_last_seen gauge
patroni_pending_restart gauge
patroni_is_paused gauge
patroni_postgres_state gauge
"""
#: Upstream's next release has three of these, its former ones had patroni_master.
ADDED = {
    "patroni_master",
    "patroni_failsafe_mode_enabled",
    "patroni_failsafe_member",
    "patroni_failover_priority",
}
STATES = [
    "initdb",
    "initdb_failed",
    "custom_bootstrap",
    "custom_bootstrap_failed",
    "creating_replica",
    "running",
    "starting",
    "bootstrap_starting",
    "start_failed",
    "restarting",
    "restart_failed",
    "stopping",
    "stopped",
    "stop_failed",
    "crashed",
]
LAST_SEEN = NOW.timestamp() - 2


def values(node: NodeView, status: Status) -> dict[str, str]:
    """Return the value of each metric, as written."""
    lines = engine_metrics(node, status).splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    return {line.partition("{")[0]: line.rpartition(" ")[2] for line in samples}


class EngineMetricsTests(SynchronousTestCase):
    """The metrics of engine and PostgreSQL."""

    def test_names_types_and_order(self) -> None:
        """All metrics of the contract are there in its order, and few others."""
        text = engine_metrics(make_replica(), REPLICA)
        types = re.findall(r"^# TYPE (\S+ \S+)$", text, re.MULTILINE)
        self.assertEqual(
            [each for each in types if each.split()[0] not in ADDED], CONTRACT.splitlines()
        )
        self.assertEqual(len(types), len(CONTRACT.splitlines()) + len(ADDED))

    def test_layout(self) -> None:
        """Each sample follows its HELP and TYPE; one newline ends the text."""
        text = engine_metrics(make_node(), PRIMARY)
        self.assertTrue(text.endswith("\n") and not text.endswith("\n\n"))
        sample = (
            r"# HELP (?P<name>\w+) \S.*\n(# Values: .*\n)?# TYPE (?P=name) \w+\n"
            r'(?P=name)\{scope="demo",name="alpha"\} \S+\n'
        )
        self.assertEqual(re.sub(sample, "", text), "")

    def test_parsable(self) -> None:
        """Prometheus' own parser reads all of it."""
        families = {
            family.name: family
            for family in text_string_to_metric_families(engine_metrics(make_node(), PRIMARY))
        }
        self.assertEqual(families["patroni_version"].samples[0].value, 40105)
        labels = {"scope": "demo", "name": "alpha"}
        self.assertTrue(
            all(
                sample.labels == labels for family in families.values() for sample in family.samples
            )
        )

    def test_primary(self) -> None:
        """The values of a primary."""
        got = values(make_node(), PRIMARY)
        expected = {
            "patroni_version": "040105",
            "patroni_postgres_running": "1",
            "patroni_postmaster_start_time": str(STARTED.timestamp()),
            "patroni_primary": "1",
            "patroni_master": "1",
            "patroni_xlog_location": "5000",
            "patroni_standby_leader": "0",
            "patroni_replica": "0",
            "patroni_sync_standby": "0",
            "patroni_quorum_standby": "0",
            "patroni_xlog_received_location": "0",
            "patroni_xlog_replayed_location": "0",
            "patroni_xlog_replayed_timestamp": "0",
            "patroni_xlog_paused": "0",
            "patroni_postgres_streaming": "0",
            "patroni_postgres_in_archive_recovery": "0",
            "patroni_postgres_server_version": "180000",
            "patroni_cluster_unlocked": "0",
            "patroni_failsafe_mode_is_active": "0",
            "patroni_failsafe_mode_enabled": "0",
            "patroni_failsafe_member": "0",
            "patroni_failover_priority": "1",
            "patroni_postgres_timeline": "3",
            "patroni_dcs_last_seen": f"{LAST_SEEN:.0f}",
            "patroni_pending_restart": "0",
            "patroni_is_paused": "0",
            "patroni_postgres_state": "5",
        }
        self.assertEqual(got, expected)

    def test_of_postgresql(self) -> None:
        """What the status changes about the metrics of a replica."""
        rows: list[tuple[dict[str, Any], dict[str, str]]] = [
            (
                {},
                {
                    "patroni_replica": "1",
                    "patroni_primary": "0",
                    "patroni_xlog_location": "0",
                    "patroni_xlog_received_location": "4900",
                    "patroni_xlog_replayed_location": "4800",
                    "patroni_xlog_replayed_timestamp": str(NOW.timestamp()),
                    "patroni_postgres_streaming": "1",
                    "patroni_postgres_in_archive_recovery": "0",
                },
            ),
            (
                {"replication_state": "in archive recovery"},
                {
                    "patroni_postgres_streaming": "0",
                    "patroni_postgres_in_archive_recovery": "1",
                },
            ),
            ({"role": "standby_leader"}, {"patroni_standby_leader": "1", "patroni_replica": "0"}),
            ({"sync_standby": True}, {"patroni_sync_standby": "1"}),
            ({"quorum_standby": True}, {"patroni_quorum_standby": "1"}),
            ({"replay_paused": True}, {"patroni_xlog_paused": "1"}),
            ({"timeline": None}, {"patroni_postgres_timeline": "0"}),
            ({"received": None, "replayed": None}, {"patroni_xlog_received_location": "0"}),
            ({"replayed_timestamp": None}, {"patroni_xlog_replayed_timestamp": "0"}),
        ]
        for changes, expected in rows:
            got = values(make_replica(), evolve(REPLICA, **changes))
            self.assertEqual({**got, **expected}, got, str(changes))

    def test_of_the_engine(self) -> None:
        """What the engine's view changes."""
        paused = ModeView(paused=True)
        rows: list[tuple[dict[str, Any], dict[str, str]]] = [
            ({"cluster": None}, {"patroni_cluster_unlocked": "1"}),
            ({"cluster": make_cluster(leader=None)}, {"patroni_cluster_unlocked": "1"}),
            ({"cluster": make_cluster(mode=paused)}, {"patroni_is_paused": "1"}),
            ({"failsafe_active": True}, {"patroni_failsafe_mode_is_active": "1"}),
            ({"failsafe_mode": True}, {"patroni_failsafe_mode_enabled": "1"}),
            ({"failsafe_members": {"alpha": "x"}}, {"patroni_failsafe_member": "1"}),
            ({"failsafe_members": {"beta": "x"}}, {"patroni_failsafe_member": "0"}),
            ({"pending_restart": {"work_mem": {}}}, {"patroni_pending_restart": "1"}),
            ({"failover_priority": 0}, {"patroni_failover_priority": "0"}),
            ({"version": "4.10.12"}, {"patroni_version": "041012"}),
            ({"leader": False}, {"patroni_primary": "1"}),
        ]
        for changes, expected in rows:
            got = values(make_node(**changes), PRIMARY)
            self.assertEqual({**got, **expected}, got, str(changes))

    def test_without_postgresql(self) -> None:
        """While PostgreSQL is silent nothing is known of it, and two metrics are missing."""
        got = values(make_node(), Status("unknown", "primary"))
        self.assertNotIn("patroni_postgres_streaming", got)
        self.assertNotIn("patroni_postgres_in_archive_recovery", got)
        expected = {
            "patroni_postgres_running": "0",
            "patroni_postmaster_start_time": "0",
            "patroni_primary": "1",
            "patroni_xlog_location": "0",
            "patroni_postgres_server_version": "0",
            "patroni_postgres_timeline": "0",
            "patroni_postgres_state": "-1",
        }
        self.assertEqual({**got, **expected}, got)

    def test_old_server(self) -> None:
        """Before 9.6 PostgreSQL does not tell whether it streams."""
        for version, told in ((90500, False), (90600, True)):
            got = values(make_replica(), evolve(REPLICA, server_version=version))
            self.assertEqual("patroni_postgres_streaming" in got, told, version)

    def test_states(self) -> None:
        """Each state has the number that its place in the contract gives it."""
        texts = [
            "initializing new cluster",
            "initdb failed",
            "running custom bootstrap script",
            "custom bootstrap failed",
            "creating replica",
            "running",
            "starting",
            "starting after custom bootstrap",
            "start failed",
            "restarting",
            "restart failed",
            "stopping",
            "stopped",
            "stop failed",
            "crashed",
        ]
        for number, text in enumerate(texts):
            got = values(make_node(), Status(text, "replica"))["patroni_postgres_state"]
            self.assertEqual(got, str(number), text)
        lines = engine_metrics(make_node(), PRIMARY).splitlines()
        note = "# Values: " + ", ".join(f"{n}={name}" for n, name in enumerate(STATES))
        at = lines.index(note)
        self.assertTrue(lines[at - 1].startswith("# HELP patroni_postgres_state "))
        self.assertEqual(lines[at + 1], "# TYPE patroni_postgres_state gauge")

    def test_labels_are_escaped(self) -> None:
        """A strange name cannot break the format."""
        name = 'a"b\\c\nd'
        text = engine_metrics(make_node(name=name), PRIMARY)
        for family in text_string_to_metric_families(text):
            self.assertEqual(family.samples[0].labels["name"], name)
