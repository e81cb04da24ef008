"""What is measured of one daemon whose events many follow, as named numbers."""

from __future__ import annotations

import base64
import json
import math
import subprocess
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from statistics import median
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from benchmarks.clients import HOST, NO_ANSWER_AFTER
from benchmarks.observe import Target, Visits, Watch, command, dismiss, latencies
from benchmarks.visitor import KEPT, NEW, Visitor
from twisted_patroni.demo import CannotStart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.measure import Values

BEFORE, IDLE, EVENTS, STORM, AFTER = PHASES = ("before", "idle", "events", "storm", "after")
_LOOK = 0.1


@frozen
class Times:
    """How much is measured, in seconds where nothing else is said.

    :param quiet: how long the phases last in which nothing happens.
    :param events: how many events there are.
    :param pause: between two of them.
    :param storms: how many times all subscribers are cut and come again.
    :param storm_pause: between two events while they do.
    :param settling: between their leaving and the phase after it.
    :param patience: how long the last subscriber may take, whatever it is that is waited for.
    :param warm_up: how many requests come before everything, kept alive and new in turn.
    """

    quiet: float = 20.0
    events: int = 50
    pause: float = 0.2
    storms: int = 3
    storm_pause: float = 0.05
    settling: float = 10.0
    patience: float = 60.0
    warm_up: int = 4000


@define(eq=False)
class Followers:
    """The subscribers, in a process of their own, while the context lasts.

    :param port: the server's port.
    :param way: how they follow.
    :param size: how many they are.
    """

    port: int
    way: str
    size: int
    _child: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Followers:
        self._child = subprocess.Popen(
            command("followers", str(self.port), self.way, str(self.size)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        dismiss(self._child)

    def do(self, word: str) -> None:
        """Have them do something.

        :param word: a word that ``benchmarks/followers.py`` knows.
        """
        assert self._child.stdin is not None
        self._child.stdin.write(f"{word}\n")
        self._child.stdin.flush()

    def tell(self, word: str = "tell") -> dict[str, Any]:
        """Have them tell something.

        :param word: a word that ``benchmarks/followers.py`` knows.
        """
        assert self._child.stdout is not None
        self.do(word)
        told: dict[str, Any] = json.loads(self._child.stdout.readline())
        return told

    def wait(self, condition: Callable[[dict[str, Any]], bool], patience: float) -> dict[str, Any]:
        """Wait until something is true of what they tell, or as long as patience lasts.

        :param condition: what.
        :param patience: for how many seconds.
        :return: what they told last.
        """
        deadline = time.monotonic() + patience
        while not condition(told := self.tell()) and time.monotonic() < deadline:
            time.sleep(_LOOK)
        return told


@define(eq=False)
class Drainer:
    """Makes events: gives another reason for a drain each time.

    :param port: the server's port.
    :param login: user and password.
    :ivar count: how many events there have been.
    """

    port: int
    login: tuple[str, str]
    count: int = field(default=0, init=False)
    _connection: HTTPConnection = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = HTTPConnection(HOST, self.port, timeout=NO_ANSWER_AFTER)

    def publish(self) -> None:
        """Make one event.

        :raise CannotStart: if the server makes none.
        """
        self.count += 1
        credentials = base64.b64encode(":".join(self.login).encode()).decode()
        body = json.dumps({"reason": f"reason {self.count}"})
        with suppress(OSError, HTTPException):
            headers = {"Authorization": f"Basic {credentials}"}
            self._connection.request("POST", "/drain", body, headers)
            answer = self._connection.getresponse()
            answer.read()
            if answer.status == 200:
                return
        raise CannotStart("POST /drain makes no event")


def entertain(target: Target, login: tuple[str, str], way: str, size: int, times: Times) -> Values:
    """Have a node followed, and return how it did.

    :param target: its daemon.
    :param login: user and password of its API.
    :param way: how they follow.
    :param size: how many follow.
    :param times: how much is measured.
    """
    visitor = Visitor(target.port, target.authority)
    for number in range(times.warm_up):
        visitor.visit((KEPT, NEW)[number % 2])
    watches = {name: Watch(target) for name in PHASES}
    drainer = Drainer(target.port, login)
    with Visits(target) as visits:
        with watches[BEFORE]:
            time.sleep(times.quiet)
        with Followers(target.port, way, size) as followers:
            values = _followed(followers, drainer, watches, times)
        time.sleep(times.settling)
        with watches[AFTER]:
            time.sleep(times.quiet)
    for name, watch in watches.items():
        seen = watch.values | latencies(visits.all, *watch.span)
        values |= {f"{name}.{key}": value for key, value in seen.items()}
    return values | _costs(values, watches, size)


def _followed(
    followers: Followers, drainer: Drainer, watches: dict[str, Watch], times: Times
) -> Values:
    told = followers.wait(lambda told: told["present"] == followers.size, times.patience)
    if told["present"] < followers.size:
        raise CannotStart(f"only {told['present']} of {followers.size} can follow: {told['ended']}")
    with watches[IDLE]:
        time.sleep(times.quiet)
    with watches[EVENTS]:
        for _ in range(times.events):
            drainer.publish()
            time.sleep(times.pause)
    followers.wait(lambda told: told["behind"] == 0, times.patience)
    events = followers.tell("events")["events"]
    before = drainer.count
    with watches[STORM]:
        back = [_storm(followers, drainer, times) for _ in range(times.storms)]
    meanwhile = drainer.count - before
    last = followers.wait(lambda told: told["behind"] == 0, times.patience)
    # Nobody can tell that he misses what nobody has been sent.
    unheard = max(0, drainer.count - len(followers.tell("events")["events"]))
    return {
        **delays_of(events, followers.size),
        "storm.back": median(back),
        "storm.back_worst": max(back),
        "storm.events": meanwhile,
        # Whoever is still behind will not get it any more.
        "lost": last["lost"] + last["behind"] + unheard * followers.size,
        "twice": last["twice"],
        "gaps": last["gaps"],
        "ended": sum(last["ended"].values()),
    }


def _storm(followers: Followers, drainer: Drainer, times: Times) -> float:
    """Cut all, go on with events until all are back, and return how many seconds that took."""
    deadline = time.monotonic() + times.patience
    followers.do("cut")
    while time.monotonic() < deadline:
        drainer.publish()
        told = followers.tell()
        if told["back"] == followers.size:
            return float(told["last_back"])
        time.sleep(times.storm_pause)
    return math.inf


def delays_of(events: Sequence[tuple[int, float, float]], size: int) -> Values:
    """Return how long events took, in ms; one that somebody never had took infinitely long.

    :param events: of each, how many have had it, and the seconds to the median and the last one.
    :param size: how many should have had it.
    """
    middle = [1000 * delay for count, delay, _ in events if count > size / 2]
    last = [1000 * delay if count == size else math.inf for count, _, delay in events]
    return {
        "event.count": len(events),
        "event.median": median(middle) if middle else None,
        "event.median_worst": max(middle, default=None),
        "event.last": median(last) if last else None,
        "event.last_worst": max(last, default=None),
    }


def _costs(values: Values, watches: dict[str, Watch], size: int) -> Values:
    """Return what a subscriber costs, and an event for each of them."""
    known = {key: value for key, value in values.items() if value is not None}
    begin, end = watches[EVENTS].span
    cpu = (known[f"{EVENTS}.cpu"] - known[f"{IDLE}.cpu"]) / 100 * (end - begin)
    return {
        "mib": 1000 * (known[f"{IDLE}.resident"] - known[f"{BEFORE}.resident"]) / size,
        "event.cpu": 1e6 * cpu / (known["event.count"] * size) if known["event.count"] else None,
    }
