"""What is seen of a daemon while something goes on: by a client, and from outside."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import Thread
from typing import IO, TYPE_CHECKING

from attrs import define, field, frozen

from benchmarks.visitor import KEPT, NEW, Visit, percentile, within
from benchmarks.watch import HaLog, cpu_seconds, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.measure import Values

_SAMPLE = 0.25


@frozen
class Target:
    """A daemon that is looked at.

    :param pid: its process.
    :param port: its API's.
    :param log: its log.
    :param authority: if it speaks TLS, the file with the authority that its certificate comes from.
    """

    pid: int
    port: int
    log: HaLog
    authority: str = ""

    def sockets(self) -> int:
        """Return how many sockets the process has open."""
        count = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                count += os.readlink(entry).startswith("socket:")
        return count


@define(eq=False)
class Visits:
    """A well-behaved client in a process of its own, and what it has written down at the end.

    :param target: whom it visits.
    :ivar all: its visits, once the context is left.
    """

    target: Target
    all: list[Visit] = field(factory=list, init=False)
    _stack: ExitStack = field(factory=ExitStack, init=False)

    def __enter__(self) -> Visits:
        output = self._stack.enter_context(TemporaryFile("w+"))
        child = subprocess.Popen(
            command("visitor", str(self.target.port), self.target.authority),
            stdout=output,
            text=True,
        )
        self._stack.callback(self._read, output)
        self._stack.callback(dismiss, child)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _read(self, output: IO[str]) -> None:
        output.seek(0)
        whole = (line for line in output if line.endswith("\n"))
        self.all.extend(Visit.parse(line) for line in whole)


def latencies(visits: Sequence[Visit], begin: float, end: float) -> Values:
    """Return how long visits took that began in a span of time, in milliseconds.

    :param visits: all visits.
    :param begin: the beginning of the time.
    :param end: its end.
    """
    values: Values = {}
    for kind in (KEPT, NEW):
        found = within(visits, kind, begin, end)
        values[f"{kind}.visits"] = len(found)
        values[f"{kind}.failures"] = found.count(math.inf)
        for share in (50, 99):
            seconds = percentile(found, share)
            values[f"{kind}.p{share}"] = None if seconds is None else 1000 * seconds
    return values


@define(eq=False)
class Watch:
    """What is seen of a daemon from outside while the context lasts.

    :param target: the daemon.
    :ivar span: when it began and ended.
    :ivar values: what was seen.
    """

    target: Target
    span: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    values: Values = field(factory=dict, init=False)
    _resident: list[int] = field(factory=list, init=False)
    _used: float = field(default=0.0, init=False)
    _lasting: bool = field(default=True, init=False)
    _thread: Thread = field(init=False)

    def __enter__(self) -> None:
        self.target.log.begin()
        self._used = cpu_seconds(self.target.pid)
        self.span = (time.monotonic(), 0.0)
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while self._lasting:
            self._resident.append(resident_bytes(self.target.pid))
            time.sleep(_SAMPLE)

    def __exit__(self, *error: object) -> None:
        self._lasting = False
        self._thread.join()
        begin, end = self.span = (self.span[0], time.monotonic())
        cycles = self.target.log.cycles()
        self.values = {
            "resident": self._resident[-1] / 2**20,
            "resident_most": max(self._resident) / 2**20,
            "sockets": self.target.sockets(),
            "cpu": 100 * (cpu_seconds(self.target.pid) - self._used) / (end - begin),
            "cycle_mean": 1000 * cycles.mean,
            "cycle_worst": 1000 * cycles.worst,
            "alarms": cycles.alarms,
        }


def command(name: str, *arguments: str) -> list[str]:
    """Return what runs a module of the benchmarks as a child process.

    :param name: the module's name.
    :param arguments: its arguments.
    """
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def dismiss(child: subprocess.Popen[str]) -> None:
    """End a child process and close its pipes.

    :param child: the child.
    """
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()
