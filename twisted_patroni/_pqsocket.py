"""Watch libpq's sockets from the reactor, and send its cancel requests.

libpq closes and replaces its socket inside its own functions, which would leave a dead number in
the reactor's tables. So what is registered is always a duplicate that belongs to us.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import psycopg
from psycopg import capabilities, pq
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorPluggableNameResolver,
    IReactorTime,
    IReadDescriptor,
    IWriteDescriptor,
)
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.pq.abc import PGconn
    from twisted.python.failure import Failure


#: libpq before 17 cannot send a cancel request without blocking, and psycopg's compiled half keeps
#: the interpreter to itself meanwhile: a frozen server would freeze every thread of ours.
CAN_CANCEL = capabilities.has_cancel_safe()


class LinkReactor(IReactorTime, IReactorFDSet, IReactorPluggableNameResolver):
    """What a connection to PostgreSQL needs of a reactor."""


@implementer(IReadDescriptor, IWriteDescriptor)
class SocketWatch:
    """Calls back when a socket of libpq's is ready, through a duplicate of it.

    :param reactor: what watches.
    :param ready: called when the socket is readable, writable or broken.
    """

    def __init__(self, reactor: LinkReactor, ready: Callable[[], None]) -> None:
        self._reactor = reactor
        self._ready = ready
        self._fd = -1
        self._reading = False
        self._writing = False

    def watch(self, socket: int, *, reading: bool = False, writing: bool = False) -> None:
        """Watch this socket instead of the one before."""
        self.stop()
        self._fd = os.dup(socket)
        self.want(reading=reading, writing=writing)

    def want(self, *, reading: bool, writing: bool) -> None:
        """Change what is waited for."""
        if reading != self._reading:
            (self._reactor.addReader if reading else self._reactor.removeReader)(self)
            self._reading = reading
        if writing != self._writing:
            (self._reactor.addWriter if writing else self._reactor.removeWriter)(self)
            self._writing = writing

    def stop(self) -> None:
        """Watch nothing, and close the duplicate."""
        self.want(reading=False, writing=False)
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def fileno(self) -> int:
        """Return the duplicate, for the reactor."""
        return self._fd

    def logPrefix(self) -> str:
        """Return the name under which the reactor logs."""
        return "PostgreSQL"

    def doRead(self) -> None:
        """Go on: there is something to read."""
        self._ready()

    def doWrite(self) -> None:
        """Go on: there is room to write."""
        self._ready()

    def connectionLost(self, reason: Failure) -> None:
        """Let libpq find out for itself; the reactor has already stopped watching."""
        self._reading = self._writing = False
        self._ready()


class CancelRequest:
    """Asks the server to cancel what a connection is running, where :data:`CAN_CANCEL`.

    :param reactor: what watches the request's own socket.
    :param pg: the connection.
    :param done: called when nothing more will come of the request.
    """

    def __init__(self, reactor: LinkReactor, pg: PGconn, done: Callable[[], None]) -> None:
        self._cancel = pg.cancel_conn()
        self._watch = SocketWatch(reactor, self._progress)
        self._done = done

    def start(self) -> None:
        """Send the request."""
        try:
            self._cancel.start()
            self._watch.watch(self._cancel.socket, writing=True)
        except (psycopg.Error, OSError):
            self._finish()

    def stop(self) -> None:
        """Forget it: ``done`` is not called any more."""
        self._watch.stop()
        self._cancel.finish()

    def _progress(self) -> None:
        self._watch.stop()  # before libpq replaces its socket
        try:
            status = self._cancel.poll()
            if status in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
                self._watch.watch(
                    self._cancel.socket,
                    reading=status == pq.PollingStatus.READING,
                    writing=status == pq.PollingStatus.WRITING,
                )
                return
        except (psycopg.Error, OSError):
            pass  # not sent: the grace period of whoever asked for it decides what comes next
        self._finish()

    def _finish(self) -> None:
        self.stop()
        self._done()
