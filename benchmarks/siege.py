"""What is measured of one daemon before, during and after an attack, as named numbers."""

from __future__ import annotations

import json
import math
import subprocess
import time
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from benchmarks.clients import wait_until
from benchmarks.observe import Target, Visits, Watch, command, dismiss, latencies
from benchmarks.visitor import KEPT, NEW, Visit, Visitor
from benchmarks.watch import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.hostile import Attack
    from benchmarks.measure import Values

BEFORE, ARRIVING, DURING, AFTER = PHASES = ("before", "arriving", "during", "after")


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


def besiege(target: Target, attack: Attack, times: Times) -> Values:
    """Attack a daemon, and return how it did.

    :param target: the daemon, which speaks TLS.
    :param attack: the attack.
    :param times: how long everything lasts.
    """
    visitor = Visitor(target.port, target.authority)
    for number in range(times.warm_up):
        visitor.visit((KEPT, NEW)[number % 2])
    fresh = resident_bytes(target.pid) / 2**20
    # Allocators keep something of the first crowd that they see, and nothing of those after it.
    with _Attackers(attack) as attackers:
        time.sleep(times.arriving)
        attackers.wait(times.patience)
    time.sleep(times.settling)
    watches = {name: Watch(target) for name in PHASES}
    with Visits(target) as visits:
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
        seen = watch.values | latencies(visits.all, *watch.span)
        values |= {f"{name}.{key}": value for key, value in seen.items()}
    return values | _compared(values) | {f"{AFTER}.recovery": _recovery(visits.all, left)}


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
class _Attackers:
    """The attackers, in a process of their own, while the context lasts."""

    attack: Attack
    _child: subprocess.Popen[str] = field(init=False)
    _told: list[dict[str, int]] = field(factory=list, init=False)
    _begun: int = field(default=0, init=False)

    def __enter__(self) -> _Attackers:
        self._child = subprocess.Popen(
            command("hostile"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._child.stdin is not None
        self._child.stdin.write(f"{self.attack.dumps()}\n")
        self._child.stdin.flush()
        Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        dismiss(self._child)

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
