"""Watch libpq's sockets from the reactor, and send its cancel requests.

libpq closes and replaces its socket inside its own functions, which would leave a dead number in
the reactor's tables. So what is registered is always a duplicate that belongs to us.
"""

from __future__ import annotations

import os
from threading import Thread
from typing import TYPE_CHECKING, Protocol

import psycopg
from psycopg import capabilities, pq
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorFromThreads,
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


class LinkReactor(IReactorTime, IReactorFDSet, IReactorPluggableNameResolver, IReactorFromThreads):
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


class CancelRequest(Protocol):
    """Asks the server to cancel what a connection is running."""

    def __init__(self, reactor: LinkReactor, pg: PGconn, done: Callable[[], None]) -> None: ...

    def start(self) -> None:
        """Send the request; ``done`` is called when nothing more will come of it."""

    def stop(self) -> None:
        """Forget it: ``done`` is not called any more."""


class ReactorCancelRequest:
    """A cancel request as libpq 17 and later can send it: without blocking."""

    def __init__(self, reactor: LinkReactor, pg: PGconn, done: Callable[[], None]) -> None:
        self._cancel = pg.cancel_conn()
        self._watch = SocketWatch(reactor, self._progress)
        self._done = done

    def start(self) -> None:
        """Send the request; ``done`` is called when nothing more will come of it."""
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


class ThreadCancelRequest:
    """A cancel request as libpq before 17 can send it: blocking, so in a thread of its own.

    The thread is a daemon and not one of a pool: a frozen server holds it for as long as it likes,
    and nothing else may have to wait for that, least of all the end of the process.
    """

    def __init__(self, reactor: LinkReactor, pg: PGconn, done: Callable[[], None]) -> None:
        self._reactor = reactor
        self._cancel = pg.get_cancel()
        self._done: Callable[[], None] | None = done

    def start(self) -> None:
        """Send the request; ``done`` is called when nothing more will come of it."""
        Thread(target=self._block, name="postgres-cancel", daemon=True).start()

    def stop(self) -> None:
        """Forget it: ``done`` is not called any more."""
        self._done = None

    def _block(self) -> None:
        try:
            self._cancel.cancel()
        except psycopg.Error:
            pass  # not sent: the grace period of whoever asked for it decides what comes next
        finally:
            self._reactor.callFromThread(self._finish)

    def _finish(self) -> None:
        if self._done is not None:
            self._done()


def best_cancel_request() -> type[CancelRequest]:
    """Return the kind of cancel request that suits the libpq in use."""
    return ReactorCancelRequest if capabilities.has_cancel_safe() else ThreadCancelRequest
