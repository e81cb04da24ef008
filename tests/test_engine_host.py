"""Tests of what twisted_patroni.engine.host adds to upstream's daemon, over stand-ins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.engine.host import EngineHost, Patroni
from twisted_patroni.engine.interface import Cycle

if TYPE_CHECKING:
    from collections.abc import Callable


class DaemonCase(SynchronousTestCase):
    """A daemon whose cycles do nothing."""

    def setUp(self) -> None:
        """Make a daemon whose cycle takes two seconds and whose nap takes eight."""
        self.clock = Clock()
        self.calls: list[Any] = []
        daemon = self.daemon = Patroni.__new__(Patroni)
        daemon.ha = SimpleNamespace(run_cycle=self.work, watch=self.nap)  # type: ignore[assignment]
        daemon.dcs = SimpleNamespace(cluster=None, loop_wait=10)  # type: ignore[assignment]
        daemon.postgresql = SimpleNamespace(role="uninitialized")  # type: ignore[assignment]
        daemon.next_run = 9e9
        daemon.setup_signal_handlers()

    def work(self) -> str:
        """Be upstream's cycle."""
        self.calls.append("work")
        self.clock.advance(2)
        return "no action"

    def nap(self, timeout: float) -> bool:
        """Be upstream's wait for the next cycle."""
        self.calls.append("nap")
        self.clock.advance(8)
        return False

    def run_cycles(self, number: int, cycled: Callable[[Cycle], None]) -> None:
        """Run cycles as upstream's loop does."""
        self.daemon.observe_cycles(cycled, self.clock.seconds)
        for _ in range(number):
            self.daemon._run_cycle()


class CycleTests(DaemonCase):
    """The report of HA cycles."""

    def test_reported(self) -> None:
        """Each cycle is reported once its work is done, before the nap."""
        self.run_cycles(2, self.calls.append)
        self.assertEqual(self.calls, ["work", Cycle(0, 2), "nap", "work", Cycle(10, 12), "nap"])

    def test_engine_is_not_disturbed(self) -> None:
        """The HA loop goes on even if the report fails."""

        def broken(cycle: Cycle) -> None:
            raise RuntimeError("oops")

        self.run_cycles(1, broken)
        self.assertEqual(self.calls, ["work", "nap"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_failed_cycle(self) -> None:
        """A cycle that fails is upstream's affair, and is not reported as one."""

        def fail() -> str:
            raise RuntimeError("oops")

        self.daemon.ha = SimpleNamespace(run_cycle=fail)  # type: ignore[assignment]
        with self.assertRaises(RuntimeError):
            self.run_cycles(1, self.calls.append)
        self.assertEqual(self.calls, [])

    def test_thread(self) -> None:
        """The report reaches the reactor's thread, and the loop does not wait for it."""
        queued: list[tuple[Any, ...]] = []
        reactor = SimpleNamespace(callFromThread=lambda *call: queued.append(call))
        calls = self.calls.append
        host = EngineHost(None, reactor, None, None, calls, calls, calls)  # type: ignore[arg-type]
        self.run_cycles(1, host._report_cycle)
        self.assertEqual(self.calls, ["work", "nap"])
        ((function, *arguments),) = queued
        function(*arguments)
        self.assertEqual(self.calls[-1], Cycle(0, 2))

    def test_without_dcs(self) -> None:
        """The DCS is lost from the cycle that cannot use it to the end of one that can."""
        lost: list[bool] = []

        def report(cycle: Cycle) -> None:
            lost.append(self.daemon.dcs_lost)

        def fail() -> str:
            self.daemon.dcs_failed()
            lost.append(self.daemon.dcs_lost)
            return "DCS is not accessible"

        self.daemon.ha = SimpleNamespace(run_cycle=fail, watch=self.nap)  # type: ignore[assignment]
        self.run_cycles(2, report)
        self.assertEqual(lost, [True] * 4)
        self.daemon.ha = SimpleNamespace(run_cycle=self.work, watch=self.nap)  # type: ignore[assignment]
        self.run_cycles(1, report)
        self.assertEqual(lost[4:], [False])


class ReloadTests(DaemonCase):
    """Reloads that were asked for."""

    def loop(self, between: Callable[[], None] = lambda: None) -> None:
        """Do as upstream's loop does: take the flag, reload, run a cycle."""
        if self.daemon._received_sighup:
            self.daemon._received_sighup = False
            self.assertTrue(self.daemon.reload_pending, "it is still being done")
            between()
        self.run_cycles(1, lambda cycle: None)

    def test_pending(self) -> None:
        """A reload is pending until it has been done, not only until it is begun."""
        self.assertFalse(self.daemon.reload_pending)
        self.daemon.sighup_handler()
        self.assertTrue(self.daemon.reload_pending)
        self.loop()
        self.assertFalse(self.daemon.reload_pending)

    def test_again(self) -> None:
        """One that is asked for while another is done is still to be done."""
        self.daemon.sighup_handler()
        self.loop(self.daemon.sighup_handler)
        self.assertTrue(self.daemon.reload_pending)
        self.loop()
        self.assertFalse(self.daemon.reload_pending)
