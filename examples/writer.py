"""Write numbered rows through failovers, and count at the end what is there.

    python examples/writer.py http://10.0.0.11:8008 http://10.0.0.12:8008 --rows 10000
    python examples/writer.py --config /etc/patroni.yml

It writes one row after the other, each in a transaction of its own, to whichever member is the
primary. A row is acknowledged once its commit has been confirmed. When a connection ends in the
middle of one, nobody knows whether that row was written: it is written again on the next primary,
under the same number. At the end, or when it is interrupted, it reads all rows and says whether one
that was acknowledged is missing; the exit status is 1 then. In a cluster with ``synchronous_mode``
there is none, whatever happens to one member.

Who connects, and to which database, is up to libpq: ``PGUSER``, ``PGDATABASE``, ``PGPASSFILE`` ...
One table is for one writer at a time.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from attrs import define, field, frozen
from psycopg import sql
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.internet.threads import deferToThread

from twisted_patroni.client import ClientError, Replicas

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted_patroni.client import Member

T = TypeVar("T")

#: Seconds without a primary that takes a row, after which the program gives up.
PATIENCE = 120.0
#: Seconds between two attempts at the same row, lest a broken server is asked without a pause.
PAUSE = 0.1
#: Have the kernel notice within seconds that a host is gone, and does not even refuse.
SWIFT = {
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 4000,
}
#: What ends a connection or an attempt, and not the program.
PASSING = (
    ClientError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
)

CREATE = """
CREATE TABLE IF NOT EXISTS {table} (
    number bigint PRIMARY KEY,
    attempts integer NOT NULL DEFAULT 1,
    written timestamptz NOT NULL DEFAULT clock_timestamp()
)"""
# With DO NOTHING a row that is there already would be "committed" without a wait for the
# synchronous standby: nothing is written then, so there is nothing to wait for. But whoever lost
# the connection while waiting for the standby finds the row on the primary and on no other member.
# The update has this transaction wait for all that was written before it.
INSERT = """
INSERT INTO {table} (number) VALUES (%s)
ON CONFLICT (number) DO UPDATE SET attempts = {table}.attempts + 1"""
LAST = "SELECT coalesce(max(number), 0) FROM {table}"
COUNT = """
SELECT count(*), count(*) FILTER (WHERE attempts > 1)
FROM {table} WHERE number BETWEEN %s AND %s"""
MISSING = """
SELECT number FROM generate_series(%s::bigint, %s::bigint) AS number
WHERE NOT EXISTS (SELECT FROM {table} WHERE {table}.number = number.number)
ORDER BY number"""


class Doubtful(psycopg.OperationalError):
    """A commit was confirmed with a warning, as when nobody waits for the standby any more."""


@frozen
class Interruption:
    """A row that was not written at the first attempt.

    :param number: the row.
    :param seconds: from the row before it that was acknowledged to this one.
    :param host: who has taken it.
    """

    number: int
    seconds: float
    host: str


@frozen
class Report:
    """What is there in the end.

    :param acknowledged: rows whose commit was confirmed.
    :param present: rows of those numbers that are there.
    :param repeated: rows that were found there when they were written again.
    :param missing: the numbers of the acknowledged rows that are not there.
    :param interruptions: what has happened.
    """

    acknowledged: int
    present: int
    repeated: int
    missing: tuple[int, ...]
    interruptions: tuple[Interruption, ...]

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.missing[:10])) or "none"
        more = f" and {len(self.missing) - 10} more" if len(self.missing) > 10 else ""
        longest = max(self.interruptions, key=lambda each: each.seconds, default=None)
        lines = [
            f"acknowledged rows:    {self.acknowledged}",
            f"present rows:         {self.present}",
            f"missing rows:         {shown}{more}",
            f"found when repeated:  {self.repeated}",
            f"interruptions:        {len(self.interruptions)}",
        ]
        if longest is not None:
            told = f"{longest.seconds:.2f} s, until row {longest.number} on {longest.host}"
            lines.append(f"longest interruption: {told}")
        return "\n".join(lines)


@define(eq=False)
class Writer:
    """Writes rows to the primary, whoever that is.

    :param reactor: the reactor.
    :param replicas: the cluster.
    :param table: the table's name; it is made if it is not there.
    :param tell: is told what happens.
    :param parameters: libpq's, beside its environment.
    :param look: seconds without an answer after which it is seen whether the primary still leads.
    :param patience: seconds without a primary that takes a row, after which this gives up.
    :ivar first: the number of the first row.
    :ivar acknowledged: how many rows were committed for sure.
    """

    reactor: Any
    replicas: Replicas
    table: str
    tell: Callable[[str], object]
    parameters: dict[str, Any] = field(factory=dict)
    look: float = 2.0
    patience: float = PATIENCE
    first: int = field(default=1, init=False)
    acknowledged: int = field(default=0, init=False)
    _connection: psycopg.Connection[Any] | None = field(default=None, init=False)
    _host: str = field(default="", init=False)
    _warnings: list[str | None] = field(factory=list, init=False)
    _failures: int = field(default=0, init=False)
    _interruptions: list[Interruption] = field(factory=list, init=False)
    _stopping: bool = field(default=False, init=False)

    async def run(self, rows: int | None = None, pause: float = 0.0) -> Report:
        """Write rows, and return what has come of it; to be called once.

        :param rows: how many; ``None`` for as many as there is time for until :meth:`stop`.
        :param pause: seconds between two rows.
        """
        forget = self.replicas.on_leader_change(self._led_by)
        try:
            self.first = await self._do(self._prepare)
            last = self.reactor.seconds()
            while not self._stopping and self.acknowledged != rows:
                last = await self._write(self.first + self.acknowledged, last)
                self.acknowledged += 1
                await deferLater(self.reactor, pause)
            return await self._do(self._report)
        finally:
            forget()
            self._close()

    def stop(self) -> None:
        """Write no more rows: the one that is being written is the last."""
        self._stopping = True

    async def _write(self, number: int, last: float) -> float:
        """Write one row, and return when it was acknowledged."""
        failures = self._failures
        await self._do(lambda connection: self._insert(connection, number))
        now: float = self.reactor.seconds()
        if self._failures > failures:
            interruption = Interruption(number, now - last, self._host)
            self._interruptions.append(interruption)
            self.tell(f"row {number} is on {interruption.host}, {now - last:.2f} s after the last")
        return now

    # With a connection to whoever is the primary

    async def _do(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Do something, again and again until it has worked."""
        began = self.reactor.seconds()
        while True:
            try:
                connection = await self._connected()
                return await self._watched(deferToThread(work, connection))
            except PASSING as error:
                self._close()
                self._failures += 1
                self.tell(" ".join(str(error).split()))
                if self.reactor.seconds() - began > self.patience:
                    raise
            await deferLater(self.reactor, PAUSE)

    async def _watched(self, working: Deferred[T]) -> T:
        """Wait for a thread, and where that takes long see whether the primary is still there."""
        looking = LoopingCall(self._look)
        looking.clock = self.reactor
        looking.start(self.look, now=False).addErrback(lambda failure: self.tell(str(failure)))
        # A commit waits for its standby for ever, also where none is left and nobody else leads.
        limit = self.reactor.callLater(self.patience, self._cut)
        try:
            return await working
        finally:
            looking.stop()
            if limit.active():
                limit.cancel()

    async def _look(self) -> None:
        # What comes of it is not needed: if there is no answer, the client finds out who leads.
        with suppress(ClientError):
            await self.replicas.request("GET", "/primary", target="leader", timeout=self.look)

    async def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            parameters = {**SWIFT, **self.parameters}
            connecting = self.replicas.connect(
                "primary", timeout=self.patience, retry=True, **parameters
            )
            self._connection = await connecting
            self._host = f"{self._connection.info.host}:{self._connection.info.port}"
            self._connection.add_notice_handler(self._noticed)
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _led_by(self, leader: Member | None) -> None:
        """Leave who leads no more: it may have vanished without closing its connections."""
        if leader is not None and f"{leader.host}:{leader.port}" != self._host:
            self._cut()

    def _cut(self) -> None:
        """Wake a thread that waits for an answer, by the end of its socket."""
        if self._connection is not None:
            with suppress(OSError, psycopg.Error), _socket_of(self._connection) as left:
                left.shutdown(socket.SHUT_RDWR)

    # In a thread

    def _noticed(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary)

    def _execute(
        self, connection: psycopg.Connection[Any], text: str, *values: int
    ) -> psycopg.Cursor[Any]:
        table = sql.Identifier(*self.table.split("."))
        return connection.execute(sql.SQL(text).format(table=table), values)

    def _prepare(self, connection: psycopg.Connection[Any]) -> int:
        """Make the table, and return the number of the next row."""
        self._execute(connection, CREATE)
        connection.commit()
        ((last,),) = self._execute(connection, LAST)
        connection.commit()
        return int(last) + 1

    def _insert(self, connection: psycopg.Connection[Any], number: int) -> None:
        self._warnings.clear()
        self._execute(connection, INSERT, number)
        connection.commit()
        if self._warnings:
            raise Doubtful(f"committed with a warning: {self._warnings[0]}")

    def _report(self, connection: psycopg.Connection[Any]) -> Report:
        numbers = self.first, self.first + self.acknowledged - 1
        ((present, repeated),) = self._execute(connection, COUNT, *numbers)
        missing = tuple(number for (number,) in self._execute(connection, MISSING, *numbers))
        connection.commit()
        return Report(self.acknowledged, present, repeated, missing, tuple(self._interruptions))


def _socket_of(connection: psycopg.Connection[Any]) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


def told(text: str) -> None:
    """Print what happens, and when."""
    print(f"{datetime.now():%H:%M:%S.%f} {text}", flush=True)


def _cluster(reactor: Any, options: argparse.Namespace) -> Replicas:
    if options.config is None:
        return Replicas(reactor, options.urls)
    return Replicas.from_patroni(reactor, options.config, seeds=options.urls)


async def write(reactor: Any, options: argparse.Namespace) -> None:
    """Do what the command line says."""
    over: Deferred[None] = Deferred()
    try:
        async with _cluster(reactor, options) as replicas:
            writer = Writer(reactor, replicas, options.table, told)

            def interrupted() -> Deferred[None]:
                told("is to end: counts the rows")
                writer.stop()
                return over

            reactor.addSystemEventTrigger("before", "shutdown", interrupted)
            report = await writer.run(options.rows, options.pause)
        print(report)
        if report.missing:
            raise SystemExit(1)
    except (ClientError, ValueError, psycopg.Error) as error:
        raise SystemExit(f"writer: {error}") from None
    finally:
        over.callback(None)


def main(arguments: Sequence[str]) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Write numbered rows through failovers.")
    parser.add_argument("urls", metavar="URL", nargs="*", help="the REST API of any member")
    parser.add_argument("--config", metavar="FILE", help="Patroni's configuration: TLS, a URL")
    parser.add_argument("--rows", type=int, metavar="N", help="default: until interrupted")
    parser.add_argument("--pause", type=float, default=0.01, help="seconds between two rows")
    parser.add_argument("--table", default="written_rows")
    options = parser.parse_args(arguments)
    if not options.urls and options.config is None:
        parser.error("give the URL of a member, or --config")
    react(write, (options,))


if __name__ == "__main__":
    main(sys.argv[1:])
