"""Tests of twisted_patroni.checks, as tables: one row is one case."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import NOW, make_cluster, make_node, make_replica
from twisted_patroni.checks import (
    HealthQuery,
    covers,
    decide,
    liveness,
    ready_without_status,
    unready_reason,
)
from twisted_patroni.engine.interface import ModeView, NodeView
from twisted_patroni.status import Status

ANY = HealthQuery()
STANDBY_CLUSTER = make_cluster(mode=ModeView(standby_cluster=True))
PAUSED = ModeView(paused=True)

PRIMARY = Status("running", "primary", 180000, location=5000, timeline=3)
REPLICA = Status(
    "running",
    "replica",
    180000,
    received=4900,
    replayed=4800,
    latest_end_lsn=4900,
    replication_state="streaming",
)
SYNC = evolve(REPLICA, sync_standby=True)
QUORUM = evolve(REPLICA, quorum_standby=True)
STANDBY_LEADER = evolve(REPLICA, role="standby_leader")

SITUATIONS: dict[str, tuple[NodeView, Status]] = {
    "primary": (make_node(), PRIMARY),
    "replica": (make_replica(), REPLICA),
    "sync": (make_replica(), SYNC),
    "quorum": (make_replica(), QUORUM),
    "standby leader": (make_node(cluster=STANDBY_CLUSTER, role="standby_leader"), STANDBY_LEADER),
    "standby leader, still replica": (make_node(cluster=STANDBY_CLUSTER, role="replica"), REPLICA),
    "primary in a standby cluster": (make_node(cluster=STANDBY_CLUSTER), PRIMARY),
    "lock held, crashed": (make_node(state="crashed"), Status("crashed", "primary")),
    "lock held, silent": (make_node(), Status("unknown", "primary")),
    "lock lost": (make_node(leader=False), PRIMARY),
    "replica starting": (make_replica(state="starting"), evolve(REPLICA, state="starting")),
    "replica silent": (make_replica(), Status("unknown", "replica")),
    "noloadbalance": (make_replica(tags={"noloadbalance": True}), REPLICA),
    "replica without DCS": (make_replica(cluster=None), REPLICA),
    "sync without DCS": (make_replica(cluster=None), SYNC),
    "leader without DCS": (make_node(cluster=None), PRIMARY),
    "former leader without DCS": (make_node(cluster=None, leader=False), PRIMARY),
    "paused primary without DCS": (make_node(cluster=None, leader=False, mode=PAUSED), PRIMARY),
    "paused standby leader without DCS": (
        make_node(cluster=None, leader=False, mode=PAUSED),
        STANDBY_LEADER,
    ),
    "paused replica without DCS": (make_replica(cluster=None, mode=PAUSED), REPLICA),
    "paused leader": (make_node(cluster=make_cluster(mode=PAUSED)), PRIMARY),
    "paused without lock": (make_node(leader=False, cluster=make_cluster(mode=PAUSED)), PRIMARY),
}

#: Every path of the contract, and what it stands for.
PATHS = {
    "/standby_leader": "standby_leader",
    "/standby-leader": "standby_leader",
    "/x-standby-leader/y": "standby_leader",
    "/leader": "leader",
    "/foo-leader-bar": "leader",
    "/": "primary",
    "/primary": "primary",
    "/master": "primary",
    "/read-write": "primary",
    "/xprimaryx": "primary",
    "/replica": "replica",
    "/async-replica": "replica",
    "/read-only": "read-only",
    "/my-read-only-pool": "read-only",
    "/health": "health",
    "/healthz": "health",
    "/sync": "sync",
    "/synchronous": "sync",
    "/quorum": "quorum",
    "/async": "async",
    "/asynchronous": "async",
    "/read-only-quorum": "read-only-quorum",
    "/read-only-sync": "read-only-sync",
    "/read-only-synchronous": "read-only-sync",
    "/sync/": "nothing",
    "/quorum/x": "nothing",
    "/PRIMARY": "nothing",
    "/%70rimary": "nothing",
    "/nope": "nothing",
    "/metrics-foo": "nothing",
    "/cluster": "nothing",
    "/liveness": "nothing",
    "*": "nothing",
    "": "nothing",
}

#: For each situation, the checks that answer 200; all others answer 503.
HEALTHY = {
    "primary": "leader primary read-only health read-only-quorum read-only-sync",
    "replica": "replica read-only health async",
    "sync": "replica read-only health sync read-only-sync",
    "quorum": "replica read-only health quorum read-only-quorum",
    "standby leader": ("standby_leader leader read-only health read-only-quorum read-only-sync"),
    "standby leader, still replica": (
        "standby_leader leader read-only health read-only-quorum read-only-sync"
    ),
    "primary in a standby cluster": "leader health",
    "lock held, crashed": "leader primary read-only read-only-quorum read-only-sync",
    "lock held, silent": "leader primary read-only read-only-quorum read-only-sync",
    "lock lost": "health",
    "replica starting": "",
    "replica silent": "",
    "noloadbalance": "health",
    "replica without DCS": "replica read-only health",
    "sync without DCS": "replica read-only health",
    "leader without DCS": "leader primary read-only health",
    "former leader without DCS": "health",
    "paused primary without DCS": "leader primary read-only health",
    "paused standby leader without DCS": "standby_leader leader read-only health",
    "paused replica without DCS": "replica read-only health",
    "paused leader": "leader primary read-only health read-only-quorum read-only-sync",
    "paused without lock": "health",
}


class DecideTests(SynchronousTestCase):
    """The health checks."""

    def test_each_path_in_each_situation(self) -> None:
        """Every path of the contract answers as the contract says in every situation."""
        self.assertEqual(list(SITUATIONS), list(HEALTHY))
        for situation, (node, status) in SITUATIONS.items():
            healthy = HEALTHY[situation].split()
            for path, kind in PATHS.items():
                self.assertEqual(
                    decide(path, ANY, node, status),
                    200 if kind in healthy else 503,
                    f"{path!r} on {situation}",
                )

    def test_lag(self) -> None:
        """A replica lags behind the greater of the two known positions, if there is one."""
        rows: list[tuple[int, int | None, int | None, int | None, int]] = [
            # published, latest end, replayed, allowed -> code
            (0, None, 1000, 0, 200),
            (0, None, None, 0, 200),
            (5000, None, 1000, None, 200),
            (5000, None, 1000, 4000, 200),
            (5000, None, 1000, 3999, 503),
            (5000, 6000, 1000, 4000, 503),
            (5000, 4000, 1000, 4000, 200),
            (0, 5000, 1000, 100, 503),
            (5000, None, 5000, 0, 200),
            (5000, None, 6000, 0, 200),
            (5000, None, 5000, -1, 503),
            (5000, None, None, 100, 503),
        ]
        for published, end, replayed, allowed, code in rows:
            node = make_replica(cluster=make_cluster(last_lsn=published))
            status = evolve(SYNC, replayed=replayed, latest_end_lsn=end)
            for path in ("/replica", "/read-only", "/sync", "/read-only-sync"):
                self.assertEqual(
                    decide(path, HealthQuery(lag=allowed), node, status),
                    code,
                    f"{path} {(published, end, replayed, allowed)}",
                )

    def test_lag_without_dcs(self) -> None:
        """Without the DCS the WAL sender's position alone is the reference."""
        node = make_replica(cluster=None)
        for end, code in ((None, 200), (4800, 200), (6000, 503)):
            status = evolve(REPLICA, latest_end_lsn=end)
            self.assertEqual(decide("/replica", HealthQuery(lag=100), node, status), code, str(end))

    def test_lag_does_not_concern_leaders(self) -> None:
        """Checks that do not want a replica pay no attention to the lag."""
        for path in ("/primary", "/leader", "/read-only", "/health"):
            node = make_node(cluster=make_cluster(last_lsn=9999))
            self.assertEqual(decide(path, HealthQuery(lag=0), node, PRIMARY), 200, path)

    def test_replication_state(self) -> None:
        """A replica check can ask for a replication state."""
        rows = (("streaming", 200), ("in archive recovery", 503), ("", 503))
        for wanted, code in rows:
            query = HealthQuery(replication_state=wanted)
            self.assertEqual(decide("/replica", query, make_replica(), REPLICA), code, wanted)

    def test_tags(self) -> None:
        """A tag must be configured and equal: texts exactly, other values in lower case."""
        tags = {"dc": "East", "nofailover": True, "weight": 3, "ratio": 1.5, "empty": ""}
        rows: list[tuple[dict[str, str], int]] = [
            ({}, 200),
            ({"dc": "East"}, 200),
            ({"dc": "east"}, 503),
            ({"nofailover": "true"}, 200),
            ({"nofailover": "True"}, 503),
            ({"weight": "3"}, 200),
            ({"ratio": "1.5"}, 200),
            ({"unknown": "x"}, 503),
            ({"dc": "East", "weight": "4"}, 503),
            ({"dc": "East", "weight": "3"}, 200),
        ]
        node = make_replica(tags=tags)
        for wanted, code in rows:
            for path in ("/replica", "/read-only", "/health", "/sync", "/read-only-sync"):
                query = HealthQuery(tags=wanted)
                self.assertEqual(decide(path, query, node, SYNC), code, f"{path} {wanted}")

    def test_tags_are_ignored_by_leader_checks(self) -> None:
        """The three checks of a leader do not look at tags, and a tag never makes 200 of 503."""
        query = HealthQuery(tags={"dc": "west"})
        for path in ("/leader", "/primary", "/", "/master", "/read-write"):
            self.assertEqual(decide(path, query, make_node(), PRIMARY), 200, path)
        node, status = SITUATIONS["standby leader"]
        self.assertEqual(decide("/standby-leader", query, node, status), 200)
        tagged = make_replica(tags={"dc": "west"})
        self.assertEqual(decide("/nope", query, tagged, REPLICA), 503)

    def test_effective_tags_do_not_count(self) -> None:
        """What the engine adds to the tags for a while is not asked for by checks."""
        node = make_replica(effective_tags={"nosync": True})
        self.assertEqual(decide("/replica", HealthQuery(tags={"nosync": "true"}), node, SYNC), 503)

    def test_query(self) -> None:
        """The query parameters become a HealthQuery; what is unknown is ignored."""
        parameters = {"lag": "1MB", "tag_dc": "east", "tag_": "x", "replication_state": "streaming"}
        self.assertEqual(
            HealthQuery.of({**parameters, "other": "1"}, 1048576),
            HealthQuery(1048576, "streaming", {"dc": "east", "": "x"}),
        )
        self.assertEqual(HealthQuery.of({}, None), HealthQuery())


class CoversTests(SynchronousTestCase):
    """The health checks that a drain answers."""

    def test_table(self) -> None:
        """A drain covers what may want a replica, if asked what may want a leader, never health."""
        for path, kind in PATHS.items():
            leader = kind in ("leader", "primary", "standby_leader")
            self.assertIs(covers(path, primary=False), not leader and kind != "health", path)
            self.assertIs(covers(path, primary=True), kind != "health", path)

    def test_mixtures(self) -> None:
        """Names that say several things are covered by what decides about them."""
        for path, usual, primary in (
            ("/primary-replica", False, True),
            ("/replica-health", True, True),
            ("/read-only-health", True, True),
            ("/read-only-sync-health", False, False),
        ):
            self.assertIs(covers(path, primary=False), usual, path)
            self.assertIs(covers(path, primary=True), primary, path)

    def test_never_health(self) -> None:
        """What a drain does not cover answers as ever."""
        for path in ("/health", "/healthz", "/x-health-x"):
            self.assertFalse(covers(path, primary=True), path)


class LivenessTests(SynchronousTestCase):
    """The liveness probe."""

    def test_table(self) -> None:
        """One ttl late is too late for a primary, two are for everybody, a pause forgives all."""
        now = NOW.timestamp()
        rows: list[tuple[str, str, bool, float, bool | None]] = [
            # what, role, paused, seconds late -> alive
            ("on time", "primary", False, -5, True),
            ("a little late", "primary", False, 29, True),
            ("primary late by one ttl", "primary", False, 30, None),
            ("primary late by less than two", "primary", False, 59, None),
            ("primary late by two ttl", "primary", False, 60, False),
            ("replica late by one ttl", "replica", False, 30, True),
            ("replica late by less than two", "replica", False, 59, True),
            ("replica late by two ttl", "replica", False, 60, False),
            ("standby leader late by one ttl", "standby_leader", False, 45, True),
            ("paused", "primary", True, 9999, True),
        ]
        for what, role, paused, late, expected in rows:
            node = make_node(role=role, next_run=now - late, ttl=30, mode=ModeView(paused=paused))
            self.assertIs(liveness(node, now), expected, what)


class ReadinessTests(SynchronousTestCase):
    """The readiness probe."""

    def test_without_status(self) -> None:
        """The leader is ready, a stopped PostgreSQL is not, all else needs the status."""
        rows: list[tuple[str, NodeView, str | None]] = [
            ("leader", make_node(), ""),
            ("leader, crashed", make_node(state="crashed"), ""),
            ("replica", make_replica(), None),
            ("replica starting", make_replica(state="starting"), "not running"),
            ("replica stopped", make_replica(state="stopped"), "not running"),
        ]
        for what, node, expected in rows:
            reason = ready_without_status(node)
            if expected:
                self.assertIn(expected, reason or "", what)
            else:
                self.assertEqual(reason, expected, what)

    def test_with_status(self) -> None:
        """A replica is ready when it streams and is not too far behind, by the chosen measure."""
        near = make_cluster(last_lsn=5000, mode=ModeView(maximum_lag_on_failover=150))
        rows: list[tuple[str, dict[str, Any], dict[str, Any], int | None, str, bool]] = [
            # what, node, status, lag, mode -> ready
            ("near", {"cluster": near}, {}, None, "write", True),
            ("applied too late", {"cluster": near}, {}, None, "apply", False),
            ("allowed by the query", {"cluster": near}, {}, 200, "apply", True),
            ("forbidden by the query", {"cluster": near}, {}, 99, "write", False),
            ("archive", {}, {"replication_state": "in archive recovery"}, None, "apply", False),
            ("silent", {}, {"replication_state": None}, None, "apply", False),
            ("no DCS but a sender", {"cluster": None}, {}, None, "apply", True),
            ("no DCS, sender far", {"cluster": None}, {"latest_end_lsn": 9**9}, 10, "apply", False),
            (
                "no DCS, no sender",
                {"cluster": None},
                {"latest_end_lsn": None},
                None,
                "apply",
                False,
            ),
            (
                "failsafe",
                {"cluster": None, "failsafe_active": True},
                {"latest_end_lsn": None},
                None,
                "apply",
                True,
            ),
            ("nothing replayed", {"cluster": near}, {"replayed": None}, None, "apply", False),
        ]
        for what, node, status, lag, mode, ready in rows:
            reason = unready_reason(
                make_replica(**node),
                evolve(REPLICA, **status),
                lag,
                "write" if mode == "write" else "apply",
            )
            self.assertEqual(reason is None, ready, f"{what}: {reason}")
