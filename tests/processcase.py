"""Processes of the package's commands, for tests of what a user has."""

from __future__ import annotations

import os
import sys
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.trial.unittest import TestCase

from tests.scratch import scratch_directory

reactor = cast("Any", global_reactor)


class Child(ProcessProtocol):
    """The command's process.

    :ivar out: what it wrote to its output.
    :ivar err: what it wrote to its standard error.
    :ivar ended: fires with the exit code.
    """

    def __init__(self) -> None:
        self.out = self.err = ""
        self.ended: Deferred[int] = Deferred()
        self._wanted: list[tuple[str, Deferred[None]]] = []

    def until(self, text: str) -> Deferred[None]:
        """Wait until the output holds a text; the test's time limit ends this."""
        waiting: Deferred[None] = Deferred()
        self._wanted.append((text, waiting))
        self._look()
        return waiting

    def _look(self) -> None:
        for text, waiting in tuple(self._wanted):
            if text in self.out:
                self._wanted.remove((text, waiting))
                waiting.callback(None)

    def outReceived(self, data: bytes) -> None:
        """Keep output."""
        self.out += data.decode()
        self._look()

    def errReceived(self, data: bytes) -> None:
        """Keep errors."""
        self.err += data.decode()

    def processEnded(self, reason: Any) -> None:
        """Tell the exit code."""
        self.ended.callback(reason.value.exitCode)


class ProcessCase(TestCase):
    """Tests that start commands, in a home directory of their own.

    :ivar home: that directory.
    :ivar process: the last one that was started.
    """

    def setUp(self) -> None:
        """Have a home directory."""
        self.home = scratch_directory(self)

    def begin(self, *words: str, terminal: bool = False) -> Child:
        """Start a command; it is killed at the end if it has not ended.

        :param words: its name and its arguments.
        :param terminal: on a terminal, not on a pipe.
        """
        child = Child()
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TERM": "xterm",
            "TZ": "UTC",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", "twisted_patroni", *words]
        process = reactor.spawnProcess(child, command[0], command, environ, usePTY=terminal)

        def end() -> Deferred[int]:
            if not child.ended.called:
                process.signalProcess("KILL")
            return child.ended

        self.addCleanup(end)
        self.process = process
        return child
