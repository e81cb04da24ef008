"""Watch a cluster from threads of their own, and judge what was seen."""

from __future__ import annotations

import http.client
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from attrs import define, field, frozen

from tests.real.asking import eventually
from twisted_patroni.demo.layout import HOST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted_patroni.demo import Node

_T = TypeVar("_T")

REFUSED = "refused"
SILENT = "silent"


def now() -> float:
    """Return the time that all observations here are marked with."""
    return time.monotonic()


@frozen
class Sample(Generic[_T]):
    """Something seen.

    :param begun: when the look began.
    :param ended: when it ended.
    :param seen: what was seen.
    """

    begun: float
    ended: float
    seen: _T


class Sampler(threading.Thread, Generic[_T]):
    """Looks again and again in a thread of its own, and remembers what it saw and when.

    :param look: looks once; must return within some seconds.
    :param pause: seconds between two looks.
    """

    def __init__(self, look: Callable[[], _T], pause: float = 0.005) -> None:
        super().__init__(daemon=True)
        self.samples: list[Sample[_T]] = []
        self._look = look
        self._pause = pause
        self._over = threading.Event()

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._over.is_set():
            begun = now()
            seen = self._look()
            self.samples.append(Sample(begun, now(), seen))
            self._over.wait(self._pause)

    def stop(self) -> list[Sample[_T]]:
        """Look no more, and return all samples; blocks until the last look has ended."""
        self._over.set()
        self.join(30.0)
        return self.samples

    def first(self, wanted: Callable[[_T], bool], since: float = 0.0) -> Sample[_T] | None:
        """Return the first sample that is wanted.

        :param wanted: decides.
        :param since: looks that began earlier do not count.
        """
        for sample in self.samples:
            if sample.begun >= since and wanted(sample.seen):
                return sample
        return None


@contextmanager
def sampling(*samplers: Sampler[Any]) -> Iterator[None]:
    """Have samplers look while a block runs.

    :param samplers: the samplers.
    """
    for sampler in samplers:
        sampler.start()
    try:
        yield
    finally:
        for sampler in samplers:
            sampler.stop()


async def looked(sampler: Sampler[Any], times: int) -> None:
    """Wait until a sampler has looked some times more, however fast this machine is.

    :param sampler: the sampler.
    :param times: how often.
    """
    wanted = len(sampler.samples) + times

    async def look() -> bool:
        return len(sampler.samples) >= wanted

    await eventually(f"{times} looks more", look)


def probe(port: int, path: str, timeout: float = 8.0) -> int | str:
    """Return a node's status for a path, or :data:`REFUSED` or :data:`SILENT`; blocks.

    :param port: the node's REST port.
    :param path: the path.
    :param timeout: for the connection and for each read.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return SILENT
    except (OSError, http.client.HTTPException):
        return "cut"
    finally:
        connection.close()


def prober(node: Node, path: str) -> Sampler[int | str]:
    """Return a sampler of a node's status for a path.

    :param node: the node.
    :param path: the path.
    """
    return Sampler(lambda: probe(node.place.rest_port, path))


@define(eq=False)
class Writer:
    """Writes rows into the table ``written`` of one node, whatever the node's role.

    :param node: the node.
    """

    node: Node
    _connection: psycopg.Connection[Any] | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def write(self) -> int | None:
        """Write a row; return its number if that was accepted."""
        self._count += 1
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self.node.conninfo, connect_timeout=2, autocommit=True
                )
            self._connection.execute(
                "INSERT INTO written VALUES (%s, %s)", (self.node.name, self._count)
            )
        except psycopg.OperationalError:
            self.close()
            return None
        except psycopg.Error:  # read-only
            return None
        return self._count

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def overlap(one: Sampler[int | str], other: Sampler[int | str]) -> str | None:
    """Prove that two nodes had status 200 at the same moment, or return ``None``.

    An answer was true at some unknown moment while its look ran. So a node had the status all the
    time between two such answers only if nothing else was seen in between; and two nodes had it at
    the same time only if an answer of one lies between two successive ones of the other.

    :param one: samples of a node.
    :param other: those of another one.
    """
    for first, second in ((one, other), (other, one)):
        for earlier, later in pairwise(first.samples):
            if (earlier.seen, later.seen) != (200, 200):
                continue
            for sample in second.samples:
                if sample.seen == 200 and earlier.ended < sample.begun < sample.ended < later.begun:
                    return f"{earlier} and {later} of one, {sample} of the other"
    return None


class Watch:
    """Watches who is the primary, as load balancers and the DCS see it.

    :param key: looks who holds the leader key.
    :param nodes: two nodes.
    """

    def __init__(self, key: Callable[[], str | None], nodes: tuple[Node, Node]) -> None:
        self.nodes = nodes
        self.key = Sampler(key)
        self.primary = prober(nodes[0], "/primary"), prober(nodes[1], "/primary")
        self.sampling = sampling(self.key, *self.primary)

    def codes(self, which: int, since: float = 0.0, until: float = float("inf")) -> set[int | str]:
        """Return what a node has answered.

        :param which: the node's index.
        :param since: looks that began earlier do not count.
        :param until: nor do those that ended later.
        """
        return {
            one.seen
            for one in self.primary[which].samples
            if one.begun >= since and one.ended <= until
        }

    def faults(self) -> list[str]:
        """Return whatever showed two primaries, or one that does not hold the key."""
        found = [] if (both := overlap(*self.primary)) is None else [both]
        for node, primary, other in zip(
            self.nodes, self.primary, reversed(self.nodes), strict=True
        ):
            keys = [one for one in self.key.samples if one.seen is not None]
            for before, after in pairwise(keys):
                if before.seen == after.seen == other.name:
                    found += [
                        f"{node.name} answered {one} while {other.name} had the lock"
                        for one in primary.samples
                        if one.seen == 200 and before.ended < one.begun < one.ended < after.begun
                    ]
        return found
