"""Tests of the calls of twisted_patroni.engine.adapter, over stand-ins of upstream's objects."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

from attrs import evolve
from patroni.dcs import (
    ClusterConfig,
)
from patroni.dcs.etcd3 import Etcd3Error
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.engine_contract import EngineContract
from tests.test_engine_lanes import Turns
from tests.upstream import LATER, AdapterCase, Response, make_upstream
from twisted_patroni.engine.adapter import LOOK_PATIENCE, EngineAdapter
from twisted_patroni.engine.interface import (
    Candidate,
    ConfigConflict,
    DcsUnavailable,
    Engine,
    EngineError,
    FailoverView,
    LaneFull,
    Look,
    config_digest,
)
from twisted_patroni.engine.lanes import Lane, LaneSize

if TYPE_CHECKING:
    from collections.abc import Mapping


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


class AnsweringTests(AdapterCase):
    """Whether the DCS answers."""

    def test_by_the_last_look(self) -> None:
        """It does not after a look that failed, anybody's, until one succeeds."""
        self.engine.observe_looks()
        for look in (self.dcs.get_cluster, lambda: self.successResultOf(self.engine.look())):
            self.dcs.error = Etcd3Error("away")
            self.assertRaises(Etcd3Error, self.dcs.get_cluster)
            self.assertIs(self.engine.node().dcs_answers, False)
            self.dcs.error = None
            look()
            self.assertIs(self.engine.node().dcs_answers, True)

    def test_forgotten_cluster(self) -> None:
        """A cluster that upstream has forgotten says nothing of it."""
        self.dcs.cluster = None
        node = self.engine.node()
        self.assertEqual((node.cluster, node.dcs_answers), (None, True))

    def test_engine_without_dcs(self) -> None:
        """It does not while the HA loop has to do without it, whatever a cache still shows."""
        self.patroni.dcs_lost = True
        self.successResultOf(self.engine.look())
        self.assertIs(self.engine.node().dcs_answers, False)

    def test_out_of_order(self) -> None:
        """A failure of a look that began before one that succeeded is old news."""
        self.dcs.error = Etcd3Error("away")
        begin, outcomes = self.dcs.get_cluster, [False, True]

        def get_cluster() -> object:
            if not outcomes.pop(0):
                self.dcs.error = None
                self.successResultOf(self.engine.look())
                raise Etcd3Error("away")
            return begin()

        self.dcs.get_cluster = get_cluster  # type: ignore[method-assign,assignment]
        self.engine = EngineAdapter(self.patroni, self.lanes, self.looks.append)  # type: ignore[arg-type]
        self.engine.observe_looks()
        self.assertRaises(Etcd3Error, self.dcs.get_cluster)
        self.assertIs(self.engine.node().dcs_answers, True)


class AppliedConfigTests(AdapterCase):
    """Which configuration the node works by."""

    def apply(self, config: Mapping[str, object], version: object) -> None:
        """Have the engine work by a configuration."""
        self.patroni.config.dynamic_configuration = config
        self.patroni.config._modify_version = version

    def test_without_a_look(self) -> None:
        """What the engine has, as it has it; an empty one is none."""
        self.apply({"ttl": 30}, 7)
        self.assertEqual(self.engine.applied_config(), config_digest({"ttl": 30}))
        self.apply({}, 7)
        self.assertIsNone(self.engine.applied_config())

    def test_as_it_is_in_the_dcs(self) -> None:
        """What the engine corrects or does not take over literally is the one in the DCS."""
        self.dcs.now = make_upstream(config=ClusterConfig(8, {"ttl": "20", "x": 1}, 8))
        self.successResultOf(self.engine.look())
        wanted = config_digest({"ttl": "20", "x": 1})
        for engines in ({"ttl": 25, "x": 1, "loop_wait": 1}, {"ttl": "20", "x": "1"}):
            self.apply(engines, 8)
            self.assertEqual(self.engine.applied_config(), wanted)

    def test_not_yet(self) -> None:
        """An older one, or one that the engine could not take, is not the one in the DCS."""
        self.dcs.now = make_upstream(config=ClusterConfig(8, {"x": 1}, 8))
        self.successResultOf(self.engine.look())
        for engines, version in (({"x": 0}, 7), ({"x": 0}, 8), ({"x": 1, "y": 1}, 8)):
            self.apply(engines, version)
            self.assertEqual(self.engine.applied_config(), config_digest(engines))

    def test_corrected_in_place(self) -> None:
        """The engine edits its copy of what a look has shown, and nobody else's."""
        self.successResultOf(self.engine.look())
        config = self.dcs.now.config
        assert config is not None
        before = json.dumps(self.looks[0].cluster.config)
        config.data["ttl"] = 20
        config.data["postgresql"]["parameters"]["max_connections"] = 5
        self.assertEqual(json.dumps(self.looks[0].cluster.config), before)


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

    def test_asked_member(self) -> None:
        """A member is asked for a path with its query, for two seconds."""
        self.successResultOf(self.engine.look())
        self.response = response = Response(503, b"no")
        answer = self.successResultOf(self.engine.ask_member("beta", "/readiness?lag=1MB"))
        self.assertEqual(answer, (503, b"no"))
        self.assertEqual(self.asked, [("beta", "GET", "readiness?lag=1MB", 2.0)])
        self.assertTrue(response.closed)

    def test_silent_member(self) -> None:
        """Whoever is no member, is silent or does not stop talking gives an error with its name."""
        failure = self.failureResultOf(self.engine.ask_member("beta", "/"), EngineError)
        self.assertIn("beta is not a member", str(failure.value))
        self.successResultOf(self.engine.look())
        for response in (OSError("refused"), Response(200, b"x" * (2**20 + 1))):
            self.response = response
            failure = self.failureResultOf(self.engine.ask_member("beta", "/"), EngineError)
            self.assertIn("beta", str(failure.value))
        failure = self.failureResultOf(self.engine.ask_member("delta", "/"), EngineError)
        self.assertIn("delta is not a member", str(failure.value))

    def test_conditions_of_a_restart(self) -> None:
        """Conditions are compared by upstream; a pending restart counts by its presence."""
        matches = self.engine.restart_matches
        self.assertFalse(self.successResultOf(matches({"role": "replica"})))
        request = {"role": "primary", "postgres_version": "15.2", "restart_pending": False}
        self.assertTrue(self.successResultOf(matches(request)))
        self.assertEqual(self.ha.calls[-1], ("restart_matches", "primary", "15.2", True))

    def test_reload_pending(self) -> None:
        """A reload is pending as long as the daemon says so."""
        self.patroni.reload_pending = True
        self.assertIs(self.engine.reload_pending(), True)

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
