"""What is logged during a test, without a file or a handler of the process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase


def logged_by(test: SynchronousTestCase, module: str) -> list[LogEvent]:
    """Return a list that collects the log events of a module until the test ends.

    :param test: the test.
    :param module: the module's full name.
    """
    events: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == module:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    test.addCleanup(globalLogPublisher.removeObserver, observe)
    return events
