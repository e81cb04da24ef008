"""What one member tells: of itself, of its cluster, and of what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import define

from twisted_patroni.client.errors import BrokenAnswer, NotFound, NotSupported, TimedOut, refused
from twisted_patroni.client.eventstream import EventStream
from twisted_patroni.client.health import Health
from twisted_patroni.client.orders import is_unknown
from twisted_patroni.client.response import object_of
from twisted_patroni.client.shapes import documents
from twisted_patroni.client.stream import events_request, is_position
from twisted_patroni.client.values import Cluster, Drain, HistoryEntry, NodeStatus, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twisted_patroni.client.response import Response

#: Seconds within which most operations have ended.
PATIENCE = 300.0
#: Seconds for which a node lets one request wait for the end of an operation.
_LONGEST_WAIT = 60.0


@define(eq=False)
class Reader(Health):
    """One member, as somebody sees it who only reads.

    :param pool: the connections to it.
    """

    async def _done(self, method: str, path: str, **more: Any) -> Response:
        response = await self.request(method, path, **more)
        if not response.ok:
            raise refused(response)
        return response

    async def _document(self, path: str) -> dict[str, Any]:
        return object_of(await self._done("GET", path))

    async def status(self) -> NodeStatus:
        """Return what the node says of itself.

        >>> status = await node.status()
        >>> status.name, status.role, status.state
        ('a', 'primary', 'running')
        """
        return NodeStatus.of(await self._document("/patroni"))

    async def cluster(self) -> Cluster:
        """Return the members, as the DCS has them now.

        >>> cluster = await node.cluster()
        >>> cluster.leader.name, len(cluster.members)
        ('a', 3)
        """
        return Cluster.of(await self._document("/cluster"))

    async def history(self) -> list[HistoryEntry]:
        """Return the past changes of the leader, oldest first.

        >>> _ = await node.switchover("a", "b")
        >>> (await node.history())[-1].leader
        'b'
        """
        response = await self._done("GET", "/history")
        lines = response.json()
        if not isinstance(lines, list):
            raise BrokenAnswer(response.url, "answers with JSON that is no list", response)
        return [HistoryEntry.of(line) for line in lines if isinstance(line, list)]

    async def metrics(self) -> str:
        """Return the metrics in Prometheus' text format.

        >>> "patroni_primary" in await node.metrics()
        True
        """
        return (await self._done("GET", "/metrics")).text

    async def failsafe(self) -> Mapping[str, str] | None:
        """Return the API URLs of the members that failsafe mode asks; ``None`` if it is off.

        >>> memory.answer("a", "/failsafe", 200, {"a": "http://10.0.0.11:8008/patroni"})
        >>> await node.failsafe()
        {'a': 'http://10.0.0.11:8008/patroni'}
        """
        response = await self.request("GET", "/failsafe")
        if response.status == 502 and b"Error code: 502" in response.body:  # no proxy's page
            return None
        if not response.ok:
            raise refused(response)
        return {name: str(url) for name, url in object_of(response).items()}

    def follow(self, types: Iterable[str] = (), after: str | None = None) -> EventStream:
        """Follow what happens, event by event, until the node tells no more.

        The end is a :class:`Disconnected`. Leaving the loop ends the request.

        :param types: the types of events to be told; none for all. Snapshots and gaps come anyway.
        :param after: the position of the last event that was taken, to go on after it; ``None``
            to begin with a snapshot.

        >>> async for event in node.follow(types=["leader"]):
        ...     if event.type == "snapshot":
        ...         memory.switchover("b")
        ...     else:
        ...         print(event.new)
        ...         break
        b
        """
        if after is not None and not is_position(after):
            raise ValueError(f"after: {after!r} is not an event's position")
        path, headers = events_request([types] if isinstance(types, str) else types, after)
        return EventStream(self.pool, path, headers)

    async def config(self) -> dict[str, Any]:
        """Return the dynamic configuration of the cluster.

        >>> (await node.config())["ttl"]
        30
        """
        return await self._document("/config")

    # What upstream's own daemon does not know

    async def _ours(self, method: str, path: str, **more: Any) -> Response:
        """Return the answer to what only this project's daemon knows."""
        response = await self.request(method, path, **more)
        if is_unknown(response):
            raise NotSupported(response.url)
        if not response.ok:
            raise refused(response)
        return response

    async def drained(self) -> Drain | None:
        """Return the node's drain, ``None`` if load balancers may come.

        >>> await node.drained() is None
        True
        """
        return await self._drain("GET")

    async def _drain(self, method: str) -> Drain | None:
        try:
            return Drain.of(object_of(await self._ours(method, "/drain")))
        except NotFound as error:
            error.response.json()  # a page of somebody else's is no answer
            return None

    async def operations(self) -> list[Operation]:
        """Return the last operations, newest first.

        >>> _ = await node.restart()
        >>> [operation.kind for operation in await node.operations()]
        ['restart']
        """
        found = object_of(await self._ours("GET", "/operations"))
        return [Operation.of(each) for each in documents(found.get("operations"))]

    async def operation(self, id: str, wait: float = 0.0) -> Operation:  # noqa: A002
        """Return an operation.

        :param id: its id.
        :param wait: seconds to wait for its end, 60 at most.

        >>> begun = await node.begin.restart()
        >>> (await node.operation(begun.id, wait=10)).state
        'succeeded'
        """
        path = f"/operations/{quote(id, safe='')}?wait={wait:g}"
        response = await self._ours("GET", path, timeout=wait + self.pool.settings.timeout)
        return Operation.of(object_of(response))

    async def wait(self, operation: Operation | str, timeout: float = PATIENCE) -> Operation:
        """Return an operation as soon as it has ended, however it has.

        :param operation: the operation, or its id.
        :param timeout: seconds until it must have ended.
        :raise TimedOut: if it has not.

        >>> operation = await node.wait(await node.begin.switchover("a", "b"), timeout=60)
        >>> operation.state, operation.text
        ('succeeded', 'Successfully switched over to "b"')
        """
        known = operation if isinstance(operation, Operation) else None
        if known is not None and (known.ended or not known.id):
            return known
        name = operation if isinstance(operation, str) else operation.id
        clock = self.pool.reactor
        end = clock.seconds() + timeout
        while (left := end - clock.seconds()) > 0:
            known = await self.operation(name, wait=min(left, _LONGEST_WAIT))
            if known.ended:
                return known
        raise TimedOut(f"{self.url}/operations/{name}", f"has not ended within {timeout:g} seconds")
