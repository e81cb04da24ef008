"""One member's REST API: each endpoint as a method, on connections that are kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import define

from twisted_patroni.client.orders import EXPLAINED, Begin, Foresee, change, reinitialize, restart
from twisted_patroni.client.outcomes import Outcome
from twisted_patroni.client.pool import Pool
from twisted_patroni.client.reading import Reader
from twisted_patroni.client.response import object_of
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.values import Drain, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from twisted.internet.defer import Deferred

#: Seconds within which a node has answered a request that changes the leader or restarts.
PATIENCE = 60.0


@define(eq=False)
class Node(Reader):
    """One member of a cluster.

    :param pool: the connections to it.

    >>> async with Node.at(reactor, "http://10.0.0.11:8008/patroni") as node:
    ...     print(node.url)
    http://10.0.0.11:8008
    """

    @classmethod
    def at(cls, reactor: Any, url: str, settings: ClientSettings | None = None) -> Node:
        """Return the node at a URL; nothing is asked yet.

        :param reactor: the reactor.
        :param url: where its API is; a path ``/patroni``, as members publish it, is left out.
        :param settings: how to speak to it.

        >>> Node.at(reactor, "http://10.0.0.11:8008", ClientSettings(timeout=3.0)).url
        'http://10.0.0.11:8008'
        """
        return cls(Pool(reactor, url, settings or ClientSettings()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    def close(self) -> Deferred[None]:
        """Give up what is on its way, and close all connections.

        :return: fires when they are closed.

        >>> await node.close()
        """
        return self.pool.close()

    # The configuration

    async def patch_config(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a patch into the dynamic configuration, and return what comes of it.

        :param patch: the keys to set; those that are ``None`` are removed.

        >>> (await node.patch_config({"ttl": 20}))["ttl"]
        20
        """
        return object_of(await self._done("PATCH", "/config", json=dict(patch)))

    async def replace_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the dynamic configuration, and return it.

        :param config: all of it.

        >>> await node.replace_config({"ttl": 20})
        {'ttl': 20}
        """
        return object_of(await self._done("PUT", "/config", json=dict(config)))

    async def reload(self) -> Outcome:
        """Have the node read its configuration file again.

        >>> (await node.reload()).text
        'reload scheduled'
        """
        return await self._act("POST", "/reload")

    # What it can be asked to do

    async def _act(self, method: str, path: str, body: object = None, **more: Any) -> Outcome:
        response = await self._done(method, path, json=body, headers=EXPLAINED, **more)
        return Outcome(response.status, response.sentence)

    @property
    def begin(self) -> Begin:
        """The same without waiting for the end: what is begun is an operation.

        >>> (await node.begin.restart()).kind
        'restart'
        """
        return Begin(self)

    @property
    def foresee(self) -> Foresee:
        """What would come of the same, without doing it.

        >>> (await node.foresee.restart()).possible
        True
        """
        return Foresee(self)

    async def switchover(
        self,
        leader: str,
        candidate: str | None = None,
        *,
        at: datetime | None = None,
        timeout: float = PATIENCE,
    ) -> Outcome:
        """Hand the leader's role to another member, now or at a time.

        :param leader: who leads now; nothing is done if that is not so.
        :param candidate: who is to lead; ``None`` for the best.
        :param at: when, aware of its zone; ``None`` for now.
        :param timeout: seconds to wait for the end.

        >>> (await node.switchover("a", "b")).text
        'Successfully switched over to "b"'
        """
        return await self._act(
            "POST", "/switchover", change(leader, candidate, at), timeout=timeout
        )

    async def failover(self, candidate: str, *, timeout: float = PATIENCE) -> Outcome:
        """Make a member the leader, also when there is none.

        :param candidate: who is to lead.
        :param timeout: seconds to wait for the end.

        >>> (await node.failover("b")).text
        'Successfully failed over to "b"'
        """
        return await self._act("POST", "/failover", change(None, candidate), timeout=timeout)

    async def cancel_switchover(self) -> Outcome:
        """Forget the scheduled switchover.

        >>> from datetime import datetime, timezone
        >>> _ = await node.switchover("a", at=datetime(2100, 1, 1, tzinfo=timezone.utc))
        >>> (await node.cancel_switchover()).text
        'scheduled switchover deleted'
        """
        return await self._act("DELETE", "/switchover")

    async def restart(
        self, *, at: datetime | None = None, timeout: float = PATIENCE, **conditions: Any
    ) -> Outcome:
        """Restart PostgreSQL, now or at a time.

        :param at: when, aware of its zone; ``None`` for now.
        :param timeout: seconds to wait for the end.
        :param conditions: what must be so: ``role``, ``postgres_version``, ``restart_pending``.

        >>> (await node.restart(role="primary")).text
        'restarted successfully'
        """
        return await self._act("POST", "/restart", restart(at, conditions), timeout=timeout)

    async def cancel_restart(self) -> Outcome:
        """Forget the scheduled restart.

        >>> from datetime import datetime, timezone
        >>> _ = await node.restart(at=datetime(2100, 1, 1, tzinfo=timezone.utc))
        >>> (await node.cancel_restart()).text
        'scheduled restart deleted'
        """
        return await self._act("DELETE", "/restart")

    async def reinitialize(self, *, force: bool = False, from_leader: bool = False) -> Outcome:
        """Rebuild this replica from another member; the answer comes when that has begun.

        :param force: also while something else goes on.
        :param from_leader: from the leader and nobody else.

        >>> (await memory.node("b").reinitialize()).text
        'reinitialize started'
        """
        return await self._act("POST", "/reinitialize", reinitialize(force, from_leader))

    # What upstream's own daemon does not know

    async def drain(
        self,
        reason: str | None = None,
        *,
        owner: str | None = None,
        expires: datetime | timedelta | str | float | None = None,
        primary: bool = False,
    ) -> Drain:
        """Have load balancers leave the node; a drain that there is already is replaced.

        :param reason: what for.
        :param owner: by whom; by default who asks.
        :param expires: when it ends by itself: a time that is aware of its zone, seconds from now,
            or a duration as ``30min``; ``None`` for never.
        :param primary: tell checks that look for a primary, too.

        >>> node = memory.node("b")
        >>> drain = await node.drain("new kernel", expires="30min")
        >>> drain.reason, await node.is_replica()
        ('new kernel', False)
        """
        if isinstance(expires, datetime):
            expires = expires.isoformat()
        elif isinstance(expires, timedelta):
            expires = expires.total_seconds()
        given = {"reason": reason, "owner": owner, "expires": expires, "primary": primary}
        body = {key: value for key, value in given.items() if value is not None}
        return Drain.of(object_of(await self._ours("POST", "/drain", json=body)))

    async def undrain(self) -> Drain | None:
        """Let load balancers come back, and return the drain that has ended, if there was one.

        >>> _ = await node.drain("new kernel")
        >>> (await node.undrain()).reason
        'new kernel'
        """
        return await self._drain("DELETE")

    async def cancel_operation(self, operation: Operation | str) -> Operation:
        """Call an operation off, and return it.

        :param operation: the operation, or its id.
        :raise Conflict: if it is too late for that.

        >>> from datetime import datetime, timezone
        >>> at = datetime(2100, 1, 1, tzinfo=timezone.utc)
        >>> operation = await node.begin.switchover("a", "b", at=at)
        >>> (await node.cancel_operation(operation)).state
        'cancelled'
        """
        name = operation if isinstance(operation, str) else operation.id
        response = await self._ours("DELETE", f"/operations/{quote(name, safe='')}")
        return Operation.of(object_of(response))
