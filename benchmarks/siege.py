"""What is measured of one daemon before, during and after an attack, as named numbers."""

from __future__ import annotations

import json
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

from benchmarks.clients import wait_until
from benchmarks.visitor import KEPT, NEW, Visit, Visitor, percentile, within
from benchmarks.watch import HaLog, cpu_seconds, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.hostile import Attack
    from benchmarks.measure import Values

BEFORE, ARRIVING, DURING, AFTER = PHASES = ("before", "arriving", "during", "after")
_SAMPLE = 0.25


@frozen
class Times:
    """How long everything lasts, in seconds.

    :param quiet: of the phases before and after.
    :param arriving: within which the attackers connect.
    :param siege: from then on until they leave.
    :param settling: between their leaving and the phase after it.
    :param patience: how much longer the attackers may take to connect.
    :param warm_up: how many requests come before everything, kept alive and new in turn, and then
        the same crowd of attackers for the first time.
    """

    quiet: float = 20.0
    arriving: float = 20.0
    siege: float = 30.0
    settling: float = 10.0
    patience: float = 60.0
    warm_up: int = 4000


@frozen
class Fortress:
    """A daemon that speaks TLS.

    :param pid: its process.
    :param port: its API's.
    :param authority: the file with the authority that its certificate comes from.
    :param log: its log.
    """

    pid: int
    port: int
    authority: str
    log: HaLog

    def sockets(self) -> int:
        """Return how many sockets the process has open."""
        count = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                count += os.readlink(entry).startswith("socket:")
        return count


def besiege(fortress: Fortress, attack: Attack, times: Times) -> Values:
    """Attack a daemon, and return how it did.

    :param fortress: the daemon.
    :param attack: the attack.
    :param times: how long everything lasts.
    """
    visitor = Visitor(fortress.port, fortress.authority)
    for number in range(times.warm_up):
        visitor.visit((KEPT, NEW)[number % 2])
    fresh = resident_bytes(fortress.pid) / 2**20
    # Allocators keep something of the first crowd that they see, and nothing of those after it.
    with _Attackers(attack) as attackers:
        time.sleep(times.arriving)
        attackers.wait(times.patience)
    time.sleep(times.settling)
    watches = {name: _Watch(fortress) for name in PHASES}
    with _Visits(fortress) as visits:
        with watches[BEFORE]:
            time.sleep(times.quiet)
        with _Attackers(attack) as attackers:
            with watches[ARRIVING]:
                time.sleep(times.arriving)
                attackers.wait(times.patience)
            with watches[DURING]:
                attackers.begin()
                time.sleep(times.siege)
            least = attackers.least()
        left = time.monotonic()
        time.sleep(times.settling)
        with watches[AFTER]:
            time.sleep(times.quiet)
    values: Values = {f"{DURING}.{kind}": number for kind, number in least.items()}
    values[f"{BEFORE}.fresh"] = fresh
    for name, watch in watches.items():
        seen = watch.values | _latencies(visits.all, *watch.span)
        values |= {f"{name}.{key}": value for key, value in seen.items()}
    return values | _compared(values) | {f"{AFTER}.recovery": _recovery(visits.all, left)}


def _latencies(visits: Sequence[Visit], begin: float, end: float) -> Values:
    values: Values = {}
    for kind in (KEPT, NEW):
        found = within(visits, kind, begin, end)
        values[f"{kind}.visits"] = len(found)
        values[f"{kind}.failures"] = found.count(math.inf)
        for share in (50, 99):
            seconds = percentile(found, share)
            values[f"{kind}.p{share}"] = None if seconds is None else 1000 * seconds
    return values


def _compared(values: Values) -> Values:
    """Return how many times as large as before some numbers are, where there are two to compare."""
    compared: Values = {}
    for key in (f"{KEPT}.p99", f"{NEW}.p99", "resident"):
        before = values[f"{BEFORE}.{key}"]
        for name in (ARRIVING, DURING, AFTER):
            now = values[f"{name}.{key}"]
            if now and before:
                compared[f"{name}.{key}.times"] = now / before
    return compared


def _recovery(visits: Sequence[Visit], left: float) -> float | None:
    """Return how many seconds after the attack a good answer came first, to a new connection."""
    answered = (
        visit.begun + visit.seconds
        for visit in visits
        if visit.kind == NEW and visit.begun + visit.seconds > left
    )
    first = min(answered, default=math.inf)
    return None if math.isinf(first) else first - left


@define(eq=False)
class _Visits:
    """A well-behaved client in a process of its own, and what it has written down at the end."""

    fortress: Fortress
    all: list[Visit] = field(factory=list, init=False)
    _stack: ExitStack = field(factory=ExitStack, init=False)

    def __enter__(self) -> _Visits:
        output = self._stack.enter_context(TemporaryFile("w+"))
        child = subprocess.Popen(
            _module("visitor", str(self.fortress.port), self.fortress.authority),
            stdout=output,
            text=True,
        )
        self._stack.callback(self._read, output)
        self._stack.callback(_end, child)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _read(self, output: IO[str]) -> None:
        output.seek(0)
        whole = (line for line in output if line.endswith("\n"))
        self.all.extend(Visit.parse(line) for line in whole)


@define(eq=False)
class _Attackers:
    """The attackers, in a process of their own, while the context lasts."""

    attack: Attack
    _child: subprocess.Popen[str] = field(init=False)
    _told: list[dict[str, int]] = field(factory=list, init=False)
    _begun: int = field(default=0, init=False)

    def __enter__(self) -> _Attackers:
        self._child = subprocess.Popen(
            _module("hostile"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdin is not None
        self._child.stdin.write(f"{self.attack.dumps()}\n")
        self._child.stdin.flush()
        Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        _end(self._child)

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._told.append(json.loads(line))

    def wait(self, patience: float) -> None:
        """Wait until nearly all are there; those who come again are missing for a moment.

        :param patience: for how many seconds; a server that answers nobody lets few of them in.
        """

        def there() -> bool:
            sizes = self.attack.sizes()
            last = self._told[-1] if self._told else {}
            return all(last.get(kind, 0) >= 0.9 * size for kind, size in sizes.items())

        with suppress(TimeoutError):
            wait_until(there, patience, "the attackers")

    def begin(self) -> None:
        """Forget how many were there until now."""
        self._begun = len(self._told)

    def least(self) -> dict[str, int]:
        """Return how many of each kind there were at least, since the beginning."""
        told = self._told[self._begun :] or [{}]
        return {kind: min(each.get(kind, 0) for each in told) for kind in self.attack.sizes()}


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def _end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


@define(eq=False)
class _Watch:
    """What is seen of a daemon from outside while the context lasts.

    :ivar span: when it began and ended.
    :ivar values: what was seen.
    """

    fortress: Fortress
    span: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    values: Values = field(factory=dict, init=False)
    _resident: list[int] = field(factory=list, init=False)
    _used: float = field(default=0.0, init=False)
    _lasting: bool = field(default=True, init=False)
    _thread: Thread = field(init=False)

    def __enter__(self) -> None:
        self.fortress.log.begin()
        self._used = cpu_seconds(self.fortress.pid)
        self.span = (time.monotonic(), 0.0)
        self._thread = Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while self._lasting:
            self._resident.append(resident_bytes(self.fortress.pid))
            time.sleep(_SAMPLE)

    def __exit__(self, *error: object) -> None:
        self._lasting = False
        self._thread.join()
        begin, end = self.span = (self.span[0], time.monotonic())
        cycles = self.fortress.log.cycles()
        self.values = {
            "resident": self._resident[-1] / 2**20,
            "resident_most": max(self._resident) / 2**20,
            "sockets": self.fortress.sockets(),
            "cpu": 100 * (cpu_seconds(self.fortress.pid) - self._used) / (end - begin),
            "cycle_mean": 1000 * cycles.mean,
            "cycle_worst": 1000 * cycles.worst,
            "alarms": cycles.alarms,
        }
