"""Tests of twisted_patroni.web.health: health checks and probes over HTTP."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from tests.doubles import NOW, FakeEngine, make_cluster, make_node, make_replica, replica_row
from tests.memory_api import ApiCase, Reply
from twisted_patroni.engine.interface import LaneFull, ModeView
from twisted_patroni.postgres import PostgresError


class ApiHealthCase(ApiCase):
    """Health checks on a leader, or on a replica."""

    def be_replica(self, row: dict[str, Any] | None = None, **node: Any) -> None:
        """Go on with a replica."""
        self.use(FakeEngine(make_replica(**node)))
        self.link.row = replica_row(**(row or {}))

    def code(self, target: str, method: str = "GET") -> int:
        """Return the status of a request."""
        return self.request(method, target).code

    def assertBare(self, reply: Reply, code: int) -> None:
        """Fail unless a reply is a status line and nothing else."""
        self.assertEqual((reply.code, reply.headers, reply.body), (code, [], b""))


class CheckTests(ApiHealthCase):
    """Health checks."""

    def test_get(self) -> None:
        """GET answers with the status as JSON, for 200 and for 503."""
        for target, code in (("/primary", 200), ("/replica", 503), ("/nope", 503), ("/sync/", 503)):
            reply = self.request("GET", target)
            self.assertEqual((reply.code, reply.header("Content-Type")), (code, "application/json"))
            self.assertEqual(reply.json()["role"], "primary", target)

    def test_head_and_options(self) -> None:
        """HEAD and OPTIONS compute the same and send the bare status line."""
        targets = ("/", "/primary", "/replica", "/nope", "/leader", "/health", "/x-primary-y")
        for target in targets:
            expected = self.code(target)
            for method in ("HEAD", "OPTIONS"):
                self.assertBare(self.request(method, target), expected)

    def test_bare_bytes(self) -> None:
        """The bare reply to HTTP/1.0 is exactly a line and an empty line."""
        for method, target, line in (
            ("OPTIONS", "/", b"HTTP/1.0 200 OK\r\n\r\n"),
            ("HEAD", "/replica", b"HTTP/1.0 503 Service Unavailable\r\n\r\n"),
            ("GET", "/liveness", b"HTTP/1.0 200 OK\r\n\r\n"),
        ):
            self.assertEqual(self.api.begin(method, target).received(), line)

    def test_targets(self) -> None:
        """Targets are read as upstream reads them, but for a fragment, which no client sends."""
        rows = (
            ("GET", "//leader", 200),
            ("GET", "///primary", 200),
            ("GET", "/?lag=1", 200),
            ("GET", "/primary;x", 200),
            ("GET", "/primary#x", 400),
            ("GET", "http://anywhere/primary", 200),
            ("GET", "http://anywhere", 503),
            ("GET", "http://anywhere/", 200),
            ("GET", "/PRIMARY", 503),
            ("GET", "/%70rimary", 503),
            ("GET", "/metrics-foo", 503),
            ("GET", "/reload", 503),
            ("OPTIONS", "*", 503),
            ("OPTIONS", "/cluster", 503),
            ("OPTIONS", "/liveness", 503),
            ("OPTIONS", "/config/primary", 200),
            ("HEAD", "/restart", 503),
        )
        for method, target, code in rows:
            self.assertEqual(self.code(target, method), code, f"{method} {target}")

    def test_unparsable_target(self) -> None:
        """A target that cannot be a URL is a bad request."""
        self.assertErrorPage(self.request("GET", "http://["), 400)

    def test_lag(self) -> None:
        """The parameter lag has PostgreSQL's units; one that is none allows everything."""
        self.be_replica(cluster=make_cluster(last_lsn=4800 + 2048))
        rows = (
            ("/replica", 200),
            ("/replica?lag=2048", 200),
            ("/replica?lag=2047", 503),
            ("/replica?lag=2kB", 200),
            ("/replica?lag=1kB", 503),
            ("/replica?lag=1MB", 200),
            ("/replica?lag=1KB", 200),
            ("/replica?lag=soon", 200),
            ("/replica?lag=", 200),
            ("/replica?lag=-1", 503),
            ("/replica?lag=1kB&lag=1MB", 503),
            ("/replica?lag=1MB&lag=1kB", 200),
            ("/read-only?lag=1kB", 503),
            ("/async?lag=1kB", 503),
            ("/health?lag=1kB", 200),
        )
        for target, code in rows:
            self.assertEqual(self.code(target), code, target)

    def test_tags(self) -> None:
        """Tags are asked for by the query, decoded as a form is."""
        self.be_replica(tags={"dc": "a b", "nofailover": True})
        rows = (
            ("/replica?tag_dc=a+b", 200),
            ("/replica?tag_dc=a%20b", 200),
            ("/replica?tag_dc=a", 503),
            ("/replica?tag_nofailover=true", 200),
            ("/replica?tag_none=1", 503),
            ("/replica?tag_dc=", 200),
        )
        for target, code in rows:
            self.assertEqual(self.code(target), code, target)

    def test_replication_state(self) -> None:
        """A check can ask for the replication state."""
        self.be_replica()
        self.assertEqual(self.code("/replica?replication_state=streaming"), 200)
        self.assertEqual(self.code("/replica?replication_state=in+archive+recovery"), 503)

    def test_silent_postgresql(self) -> None:
        """While PostgreSQL is silent the lock makes a primary, and nothing makes a replica."""
        self.link.error = PostgresError("gone")
        reply = self.request("GET", "/primary")
        self.assertEqual((reply.code, reply.json()["state"]), (200, "unknown"))
        self.assertEqual(self.code("/health"), 503)
        self.be_replica()
        self.link.error = PostgresError("gone")
        self.assertEqual(self.code("/replica"), 503)

    def test_hanging_postgresql(self) -> None:
        """A server that hangs delays a check by three seconds and no more."""
        self.link.held = True
        connection = self.api.begin("GET", "/replica")
        self.api.wait(2.5)
        self.assertEqual(connection.received(), b"")
        self.api.wait(0.5)
        reply = Reply.parse(connection.received())
        self.assertEqual((reply.code, reply.json()["state"]), (503, "unknown"))

    def test_many_share_a_statement(self) -> None:
        """A thousand checks during a statement cost one more, and each has its own answer."""
        self.link.held = True
        targets = ("/primary", "/replica", "/health", "/nope")
        waiting = [self.api.begin("GET", targets[n % 4]) for n in range(1000)]
        self.link.release()
        self.api.clock.advance(0)
        self.link.release()
        codes = [Reply.parse(each.received()).code for each in waiting]
        self.assertEqual(codes, [200, 503, 200, 503] * 250)
        self.assertEqual(len(self.link.statements), 2)

    def test_legacy_roles(self) -> None:
        """With legacy roles a primary calls itself master."""
        self.assertEqual(self.request("GET", "/").json()["role"], "primary")
        self.use(legacy_roles=True)
        for target in ("/", "/patroni"):
            self.assertEqual(self.request("GET", target).json()["role"], "master")

    def test_no_dcs_call(self) -> None:
        """No health check or probe looks at the DCS."""
        for target in ("/", "/primary", "/replica", "/sync", "/liveness", "/readiness", "/patroni"):
            self.code(target)
        self.assertEqual((self.engine.begun, self.engine.calls), (0, []))


class PatroniTests(ApiHealthCase):
    """GET /patroni."""

    def test_always_200(self) -> None:
        """The status is 200 in whatever state PostgreSQL is."""
        for state in ("running", "stopped", "creating replica", "crashed"):
            self.use(FakeEngine(make_node(state=state, role="replica", leader=False)))
            for target in ("/patroni", "/patroni/", "/patroni/x/y"):
                reply = self.request("GET", target)
                self.assertEqual((reply.code, reply.json()["state"]), (200, state), target)
        self.assertNotIn("xlog", reply.json())

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        full, head = self.request("GET", "/patroni"), self.request("HEAD", "/patroni")
        self.assertEqual((head.code, head.body), (200, b""))
        self.assertEqual(head.headers, full.headers)


class LivenessTests(ApiHealthCase):
    """GET /liveness."""

    def test_table(self) -> None:
        """The HA loop may be late by one ttl on a primary whose postmaster runs, else by two."""
        now = NOW.timestamp()
        rows: list[tuple[str, dict[str, Any], bool, int, int]] = [
            # what, node, postmaster alive, seconds late -> code
            ("on time", {}, True, -5, 200),
            ("late", {}, True, 29, 200),
            ("too late", {}, True, 31, 503),
            ("too late, no postmaster", {}, False, 31, 200),
            ("far too late, no postmaster", {}, False, 61, 503),
            ("replica", {"role": "replica", "leader": False}, True, 59, 200),
            ("replica, too late", {"role": "replica", "leader": False}, True, 60, 503),
            ("paused", {"mode": ModeView(paused=True)}, True, 999, 200),
        ]
        for what, node, alive, late, code in rows:
            self.use(FakeEngine(make_node(next_run=now - late, **node)))
            self.engine.outcomes["postmaster_alive"] = alive
            self.assertBare(self.request("GET", "/liveness"), code)
            self.assertEqual(self.request("HEAD", "/liveness/x").code, code, what)
            self.assertEqual(self.link.statements, [], what)

    def test_clock(self) -> None:
        """It becomes false by nothing but time passing."""
        self.assertEqual(self.code("/liveness"), 200)
        self.api.clock.advance(5 + 60)
        self.assertEqual(self.code("/liveness"), 503)

    def test_postmaster_is_asked_only_if_that_matters(self) -> None:
        """Usually the answer costs nothing."""
        self.code("/liveness")
        self.assertEqual(self.engine.calls, [])

    def test_postmaster_that_nobody_can_tell_of(self) -> None:
        """If the lane is full, that is 503, too."""
        self.use(FakeEngine(make_node(next_run=NOW.timestamp() - 31)))
        self.engine.outcomes["postmaster_alive"] = LaneFull("local", 1)
        self.assertEqual(self.code("/liveness"), 503)

    def test_asking_for_the_postmaster(self) -> None:
        """The answer waits for the lane."""
        self.use(FakeEngine(make_node(next_run=NOW.timestamp() - 31)))
        pending: Deferred[bool] = Deferred()
        self.engine.outcomes["postmaster_alive"] = pending
        connection = self.api.begin("GET", "/liveness")
        self.assertEqual(connection.received(), b"")
        pending.callback(False)
        self.assertEqual(connection.received(), b"HTTP/1.0 200 OK\r\n\r\n")


class ReadinessTests(ApiHealthCase):
    """GET /readiness."""

    def test_leader(self) -> None:
        """The leader is ready without a look at PostgreSQL."""
        self.assertBare(self.request("GET", "/readiness"), 200)
        self.assertEqual(self.link.statements, [])

    def test_not_running(self) -> None:
        """A server that does not run is not ready, and is not asked."""
        self.be_replica(state="starting")
        self.assertBare(self.request("GET", "/readiness"), 503)
        self.assertEqual(self.link.statements, [])

    def test_lag(self) -> None:
        """A replica may lag by maximum_lag_on_failover, or by what the query allows."""
        mode = ModeView(maximum_lag_on_failover=1000)
        cluster = make_cluster(last_lsn=5850, mode=mode)  # 1050 behind replayed, 940 written
        self.be_replica(cluster=cluster)
        rows = (
            ("/readiness", 503),
            ("/readiness?mode=apply", 503),
            ("/readiness?mode=write", 200),
            ("/readiness?mode=other", 503),
            ("/readiness?lag=2kB", 200),
            ("/readiness?lag=10", 503),
            ("/readiness?lag=10&mode=write", 503),
            ("/readiness?lag=soon", 503),
            ("/readiness?lag=soon&mode=write", 200),
            ("/readiness/x?lag=2kB", 200),
            ("/readiness?lag=2kB&tag_x=y", 200),
        )
        for target, code in rows:
            self.assertBare(self.request("GET", target), code)
            self.assertEqual(self.code(target, "HEAD"), code, target)

    def test_not_streaming(self) -> None:
        """A replica that does not stream is not ready."""
        self.be_replica({"receiver_status": None, "restore_command": "cp"})
        self.assertEqual(self.code("/readiness?lag=1GB"), 503)

    def test_without_dcs(self) -> None:
        """Without the DCS the sender's position is needed, or failsafe mode."""
        for changes, row, code in (
            ({}, {}, 200),
            ({}, {"latest_end": None}, 503),
            ({"failsafe_active": True}, {"latest_end": None}, 200),
        ):
            self.be_replica(row, cluster=None, **changes)
            self.assertEqual(self.code("/readiness"), code, f"{changes} {row}")

    def test_silent(self) -> None:
        """A server that does not answer is not ready."""
        self.be_replica()
        self.link.error = PostgresError("gone")
        self.assertEqual(self.code("/readiness"), 503)


class WireTests(ApiHealthCase):
    """How health checks look to HTTP/1.1."""

    def test_kept_alive(self) -> None:
        """HTTP/1.1 gets a length with the bare answer, so that the connection can stay."""
        reply = self.request("OPTIONS", "/", version="1.1")
        self.assertEqual((reply.version, reply.code), ("HTTP/1.1", 200))
        self.assertEqual(reply.header("Content-Length"), "0")

    def test_same_answers(self) -> None:
        """The answers are the same for both versions."""
        for target in ("/primary", "/replica", "/patroni", "/cluster"):
            old, new = (self.request("GET", target, version=v) for v in ("1.0", "1.1"))
            self.assertEqual((old.code, old.body), (new.code, new.body), target)

    def test_snapshot_is_not_kept(self) -> None:
        """A later check sees what has changed."""
        self.assertEqual(self.code("/primary"), 200)
        self.engine.view = evolve(self.engine.view, leader=False)
        self.assertEqual(self.code("/primary"), 503)
