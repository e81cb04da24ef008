"""Several clusters, each of which owns some of the keys: Citus groups, tenants, regions."""

from __future__ import annotations

from functools import partial
from random import random as any_number
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, gatherResults

from twisted_patroni.client.errors import (
    BrokenAnswer,
    ClientError,
    ClusterUnknown,
    NoLeader,
    NoMember,
    OutcomeUnknown,
    Unreachable,
)
from twisted_patroni.client.gathering import gather_responses
from twisted_patroni.client.pool import SAFE, PoolClosed
from twisted_patroni.client.replicas import Replicas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from twisted_patroni.client.response import Response

K = TypeVar("K")
T = TypeVar("T")

#: Errors after which nothing has been asked.
_NOT_ASKED = (Unreachable, ClusterUnknown, NoLeader, NoMember)


class NoOwner(ClientError):
    """No cluster owns the key.

    :param key: the key.

    >>> str(NoOwner("tenant 7"))
    "no cluster owns 'tenant 7'"
    """

    def __init__(self, key: object) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"no cluster owns {self.key!r}"


@frozen
class Gathered(Generic[K]):
    """What has come of asking for many keys; each key is in one of the two.

    :param responses: the answers, of whatever status, by their keys.
    :param failures: why there is none, by the other keys.

    >>> Gathered({}, {"tenant 7": NoOwner("tenant 7")}).complete
    False
    """

    responses: Mapping[K, Response]
    failures: Mapping[K, ClientError]

    @property
    def complete(self) -> bool:
        """Whether there is an answer for each key.

        >>> Gathered({}, {}).complete
        True
        """
        return not self.failures


@define(eq=False)
class Shards(Generic[K]):
    """Keys, and the clusters that own them.

    A key may have several owners, any of which can be asked.

    :param owners: returns the owners of a key, the same ones again for as long as they are to be
        used: they are remembered, to be closed. It may raise ``LookupError``.
    :param random: a number from 0 to 1, a new one for each call.

    >>> groups = {0: memory.replicas(), 1: memory.replicas()}
    >>> async with Shards(lambda tenant: [groups[hash(tenant) % 2]]) as shards:
    ...     print((await shards.request("tenant 7", "GET", "/health")).status)
    200
    """

    owners: Callable[[K], Sequence[Replicas]]
    random: Callable[[], float] = any_number
    _used: dict[Replicas, None] = field(factory=dict, init=False)
    _closed: bool = field(default=False, init=False)

    @classmethod
    def of(
        cls,
        mapping: Mapping[K, Replicas | Sequence[Replicas]],
        random: Callable[[], float] = any_number,
    ) -> Shards[K]:
        """Return the shards of keys that are all known.

        :param mapping: the owner of each key, or its owners.
        :param random: a number from 0 to 1, a new one for each call.

        >>> shards = Shards.of({0: memory.replicas(), 1: [memory.replicas(), memory.replicas()]})
        >>> (await shards.gather([0, 1, 2], "GET", "/health")).failures
        {2: NoOwner(2)}
        """
        fixed = {
            key: (each,) if isinstance(each, Replicas) else tuple(each)
            for key, each in mapping.items()
        }
        shards = cls(fixed.__getitem__, random)
        shards._used.update(dict.fromkeys(one for each in fixed.values() for one in each))
        return shards

    async def __aenter__(self) -> Shards[K]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all clusters that were used, and those that were given as a mapping.

        >>> shards = Shards.of({0: replicas})
        >>> await shards.close()
        """
        self._closed = True
        used, self._used = list(self._used), {}
        closing = [Deferred.fromCoroutine(each.close()) for each in used]
        await gatherResults(closing, consumeErrors=True)

    def _owners(self, key: K) -> list[Replicas]:
        """Return the owners of a key, any of them first."""
        if self._closed:
            raise PoolClosed("the shards are closed")
        try:
            found = list(dict.fromkeys(self.owners(key)))
        except LookupError:
            found = []
        if not found:
            raise NoOwner(key)
        self._used.update(dict.fromkeys(found))
        first = min(int(self.random() * len(found)), len(found) - 1)
        return found[first:] + found[:first]

    def choice(self, key: K) -> Replicas:
        """Return one of the owners of a key, each as often as the others.

        :param key: the key.
        :raise NoOwner: if it has none.

        >>> shards = Shards.of({"tenant 7": replicas})
        >>> shards.choice("tenant 7") is replicas
        True
        """
        return self._owners(key)[0]

    async def request(
        self, key: K, method: str, path: str, *, timeout: float | None = None, **options: Any
    ) -> Response:
        """Ask one of the owners of a key, and another one if that could not be asked.

        What only reads is asked of another one also when the answer fails to come.

        :param key: the key.
        :param method: the method.
        :param path: the path and what follows it.
        :param timeout: seconds for all of it; by default those of the settings, for each owner.
        :param options: as for :meth:`Replicas.request`.
        :raise NoOwner: if the key has none.

        >>> shards = Shards.of({"tenant 7": replicas})
        >>> (await shards.request("tenant 7", "GET", "/leader", target="leader")).status
        200
        """
        safe = method.upper() in SAFE
        owners = self._owners(key)
        clock = owners[0].reactor
        deadline = None if timeout is None else clock.seconds() + timeout
        while True:
            owner = owners.pop(0)
            seconds = None if deadline is None else max(0.0, deadline - clock.seconds())
            if seconds is not None and safe:
                seconds /= len(owners) + 1  # one that is silent leaves time for the others
            try:
                return await owner.request(method, path, timeout=seconds, **options)
            except (*_NOT_ASKED, OutcomeUnknown, BrokenAnswer) as error:
                if not owners or not (safe or isinstance(error, _NOT_ASKED)):
                    raise

    async def broadcast(
        self, key: K, method: str, path: str, **options: Any
    ) -> list[tuple[Replicas, Response | ClientError]]:
        """Ask all owners of a key at once, each as one cluster.

        :param key: the key.
        :param method: the method.
        :param path: the path and what follows it.
        :param options: as for :meth:`Replicas.request`.
        :return: the owners, each with its answer, of whatever status, or why there is none.
        :raise NoOwner: if the key has none.

        >>> shards = Shards.of({"tenant 7": [replicas, memory.replicas()]})
        >>> [each.status for _, each in await shards.broadcast("tenant 7", "GET", "/health")]
        [200, 200]
        """
        owners = self._owners(key)
        requests = (partial(each.request, method, path, **options) for each in owners)
        found = await _results(requests, len(owners))
        return [(owner, found[number]) for number, owner in enumerate(owners)]

    async def gather(
        self, keys: Iterable[K], method: str, path: str, *, limit: int = 16, **options: Any
    ) -> Gathered[K]:
        """Ask one of the owners of each key, some of them at the same time.

        :param keys: the keys; each is asked for once.
        :param method: the method.
        :param path: the path and what follows it.
        :param limit: requests on their way at the same time.
        :param options: as for :meth:`request`; a timeout is for each key.

        >>> shards = Shards.of({0: replicas, 1: memory.replicas()})
        >>> found = await shards.gather([0, 1], "GET", "/cluster")
        >>> {key: len(each.json()["members"]) for key, each in found.responses.items()}
        {0: 3, 1: 3}
        """
        listed = list(dict.fromkeys(keys))
        requests = (partial(self.request, key, method, path, **options) for key in listed)
        found = await _results(requests, limit)
        pairs = [(key, found[number]) for number, key in enumerate(listed)]
        return Gathered(
            {key: each for key, each in pairs if not isinstance(each, ClientError)},
            {key: each for key, each in pairs if isinstance(each, ClientError)},
        )


async def _results(
    requests: Iterable[Callable[[], Awaitable[T]]], limit: int
) -> dict[int, T | ClientError]:
    """Return what comes of some requests, by their numbers.

    An error that is none of the client's, as of a wrong argument, ends all.
    """
    found: dict[int, T | ClientError] = {}
    async for result in gather_responses(requests, limit=limit):
        error = result.error
        found[result.index] = error if isinstance(error, ClientError) else result.get()
    return found
