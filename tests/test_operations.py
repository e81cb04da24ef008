"""Tests of twisted_patroni.operations: validation and feasibility, as tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import MEMBERS, NOW, FakeEngine, make_cluster
from twisted_patroni.engine.interface import ClusterView, MemberView, ModeView
from twisted_patroni.operations import (
    Action,
    FailoverRequest,
    Outcome,
    candidates,
    parse_failover,
    parse_restart,
    parse_schedule,
)

LATER = "2026-07-02T12:00:00+00:00"
LATER_AS_TIME = datetime(2026, 7, 2, 12, 0, tzinfo=UTC)
EARLIER = "2026-06-30T12:00:00+00:00"
UNPARSABLE = (
    422,
    "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
)
SYNC = ModeView(synchronous=True)
QUORUM = ModeView(synchronous=True, quorum=True)


def refusal(result: object) -> tuple[int, str] | None:
    """Return code and sentence of an outcome, ``None`` for anything else."""
    return (result.code, result.sentence) if isinstance(result, Outcome) else None


class ScheduleTests(SynchronousTestCase):
    """When an operation is to happen."""

    def test_good(self) -> None:
        """Any format that dateutil reads will do, if it names a zone and the future."""
        rows = {
            LATER: LATER_AS_TIME,
            "2026-07-02T12:00:00Z": LATER_AS_TIME,
            "2026-07-02 14:00 +02:00": LATER_AS_TIME,
            "2 July 2026 12:00 UTC": LATER_AS_TIME,
        }
        for text, expected in rows.items():
            self.assertEqual(parse_schedule(text, "restart", NOW), expected, text)
        self.assertEqual(parse_schedule(NOW.isoformat(), "restart", NOW), NOW)

    def test_bad(self) -> None:
        """No zone, the past, and what cannot be read have each their sentence."""
        rows: list[tuple[Any, tuple[int, str]]] = [
            (
                "2026-07-02T12:00:00",
                (400, "Timezone information is mandatory for the scheduled switchover"),
            ),
            (EARLIER, (422, "Cannot schedule switchover in the past")),
            (
                (NOW - timedelta(seconds=1)).isoformat(),
                (422, "Cannot schedule switchover in the past"),
            ),
            ("tomorrow-ish", UNPARSABLE),
            ("", UNPARSABLE),
            ("9" * 40, UNPARSABLE),
            (1893456000, UNPARSABLE),
            (None, UNPARSABLE),
            (True, UNPARSABLE),
            ([LATER], UNPARSABLE),
        ]
        for value, expected in rows:
            got = refusal(parse_schedule(value, "switchover", NOW))
            self.assertEqual(got, expected, repr(value))


class ParseRestartTests(SynchronousTestCase):
    """The body of POST /restart."""

    def test_good(self) -> None:
        """Each key is parsed; what is not named is not there."""
        rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({}, {}),
            ({"schedule": LATER}, {"schedule": LATER_AS_TIME}),
            ({"role": "primary"}, {"role": "primary"}),
            ({"role": "standby_leader"}, {"role": "standby_leader"}),
            ({"role": "replica"}, {"role": "replica"}),
            ({"postgres_version": "15.2"}, {"postgres_version": "15.2"}),
            ({"postgres_version": "9.6.1"}, {"postgres_version": "9.6.1"}),
            ({"timeout": 10}, {"timeout": 10}),
            ({"timeout": "1min"}, {"timeout": 60}),
            ({"timeout": 1.6}, {"timeout": 2}),
            ({"restart_pending": False}, {"restart_pending": False}),
        ]
        for body, expected in rows:
            self.assertEqual(parse_restart(body, FakeEngine(), NOW), expected, str(body))

    def test_bad(self) -> None:
        """The first key that is wrong, in the order sent, decides."""
        role = (400, "PostgreSQL role should be either primary, standby_leader, or replica")
        timeout = (400, "Timeout should be a positive number of seconds")
        rows: list[tuple[dict[str, Any], tuple[int, str]]] = [
            ({"role": "master"}, role),
            ({"role": None}, role),
            ({"role": ["replica"]}, role),
            ({"timeout": 0}, timeout),
            ({"timeout": "-1"}, timeout),
            ({"timeout": "soon"}, timeout),
            ({"timeout": None}, timeout),
            ({"schedule": "soon"}, UNPARSABLE),
            ({"schedule": EARLIER}, (422, "Cannot schedule restart in the past")),
            (
                {"schedule": "2026-07-02T12:00"},
                (400, "Timezone information is mandatory for the scheduled restart"),
            ),
            ({"force": 1}, (400, "Unknown filter for the scheduled restart: force")),
            ({"role": "x", "timeout": 0}, role),
            ({"timeout": 0, "role": "x"}, timeout),
            ({"role": "replica", "timeout": 0}, timeout),
        ]
        for body, expected in rows:
            got = refusal(parse_restart(body, FakeEngine(), NOW))
            self.assertEqual(got, expected, str(body))

    def test_bad_version(self) -> None:
        """A version that is none gets the engine's sentence, a number one of its kind."""
        for value in ("new", "15", "15.x", 15, 15.2, None):
            got = refusal(parse_restart({"postgres_version": value}, FakeEngine(), NOW))
            assert got is not None
            self.assertEqual(got[0], 400, repr(value))
            self.assertTrue(got[1].startswith("Invalid PostgreSQL version"), got[1])


class ParseFailoverTests(SynchronousTestCase):
    """The body of POST /switchover and POST /failover."""

    def test_good(self) -> None:
        """What is valid becomes a request; ``member`` is the older name of ``candidate``."""
        rows: list[tuple[Action, bool, dict[str, Any], tuple[Any, ...]]] = [
            ("switchover", False, {"leader": "a"}, ("switchover", "a", None, None)),
            (
                "switchover",
                False,
                {"leader": "a", "candidate": "b"},
                ("switchover", "a", "b", None),
            ),
            ("switchover", False, {"leader": "a", "member": "b"}, ("switchover", "a", "b", None)),
            (
                "switchover",
                False,
                {"leader": "a", "candidate": "b", "member": "c"},
                ("switchover", "a", "b", None),
            ),
            (
                "switchover",
                False,
                {"leader": "a", "scheduled_at": LATER},
                ("switchover", "a", None, LATER_AS_TIME),
            ),
            (
                "switchover",
                False,
                {"leader": "a", "scheduled_at": ""},
                ("switchover", "a", None, None),
            ),
            ("switchover", False, {"leader": "a", "x": 1}, ("switchover", "a", None, None)),
            ("switchover", True, {"leader": "a", "candidate": "b"}, ("switchover", "a", "b", None)),
            ("failover", False, {"candidate": "b"}, ("failover", None, "b", None)),
            ("failover", True, {"candidate": "b"}, ("failover", None, "b", None)),
            (
                "failover",
                False,
                {"leader": "a", "candidate": "b"},
                ("switchover", "a", "b", None),
            ),
        ]
        for action, paused, body, expected in rows:
            got = parse_failover(body, action, paused, NOW)
            self.assertEqual(got, FailoverRequest(*expected), f"{action} {paused} {body}")

    def test_bad(self) -> None:
        """The sentences of the contract, in its order."""
        to_specific = (400, "Failover could be performed only to a specific candidate")
        from_specific = (400, "Switchover could be performed only from a specific leader")
        not_scheduled = (400, "Failover can't be scheduled")
        paused_schedule = (400, "Can't schedule switchover in the paused state")
        paused_any = (400, "Switchover is possible only to a specific candidate in a paused state")
        same = (400, "Switchover target and source are the same")
        zone = (400, "Timezone information is mandatory for the scheduled switchover")
        past = (422, "Cannot schedule switchover in the past")
        rows: list[tuple[Action, bool, dict[str, Any], tuple[int, str]]] = [
            ("failover", False, {}, to_specific),
            ("failover", False, {"leader": "a"}, to_specific),
            ("failover", True, {"candidate": ""}, to_specific),
            ("failover", False, {"scheduled_at": LATER}, to_specific),
            ("switchover", False, {}, from_specific),
            ("switchover", False, {"candidate": "b"}, from_specific),
            ("switchover", True, {"scheduled_at": "soon"}, from_specific),
            ("failover", False, {"candidate": "b", "scheduled_at": LATER}, not_scheduled),
            ("failover", True, {"candidate": "b", "scheduled_at": "soon"}, not_scheduled),
            (
                "failover",
                False,
                {"leader": "a", "candidate": "b", "scheduled_at": LATER},
                not_scheduled,
            ),
            ("switchover", True, {"leader": "a", "scheduled_at": LATER}, paused_schedule),
            ("switchover", False, {"leader": "a", "scheduled_at": "soon"}, UNPARSABLE),
            ("switchover", False, {"leader": "a", "scheduled_at": 7}, UNPARSABLE),
            ("switchover", False, {"leader": "a", "scheduled_at": "2026-07-02 10:00"}, zone),
            ("switchover", False, {"leader": "a", "scheduled_at": EARLIER}, past),
            ("switchover", True, {"leader": "a"}, paused_any),
            ("switchover", False, {"leader": "a", "candidate": "a"}, same),
            (
                "switchover",
                False,
                {"leader": "a", "candidate": "a", "scheduled_at": LATER},
                same,
            ),
            ("failover", False, {"leader": "a", "candidate": "a"}, same),
        ]
        for action, paused, body, expected in rows:
            got = refusal(parse_failover(body, action, paused, NOW))
            self.assertEqual(got, expected, f"{action} {paused} {body}")

    def test_names_that_are_none(self) -> None:
        """A name must be a text."""
        for body in ({"leader": 1}, {"leader": "a", "candidate": ["b"]}, {"candidate": {"b": 1}}):
            got = refusal(parse_failover(body, "switchover", False, NOW))
            assert got is not None
            self.assertEqual(got[0], 400, str(body))


class CandidateTests(SynchronousTestCase):
    """Who could take over, before anybody is asked."""

    def test_table(self) -> None:
        """The names to ask, or the sentence of the contract."""
        lone = make_cluster(members=MEMBERS[:1])
        silent = make_cluster(members=(MEMBERS[0], MemberView("beta", None)))
        sync = make_cluster(mode=SYNC, sync_members=frozenset({"beta"}))
        no_sync = make_cluster(mode=SYNC)
        quorum = make_cluster(mode=QUORUM, sync_members=frozenset({"beta"}))
        named = evolve(sync, members=(MEMBERS[0], MemberView("Beta", "http://10.0.0.2/patroni")))
        leaderless = make_cluster(leader=None)
        wrong_leader = "leader name does not match"
        not_sync = "candidate name does not match with sync_standby"
        unknown = "candidate does not exists"
        nobody_sync = "{} is not possible: can not find sync_standby"
        nobody = "{} is not possible: cluster does not have members except leader"
        rows: list[tuple[str, ClusterView, tuple[Any, ...], tuple[str, ...] | str]] = [
            ("any", make_cluster(), ("switchover", "alpha", None), ("beta", "gamma")),
            ("one", make_cluster(), ("switchover", "alpha", "beta"), ("beta",)),
            ("wrong leader", make_cluster(), ("switchover", "beta", None), wrong_leader),
            ("no leader", leaderless, ("switchover", "alpha", "beta"), wrong_leader),
            ("unknown", make_cluster(), ("switchover", "alpha", "delta"), unknown),
            ("lone", lone, ("switchover", "alpha", None), nobody.format("switchover")),
            ("no api_url", silent, ("switchover", "alpha", None), nobody.format("switchover")),
            ("no api_url, but named", silent, ("switchover", "alpha", "beta"), ("beta",)),
            ("sync, any", sync, ("switchover", "alpha", None), ("beta",)),
            ("sync, the one", sync, ("switchover", "alpha", "beta"), ("beta",)),
            ("sync, another", sync, ("switchover", "alpha", "gamma"), not_sync),
            ("sync, unknown", sync, ("switchover", "alpha", "delta"), not_sync),
            ("sync, whatever case", named, ("switchover", "alpha", "Beta"), ("Beta",)),
            ("sync, any in whatever case", named, ("switchover", "alpha", None), ("Beta",)),
            (
                "sync, none",
                no_sync,
                ("switchover", "alpha", None),
                nobody_sync.format("switchover"),
            ),
            ("quorum, another", quorum, ("switchover", "alpha", "gamma"), ("gamma",)),
            ("quorum, any", quorum, ("switchover", "alpha", None), ("beta", "gamma")),
            ("failover", make_cluster(), ("failover", None, "beta"), ("beta",)),
            ("failover, sync, another", sync, ("failover", None, "gamma"), ("gamma",)),
            ("failover, unknown", make_cluster(), ("failover", None, "delta"), unknown),
            ("failover, no leader", leaderless, ("failover", None, "beta"), ("beta",)),
        ]
        for what, cluster, request, expected in rows:
            self.assertEqual(candidates(cluster, FailoverRequest(*request)), expected, what)
