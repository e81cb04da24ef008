"""One node of the cluster: its daemon as a child process, and the PostgreSQL it looks after."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from twisted_patroni.demo.processes import find_command, postmaster_pid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from twisted.internet.interfaces import IProcessTransport, IReactorProcess
    from twisted.python.failure import Failure

    from twisted_patroni.demo.layout import Place


class _Ending(ProcessProtocol):
    """Tells everyone who asks how a process ended."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._waiting: list[Deferred[int]] = []

    def told(self) -> Deferred[int]:
        if self.code is not None:
            return succeed(self.code)
        waiting: Deferred[int] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return waiting

    def processEnded(self, reason: Failure) -> None:
        signal = getattr(reason.value, "signal", None)
        self.code = -signal if signal else getattr(reason.value, "exitCode", None) or 0
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(self.code)


def _environment() -> dict[str, str]:
    # PATRONI_* variables would win over the file, and may be meant for another cluster.
    return {name: text for name, text in os.environ.items() if not name.startswith("PATRONI_")}


class Node:
    """A node that can be started and stopped, as often as wanted.

    :param reactor: starts the process.
    :param place: the node's addresses and files.
    :param daemon: the daemon's command, to which the configuration file is added.
    :param prefix: words before the command, to drop root's rights.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        place: Place,
        daemon: Sequence[str],
        prefix: Sequence[str] = (),
    ) -> None:
        self._reactor = reactor
        self._daemon = (*daemon, str(place.config_file))
        self._ending: _Ending | None = None
        self._transport: IProcessTransport | None = None
        self.place = place
        self.prefix: tuple[str, ...] = tuple(prefix)

    @property
    def name(self) -> str:
        """The node's name in the cluster."""
        return self.place.name

    @property
    def config_file(self) -> Path:
        """The node's configuration."""
        return self.place.config_file

    @property
    def rest_url(self) -> str:
        """The REST API's address, without a slash at the end."""
        return self.place.rest_url

    @property
    def conninfo(self) -> str:
        """What ``psql`` and psycopg take to connect to this node as superuser."""
        return self.place.conninfo

    @property
    def command(self) -> tuple[str, ...]:
        """The command that starts the daemon."""
        return (*self.prefix, *self._daemon)

    @property
    def pid(self) -> int | None:
        """The daemon's process id, or ``None`` while no child of ours runs."""
        return self._transport.pid if self._transport is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        """Whether the daemon we started runs."""
        return self._ending is not None and self._ending.code is None

    @property
    def exited(self) -> Deferred[int]:
        """A Deferred of its own for each reader: the exit code, negative for a signal's number."""
        if self._ending is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._ending.told()

    def start(self) -> None:
        """Start the daemon, out of reach of the terminal's Ctrl-C; its output goes to the log."""
        if self.is_running:
            raise RuntimeError(f"{self.name} runs already")
        ending = _Ending()
        log = os.open(self.place.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            command = ("setsid", *self.command)
            self._transport = self._reactor.spawnProcess(
                ending,
                command[0],
                command,
                env=_environment(),
                path=str(self.place.home),
                childFDs={0: nothing, 1: log, 2: log},
            )
        finally:
            os.close(log)
            os.close(nothing)
        self._ending = ending

    def stop(self, signal: str | int = "TERM") -> Deferred[int]:
        """Send the daemon a signal.

        PostgreSQL goes on without a daemon that had no chance to stop it.

        :param signal: the signal, as ``TERM``, ``KILL`` or a number.
        :return: the exit code, once the process has ended.
        """
        if self._ending is None or self._transport is None:
            return succeed(0)
        with suppress(ProcessExitedAlready):
            self._transport.signalProcess(signal)
        return self._ending.told()

    def postmaster_pid(self) -> int | None:
        """Return the process id of PostgreSQL's main process, or ``None`` if it does not run."""
        return postmaster_pid(self.place.data)

    def stray_pid(self) -> int | None:
        """Return the process id of a daemon of this node that somebody else started."""
        pid = find_command(self._daemon)
        return None if pid == self.pid else pid

    @property
    def is_standby(self) -> bool:
        """Whether the data directory is that of a standby."""
        names = ("standby.signal", "recovery.conf")
        return any((self.place.data / name).exists() for name in names)
