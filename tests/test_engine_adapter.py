"""Tests of the calls of twisted_patroni.engine.adapter, over stand-ins of upstream's objects."""

from __future__ import annotations

import json
from types import SimpleNamespace

from attrs import evolve
from patroni.dcs import (
    ClusterConfig,
)
from patroni.dcs.etcd3 import Etcd3Error
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.engine_contract import EngineContract
from tests.test_engine_lanes import Turns
from tests.upstream import LATER, AdapterCase, make_upstream
from twisted_patroni.engine.adapter import LOOK_PATIENCE, EngineAdapter
from twisted_patroni.engine.interface import (
    Candidate,
    ConfigConflict,
    DcsUnavailable,
    Engine,
    FailoverView,
    LaneFull,
    Look,
)
from twisted_patroni.engine.lanes import Lane, LaneSize


class AdapterContractTests(EngineContract, AdapterCase):
    """The adapter keeps the promises of the interface."""

    def setUp(self) -> None:
        """Make the adapter; the annotation has the type checker compare it, too."""
        super().setUp()
        self.subject: Engine = self.engine


class LookTests(AdapterCase):
    """Looks at the DCS."""

    def test_numbered(self) -> None:
        """Each look is numbered, and told of."""
        first = self.successResultOf(self.engine.look())
        self.successResultOf(self.engine.cluster_document())
        self.assertEqual([look.number for look in self.looks], [1, 2])
        self.assertEqual(self.looks[0], first)
        self.assertEqual(self.engine.looks_begun(), 2)

    def test_silent_dcs(self) -> None:
        """A caller does not wait for ever, nor for a look after the one that does not end."""
        clock = Clock()
        stuck = evolve(self.lanes, read=SimpleNamespace(call=lambda work: Deferred()))  # type: ignore[arg-type]
        engine = EngineAdapter(self.patroni, stuck, self.looks.append, clock)  # type: ignore[arg-type]
        first = engine.look()
        clock.advance(4)
        second = engine.cluster_document()
        clock.advance(LOOK_PATIENCE - 4)
        self.failureResultOf(first, DcsUnavailable)
        self.assertNoResult(second)
        clock.advance(4)
        self.failureResultOf(second, DcsUnavailable)

    def test_engine_looks(self) -> None:
        """The engine's own looks count, too, once they are observed."""
        self.dcs.get_cluster()
        self.engine.observe_looks()
        self.assertIs(self.dcs.get_cluster(), self.dcs.now)
        self.assertEqual([look.number for look in self.looks], [1])
        self.successResultOf(self.engine.look())
        self.assertEqual([look.number for look in self.looks], [1, 2])

    def test_engine_is_not_disturbed(self) -> None:
        """The engine gets its cluster even if the report of it fails, and its own errors."""

        def broken(look: Look) -> None:
            raise RuntimeError("oops")

        engine = EngineAdapter(self.patroni, self.lanes, broken)  # type: ignore[arg-type]
        engine.observe_looks()
        self.assertIs(self.dcs.get_cluster(), self.dcs.now)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.dcs.error = Etcd3Error("away")
        self.assertRaises(Etcd3Error, self.dcs.get_cluster)

    def test_dcs_away(self) -> None:
        """An error of any DCS becomes one of ours, with its reason."""
        self.dcs.error = Etcd3Error("etcd is not responding properly")
        for call in (
            self.engine.look,
            self.engine.cluster_document,
            lambda: self.engine.patch_config({"ttl": 1}),
            lambda: self.engine.replace_config({"ttl": 1}),
            lambda: self.engine.handle_mpp_event({}),
        ):
            failure = self.failureResultOf(call(), DcsUnavailable)
            self.assertIn("etcd is not responding properly", str(failure.value))

    def test_document(self) -> None:
        """The document of the cluster is upstream's, with the scope last."""
        document = self.successResultOf(self.engine.cluster_document())
        self.assertEqual([each["name"] for each in document["members"]], ["alpha", "beta"])
        self.assertEqual(document["members"][0]["role"], "leader")
        self.assertEqual(list(document)[-1], "scope")
        self.assertEqual(document["scope"], "demo")


class WriteTests(AdapterCase):
    """Writes to the DCS."""

    def test_patch(self) -> None:
        """A patch is merged, written compactly against the version read, and the loop is woken."""
        patch = {"ttl": None, "postgresql": {"parameters": {"work_mem": "4MB"}}}
        result = self.successResultOf(self.engine.patch_config(patch))
        expected = {"postgresql": {"parameters": {"max_connections": 100, "work_mem": "4MB"}}}
        self.assertEqual(result, expected)
        self.assertEqual(self.dcs.written, [("config", expected, 7, False)])
        self.assertEqual(self.ha.calls, [("wakeup",)])

    def test_patch_leaves_the_cache(self) -> None:
        """The cached configuration is not changed by a patch, whether or not it is written."""
        before = json.dumps(self.dcs.now.config.data)  # type: ignore[union-attr]
        self.dcs.accepts = False
        patch = {"postgresql": {"parameters": {"work_mem": "4MB"}}}
        self.failureResultOf(self.engine.patch_config(patch), ConfigConflict)
        self.assertEqual(json.dumps(self.dcs.now.config.data), before)  # type: ignore[union-attr]
        self.assertEqual(self.ha.calls, [])

    def test_patch_of_nothing(self) -> None:
        """A patch that changes nothing is not written; values are compared as text."""
        result = self.successResultOf(self.engine.patch_config({"ttl": "30"}))
        self.assertEqual((result or {})["ttl"], 30)
        self.assertEqual(self.dcs.written, [])
        self.assertEqual(self.ha.calls, [("wakeup",)])

    def test_patch_without_config(self) -> None:
        """Without a configuration in the DCS there is nothing to patch."""
        for config in (None, ClusterConfig(0, {}, 0)):
            self.dcs.now = make_upstream(config=config)
            self.assertIsNone(self.successResultOf(self.engine.patch_config({"ttl": 20})))
        self.assertEqual((self.dcs.written, self.ha.calls), ([], []))

    def test_replace(self) -> None:
        """A replacement is written without a version, unless it is what is there."""
        same = {"ttl": 30, "postgresql": {"parameters": {"max_connections": 100}}}
        self.assertTrue(self.successResultOf(self.engine.replace_config(same)))
        self.assertEqual(self.dcs.written, [])
        self.assertTrue(self.successResultOf(self.engine.replace_config({"ttl": 20})))
        self.dcs.accepts = False
        self.assertFalse(self.successResultOf(self.engine.replace_config({"ttl": 10})))
        self.assertEqual(
            self.dcs.written,
            [("config", {"ttl": 20}, None, False), ("config", {"ttl": 10}, None, False)],
        )
        self.assertEqual(self.ha.calls, [])

    def test_replace_of_nothing(self) -> None:
        """A configuration that is missing is created."""
        self.dcs.now = make_upstream(config=None)
        self.assertTrue(self.successResultOf(self.engine.replace_config({"ttl": 20})))
        self.assertEqual(len(self.dcs.written), 1)

    def test_failover(self) -> None:
        """The key is written and the loop woken, in that order and only if it was written."""
        write = self.engine.write_failover
        self.assertTrue(self.successResultOf(write("alpha", None, LATER)))
        self.assertEqual(self.dcs.written, [("failover", ("alpha", None), {"scheduled_at": LATER})])
        self.assertEqual(self.ha.calls, [("wakeup",)])
        self.dcs.accepts = False
        self.assertFalse(self.successResultOf(write("alpha", "beta", None)))
        self.assertEqual(self.ha.calls, [("wakeup",)])

    def test_delete_failover(self) -> None:
        """The key is emptied if it is still the one that was read."""
        key = FailoverView("alpha", None, LATER, 9)
        self.assertTrue(self.successResultOf(self.engine.delete_failover(key)))
        self.assertEqual(self.dcs.written, [("failover", ("", ""), {"version": 9})])


class CallTests(AdapterCase):
    """Calls that run in lanes."""

    def test_probe(self) -> None:
        """Members are asked by name, and say what limits them."""
        self.successResultOf(self.engine.look())
        self.ha.limitations = {"alpha": "not reachable"}
        answers = self.successResultOf(self.engine.probe(["alpha", "beta"]))
        self.assertEqual(answers, [Candidate("alpha", "not reachable"), Candidate("beta", None)])

    def test_probe_of_nobody(self) -> None:
        """A name that is no member's cannot take over; nobody is asked for it."""
        self.successResultOf(self.engine.look())
        (answer,) = self.successResultOf(self.engine.probe(["delta"]))
        self.assertIsNotNone(answer.limitation)
        self.assertEqual(self.ha.calls, [])

    def test_probe_in_a_full_lane(self) -> None:
        """If the lane is full, that is the failure."""
        lanes = evolve(self.lanes, probe=Lane("probe", Turns(), LaneSize(0, 0)))
        engine = EngineAdapter(self.patroni, lanes, self.looks.append)  # type: ignore[arg-type]
        self.failureResultOf(engine.probe(["alpha", "beta"]), LaneFull)

    def test_local(self) -> None:
        """What concerns this machine only."""
        self.assertIs(self.successResultOf(self.engine.postmaster_alive()), True)
        self.postgresql.is_running = lambda: None
        self.assertIs(self.successResultOf(self.engine.postmaster_alive()), False)
        self.assertEqual(self.successResultOf(self.engine.replica_timeline(4)), 4)

    def test_long(self) -> None:
        """Restarts and reinitialisation."""
        self.assertEqual(
            self.successResultOf(self.engine.restart({"timeout": 5})),
            (True, "restarted successfully"),
        )
        self.assertTrue(self.successResultOf(self.engine.schedule_restart({"schedule": LATER})))
        self.assertFalse(self.successResultOf(self.engine.delete_restart()))
        self.assertEqual(
            self.successResultOf(self.engine.reinitialize(True, False)),
            "I am the leader, can not reinitialize",
        )
        self.assertEqual(
            self.ha.calls,
            [
                ("restart", {"timeout": 5}),
                ("schedule", {"schedule": LATER}),
                ("reinitialize", True, False),
            ],
        )

    def test_mpp(self) -> None:
        """An event reaches the coordinator's leader and nobody else."""
        event = {"type": "before_demote", "group": 1}
        self.successResultOf(self.engine.handle_mpp_event(event))
        self.assertEqual(self.events, [(self.dcs.now, event)])
        self.ha.leader = False
        self.successResultOf(self.engine.handle_mpp_event(event))
        self.ha.leader, self.coordinator = True, False
        self.successResultOf(self.engine.handle_mpp_event(event))
        self.assertEqual(len(self.events), 1)
