"""Tests of twisted_patroni.service as far as no engine is needed."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from twisted.application.service import Application, IServiceCollection, MultiService
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.logs import logged_by
from tests.memory_api import Reactor
from tests.scratch import scratch_directory
from twisted_patroni.service import PatroniService, into_stdlib, leave_process

NAME = "twisted_patroni.tests"


class IntoStdlibTests(SynchronousTestCase):
    """Twisted's log in the one of the standard library."""

    def test_levels(self) -> None:
        """Each level of Twisted's has its counterpart, and the namespace names the logger."""
        rows = (
            (LogLevel.debug, logging.DEBUG),
            (LogLevel.info, logging.INFO),
            (LogLevel.warn, logging.WARNING),
            (LogLevel.error, logging.ERROR),
            (LogLevel.critical, logging.CRITICAL),
        )
        log = Logger(NAME, observer=into_stdlib)
        with self.assertLogs(NAME, logging.DEBUG) as seen:
            for level, _ in rows:
                log.emit(level, "{what} happened", what="something")
        self.assertEqual(
            [(record.levelno, record.getMessage()) for record in seen.records],
            [(level, "something happened") for _, level in rows],
        )

    def test_percent_signs(self) -> None:
        """A text is not a format twice."""
        with self.assertLogs(NAME, logging.INFO) as seen:
            Logger(NAME, observer=into_stdlib).info("{text}", text="100 %s {x}")
        self.assertEqual(seen.records[0].getMessage(), "100 %s {x}")

    def test_failure(self) -> None:
        """A failure brings its traceback."""
        with self.assertLogs(NAME, logging.ERROR) as seen:
            try:
                raise ValueError("oops")
            except ValueError:
                Logger(NAME, observer=into_stdlib).failure("it broke")
        (record,) = seen.records
        self.assertEqual(record.getMessage(), "it broke")
        assert record.exc_info is not None
        self.assertIs(record.exc_info[0], ValueError)

    def test_failure_without_traceback(self) -> None:
        """A failure that was never raised is logged all the same."""
        with self.assertLogs(NAME, logging.ERROR) as seen:
            Logger(NAME, observer=into_stdlib).failure("it broke", Failure(ValueError("oops")))
        self.assertEqual(seen.records[0].getMessage(), "it broke")

    def test_disabled(self) -> None:
        """What nobody wants is not formatted."""

        class Expensive:
            def __str__(self) -> str:
                raise AssertionError("formatted")

        quiet = logging.getLogger(f"{NAME}.quiet")
        quiet.setLevel(logging.WARNING)
        Logger(quiet.name, observer=into_stdlib).info("{text}", text=Expensive())

    def test_legacy_event(self) -> None:
        """An event without namespace and level is one of Twisted's, at INFO."""
        with self.assertLogs("twisted", logging.INFO) as seen:
            into_stdlib({"log_format": "old"})
        self.assertEqual(seen.records[0].levelno, logging.INFO)

    def test_is_an_observer(self) -> None:
        """Twisted accepts it as an observer."""
        verifyObject(ILogObserver, into_stdlib)


class LeaveProcessTests(SynchronousTestCase):
    """The end of the process."""

    def setUp(self) -> None:
        """Go on after the end."""
        self.codes: list[int] = []
        self.patch(os, "_exit", self.codes.append)
        self.pidfile = scratch_directory(self) / "twistd.pid"

    def test_own_pidfile(self) -> None:
        """The pid file is removed if this process wrote it."""
        self.pidfile.write_text(f"{os.getpid()}\n")
        leave_process(3, str(self.pidfile))
        self.assertEqual((self.codes, self.pidfile.exists()), ([3], False))

    def test_foreign_pidfile(self) -> None:
        """A pid file of another process stays."""
        self.pidfile.write_text("1")
        leave_process(0, str(self.pidfile))
        self.assertEqual((self.codes, self.pidfile.exists()), ([0], True))

    def test_missing_pidfile(self) -> None:
        """A pid file that is gone is worth a warning and delays nothing."""
        events = logged_by(self, "twisted_patroni.service")
        leave_process(1, str(self.pidfile))
        self.assertEqual((self.codes, len(events)), ([1], 1))

    def test_no_pidfile(self) -> None:
        """Without a pid file there is nothing to remove."""
        leave_process(2, "")
        self.assertEqual(self.codes, [2])

    def test_no_streams(self) -> None:
        """Streams that are not there need no flush."""
        self.patch(sys, "__stdout__", None)
        self.patch(sys, "__stderr__", None)
        leave_process(2, "")
        self.assertEqual(self.codes, [2])


class PatroniServiceTests(SynchronousTestCase):
    """The service before its engine is there."""

    def setUp(self) -> None:
        """Make a service that is never run."""
        self.reactor = Reactor()
        self.codes: list[int] = []
        self.service = PatroniService(self.reactor, None, self.codes.append)  # type: ignore[arg-type]

    def test_log(self) -> None:
        """Joining an application sends its log into the standard library's."""
        application: Any = Application("patroni")
        self.service.setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), into_stdlib)
        self.assertEqual(list(IServiceCollection(application)), [self.service])

    def test_part_of_another_service(self) -> None:
        """A parent that is not the application keeps its log to itself."""
        parent = MultiService()
        self.service.setServiceParent(parent)
        self.assertEqual(list(parent), [self.service])

    def test_stopped_early(self) -> None:
        """A service whose engine is not there yet stops at once; the process ends after that."""
        stopped = self.service.stopService()
        self.successResultOf(stopped)
        self.assertEqual(self.codes, [])
        (trigger,) = self.reactor.triggers["after"]["shutdown"]
        function, arguments, keywords = trigger
        function(*arguments, **keywords)
        self.assertEqual(self.codes, [0])

    def test_stopped_twice(self) -> None:
        """Stopping again changes nothing."""
        first, second = self.service.stopService(), self.service.stopService()
        self.assertIs(first, second)
        self.assertEqual(len(self.reactor.triggers["after"]["shutdown"]), 1)

    def test_start(self) -> None:
        """Starting waits for the reactor, and gives the standard streams back."""
        for name in ("stdout", "stderr"):
            self.patch(sys, name, getattr(sys, name))
        self.service.startService()
        self.assertIs(sys.stdout, sys.__stdout__)
        self.assertIs(sys.stderr, sys.__stderr__)
        self.assertEqual(len(self.reactor.whenRunningHooks), 1)
