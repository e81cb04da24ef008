"""What is seen of a daemon from outside: CPU time, memory, PostgreSQL's transactions, its log."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_CYCLE = re.compile(r"^(\S+ \S+) INFO: no action\. I am")
_TIME = "%Y-%m-%d %H:%M:%S,%f"
_ALARM = re.compile(r"demot|lost|not able to update|Lock owner: None|without the lock", re.I)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in all its threads.

    :param pid: the process.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has resident.

    :param pid: the process.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def transactions(conninfo: str) -> int:
    """Return how many transactions PostgreSQL has committed; each of the API's is one statement.

    A backend that reads no table tells its numbers when it ends, so the API's connection is ended.

    :param conninfo: how to connect as superuser.
    """
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'Patroni restapi'"
        )
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


@frozen
class Cycles:
    """How punctual the HA loop was.

    :param mean: by how many seconds the time from one cycle to the next differed from loop_wait,
        on average.
    :param worst: by how many at most; a cycle that never came counts until the end.
    :param alarms: log lines about a lost leader key, a missing lock or a demotion.
    """

    mean: float
    worst: float
    alarms: int


def punctuality(moments: Sequence[float], end: float, loop_wait: float) -> tuple[float, float]:
    """Return the mean and the worst deviation of the cycles from their period.

    :param moments: when the cycles were over, the first one before the time that counts.
    :param end: the end of the time that counts.
    :param loop_wait: the period.
    """
    late = [abs(after - before - loop_wait) for before, after in pairwise(moments)]
    missing = end - moments[-1] - loop_wait
    if missing > 0:
        late.append(missing)
    return (sum(late) / len(late), max(late)) if late else (0.0, 0.0)


@define(eq=False)
class HaLog:
    """Reads a daemon's log from where it is now.

    :param path: the log file.
    :param loop_wait: the HA loop's period.
    """

    path: Path
    loop_wait: float
    _start: int = field(default=0, init=False)

    def begin(self) -> None:
        """Count from now on."""
        self._start = self.path.stat().st_size

    def cycles(self) -> Cycles:
        """Return how punctual the HA loop has been since :meth:`begin`."""
        end = time.time()
        before, since = self._read()
        moments = [*_moments(before)[-1:], *_moments(since)]
        mean, worst = punctuality(moments, end, self.loop_wait) if moments else (0.0, end)
        return Cycles(mean, worst, sum(bool(_ALARM.search(line)) for line in since))

    def cycled(self) -> bool:
        """Tell whether a cycle has been over since :meth:`begin`."""
        return bool(_moments(self._read()[1]))

    def _read(self) -> tuple[list[str], list[str]]:
        text = self.path.read_bytes()
        parts = text[: self._start], text[self._start :]
        before, since = (part.decode("utf-8", "replace").splitlines() for part in parts)
        return before, since


def _moments(lines: Sequence[str]) -> list[float]:
    found = (_CYCLE.match(line) for line in lines)
    return [datetime.strptime(match[1], _TIME).timestamp() for match in found if match]
