"""Drive one libpq connection from the reactor: connecting, one statement at a time, cancelling.

libpq is asked to do nothing that blocks, and what takes too long is given up by finishing the
whole connection, for libpq has no other way to be interrupted.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import psycopg
from attrs import frozen
from psycopg import pq
from psycopg.adapt import Transformer
from twisted.internet.defer import Deferred, succeed

from twisted_patroni._pqsocket import CAN_CANCEL, CancelRequest, SocketWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGconn, PGresult
    from twisted.internet.interfaces import IDelayedCall

    from twisted_patroni._pqsocket import LinkReactor

#: Seconds for the server to react to a cancel request before the connection is dropped.
CANCEL_GRACE = 1.0
_UNNAMED = b""
_COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)


@frozen
class PostgresError(Exception):
    """PostgreSQL gave no answer.

    :param message: why, for people.
    """

    message: str

    def __str__(self) -> str:
        return self.message


@frozen
class ConnectionFailed(PostgresError):
    """No connection could be made."""


@frozen
class LinkLost(PostgresError):
    """The connection was lost, or dropped, before the answer was complete."""


@frozen
class QueryTimeout(PostgresError):
    """The answer was not there in time."""


@frozen
class QueryFailed(PostgresError):
    """The server refused the statement, or its answer could not be read.

    :param sqlstate: the server's error code, empty when the answer could not be read.
    """

    sqlstate: str = ""


@frozen
class Rows:
    """What a statement returned.

    :param rows: the rows, each value in the Python type that psycopg has for it.
    :param server_version: as PostgreSQL numbers it: 150018, 180000, ...
    """

    rows: Sequence[tuple[Any, ...]]
    server_version: int


class _State(Enum):
    CONNECTING = auto()
    IDLE = auto()
    BUSY = auto()
    CLOSED = auto()


class Session:
    """One connection, from the first attempt to its end, and at most one statement at a time.

    :param reactor: what watches the socket.
    :param on_lost: called once when an established connection ends, except by :meth:`close`.
    :param can_cancel: whether a statement can be cancelled, or only given up with its connection.
    """

    def __init__(
        self,
        reactor: LinkReactor,
        on_lost: Callable[[PostgresError], None],
        can_cancel: bool = CAN_CANCEL,
    ) -> None:
        self._reactor = reactor
        self._on_lost = on_lost
        self._can_cancel = can_cancel
        self._watch = SocketWatch(reactor, self._progress)
        self._state = _State.CLOSED
        self._results: list[PGresult] = []
        self._prepared: str | None = None
        self._waiter: Deferred[Any] | None = None
        self._cancelling: CancelRequest | None = None
        self._grace: IDelayedCall | None = None
        self._pg: PGconn
        self._decoder: psycopg.Connection[Any]

    @property
    def established(self) -> bool:
        """Whether the server has let us in and the connection is not known to be lost."""
        return self._state in (_State.IDLE, _State.BUSY)

    def connect(self, conninfo: str) -> Deferred[None]:
        """Connect.

        :param conninfo: a libpq connection string that leaves no host name to resolve.
        :return: fires when statements can be sent; cancelling it gives the attempt up.
        """
        waiter: Deferred[None] = Deferred(self._give_up)
        self._waiter = waiter
        self._pg = pq.PGconn.connect_start(conninfo.encode())
        self._state = _State.CONNECTING
        self._step(self._begin)
        return waiter

    def run(self, sql: str) -> Deferred[Rows]:
        """Run a statement on an idle connection.

        :param sql: the statement. Of several in one text, the last one's rows are returned.
        :return: fires with its rows; cancelling it cancels the statement on the server too if that
            is possible, and :meth:`settled` tells when that is over.
        """
        self._prepared = None  # the server forgets it, too
        return self._ask(lambda: self._pg.send_query(sql.encode()))

    async def run_prepared(self, sql: str) -> Rows:
        """Run a statement as :meth:`run` does, and have the server keep its plan for the next time.

        :param sql: the statement, a single one.
        """
        prepared, self._prepared = self._prepared, None  # a plan that failed is not used again
        if prepared != sql:
            await self._ask(lambda: self._pg.send_prepare(_UNNAMED, sql.encode()))
        rows = await self._ask(lambda: self._pg.send_query_prepared(_UNNAMED, None))
        self._prepared = sql
        return rows

    def _ask(self, send: Callable[[], None]) -> Deferred[Rows]:
        waiter: Deferred[Rows] = Deferred(self._abandon)
        self._waiter = waiter
        self._state = _State.BUSY
        self._step(send)
        self._progress()
        return waiter

    def settled(self) -> Deferred[None]:
        """Wait until a cancelled statement is over; fails if the connection has to be dropped."""
        if self._grace is None:
            return succeed(None)
        self._waiter = Deferred(self._forget)
        return self._waiter

    def close(self, reason: PostgresError) -> None:
        """End the connection; whoever waits for it gets the reason."""
        self._on_lost = lambda _: None
        self._end(reason)

    def _progress(self) -> None:
        """Do what can be done now."""
        if self._state is _State.CONNECTING:
            self._step(self._poll)
        elif self._state is _State.IDLE:
            self._step(self._listen)
        elif self._state is _State.BUSY:
            self._step(self._pump)

    def _step(self, step: Callable[[], None]) -> None:
        """Take a step; the connection ends here when libpq says that it is over."""
        try:
            step()
            if self._state is not _State.CLOSED and self._pg.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError(self._pg.error_message.decode("utf-8", "replace"))
        except (psycopg.Error, OSError) as error:
            kind = LinkLost if self.established else ConnectionFailed
            self._end(kind(str(error).strip()))

    def _begin(self) -> None:
        if self._pg.status != pq.ConnStatus.BAD:
            self._watch.watch(self._pg.socket, writing=True)

    def _poll(self) -> None:
        self._watch.stop()  # before libpq replaces its socket
        status = self._pg.connect_poll()
        if status == pq.PollingStatus.OK:
            self._pg.nonblocking = 1
            self._watch.watch(self._pg.socket, reading=True)
            self._decoder = psycopg.Connection(self._pg)
            self._state = _State.IDLE
            self._tell(None)
        elif status != pq.PollingStatus.FAILED:
            self._watch.watch(
                self._pg.socket,
                reading=status == pq.PollingStatus.READING,
                writing=status == pq.PollingStatus.WRITING,
            )

    def _listen(self) -> None:
        """Hear what an idle server has to say: usually its farewell."""
        self._pg.consume_input()
        while self._pg.notifies() is not None:
            pass

    def _pump(self) -> None:
        self._watch.want(reading=True, writing=self._pg.flush() == 1)
        self._pg.consume_input()
        while not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                return self._complete()
            self._results.append(result)
            if result.status in _COPYING:  # libpq would return it for ever
                return self._end(LinkLost("COPY is not supported here"))
        return None

    def _complete(self) -> None:
        results, self._results = self._results, []
        self._state = _State.IDLE
        if self._grace is not None:
            return self._settle()
        try:
            outcome: Rows | PostgresError = self._decode(results[-1])
        except Exception as error:  # psycopg's loaders raise whatever they meet
            outcome = QueryFailed(f"unreadable answer: {error}")
        return self._tell(outcome)

    def _decode(self, result: PGresult) -> Rows | QueryFailed:
        version = self._pg.server_version
        if result.status == pq.ExecStatus.TUPLES_OK:
            # A new one each time, because it remembers the session's time zone.
            transformer = Transformer(self._decoder)
            transformer.set_pgresult(result)
            return Rows(transformer.load_rows(0, result.ntuples, tuple), version)
        if result.status == pq.ExecStatus.FATAL_ERROR:
            message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
            sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
            return QueryFailed(message.decode("utf-8", "replace"), sqlstate.decode())
        return Rows((), version)

    def _tell(self, outcome: Rows | PostgresError | None) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        if isinstance(outcome, PostgresError):
            waiter.errback(outcome)
        else:
            waiter.callback(outcome)

    def _forget(self, waiter: Deferred[Any]) -> None:
        self._waiter = None

    def _give_up(self, waiter: Deferred[Any]) -> None:
        self._forget(waiter)
        self._end(ConnectionFailed("given up"))

    def _abandon(self, waiter: Deferred[Any]) -> None:
        """Ask the server to cancel, and give it a while to say that it has."""
        self._forget(waiter)
        if not self._can_cancel:
            return self._end(LinkLost("given up with its statement"))
        silent = LinkLost("no reaction to a cancel request")
        self._grace = self._reactor.callLater(CANCEL_GRACE, self._end, silent)
        self._cancelling = CancelRequest(self._reactor, self._pg, self._cancel_sent)
        return self._cancelling.start()

    def _cancel_sent(self) -> None:
        self._cancelling = None
        self._settle()

    def _settle(self) -> None:
        """Be usable again once both the statement and the cancel request are over.

        A request still on its way would hit the next statement.
        """
        if self._grace is None or self._cancelling is not None or self._state is not _State.IDLE:
            return
        self._grace.cancel()
        self._grace = None
        self._tell(None)

    def _end(self, error: PostgresError) -> None:
        if self._state is _State.CLOSED:
            return
        established, self._state = self.established, _State.CLOSED
        self._watch.stop()
        if self._cancelling is not None:
            self._cancelling.stop()
            self._cancelling = None
        if self._grace is not None and self._grace.active():
            self._grace.cancel()
        self._pg.finish()
        if established:
            self._on_lost(error)
        self._tell(error)
