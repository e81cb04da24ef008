"""What a node can be asked to do, besides doing it and waiting: beginning it, and foreseeing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define

from twisted_patroni.client.errors import BrokenAnswer, NotSupported, refused
from twisted_patroni.client.outcomes import Forecast
from twisted_patroni.client.shapes import mapping
from twisted_patroni.client.values import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from twisted_patroni.client.errors import ClientError
    from twisted_patroni.client.health import Health
    from twisted_patroni.client.response import Response

#: A refusal that can be explained is explained.
EXPLAINED = {"Accept": "application/json"}


def change(leader: str | None, candidate: str | None, at: datetime | None = None) -> dict[str, str]:
    """Return the body of a request to change the leader.

    :param leader: who leads now.
    :param candidate: who is to lead.
    :param at: when.
    """
    time = None if at is None else at.isoformat()
    given = {"leader": leader, "candidate": candidate, "scheduled_at": time}
    return {key: value for key, value in given.items() if value is not None}


def restart(at: datetime | None, conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request for a restart.

    :param at: when.
    :param conditions: what must be so.
    """
    return {**conditions} if at is None else {**conditions, "schedule": at.isoformat()}


def reinitialize(force: bool, from_leader: bool) -> dict[str, bool]:
    """Return the body of a request to rebuild a replica.

    :param force: also while something else goes on.
    :param from_leader: from the leader and nobody else.
    """
    return {"force": force, "from_leader": from_leader}


def is_unknown(response: Response) -> bool:
    """Tell whether an answer is that of a daemon that does not know the path.

    :param response: the answer; not to a path that upstream's daemon knows.
    """
    if response.status == 501:
        return True
    if response.status not in (200, 503):
        return False
    # Upstream takes an unknown path for a health check that fails.
    return "patroni" in _object(response)


@define(eq=False)
class Begin:
    """Has a node begin something, and does not wait for the end.

    Each method returns the operation, which :meth:`Node.wait` waits for and
    :meth:`Node.cancel_operation` calls off. What the node refuses at once is an error, as usual.

    With the parameter ``key`` a request may be repeated, as after an :class:`OutcomeUnknown`: the
    node does it once. That does not hold for upstream's own daemon, which also knows no
    operations: there each method waits until all is done, and returns an operation without an id.

    :param node: the node.
    """

    node: Health

    async def switchover(
        self,
        leader: str,
        candidate: str | None = None,
        *,
        at: datetime | None = None,
        key: str | None = None,
        timeout: float | None = None,
    ) -> Operation:
        """Begin to hand the leader's role to another member, now or at a time.

        :param leader: who leads now; nothing is done if that is not so.
        :param candidate: who is to lead; ``None`` for the best.
        :param at: when, aware of its zone; ``None`` for now.
        :param key: 1 to 255 visible ASCII characters: the same ones for the same request.
        :param timeout: seconds until the node must have answered.

        >>> operation = await node.begin.switchover("a", "b", key="maintenance-4711")
        >>> (await node.wait(operation)).text
        'Successfully switched over to "b"'
        """
        body = change(leader, candidate, at)
        return await self._begin("POST", "/switchover", "switchover", body, key, timeout)

    async def failover(
        self, candidate: str, *, key: str | None = None, timeout: float | None = None
    ) -> Operation:
        """Begin to make a member the leader, also when there is none.

        :param candidate: who is to lead.
        :param key: as for a switchover.
        :param timeout: seconds until the node must have answered.

        >>> operation = await node.begin.failover("b")
        >>> (await node.wait(operation)).succeeded
        True
        """
        body = change(None, candidate)
        return await self._begin("POST", "/failover", "failover", body, key, timeout)

    async def restart(
        self,
        *,
        at: datetime | None = None,
        key: str | None = None,
        timeout: float | None = None,
        **conditions: Any,
    ) -> Operation:
        """Begin to restart PostgreSQL, now or at a time.

        :param at: when, aware of its zone; ``None`` for now.
        :param key: as for a switchover.
        :param timeout: seconds until the node must have answered.
        :param conditions: what must be so: ``role``, ``postgres_version``, ``restart_pending``.

        >>> operation = await node.begin.restart(role="primary")
        >>> (await node.wait(operation)).kind
        'restart'
        """
        return await self._begin(
            "POST", "/restart", "restart", restart(at, conditions), key, timeout
        )

    async def reinitialize(
        self,
        *,
        force: bool = False,
        from_leader: bool = False,
        key: str | None = None,
        timeout: float | None = None,
    ) -> Operation:
        """Begin to rebuild this replica; the operation ends when PostgreSQL runs again.

        :param force: also while something else goes on.
        :param from_leader: from the leader and nobody else.
        :param key: as for a switchover.
        :param timeout: seconds until the node must have answered.

        >>> operation = await memory.node("b").begin.reinitialize()
        >>> operation.kind
        'reinitialize'
        """
        body = reinitialize(force, from_leader)
        return await self._begin("POST", "/reinitialize", "reinitialize", body, key, timeout)

    async def reload(self, *, key: str | None = None, timeout: float | None = None) -> Operation:
        """Begin to read the configuration file again; the operation ends when that is done.

        :param key: as for a switchover.
        :param timeout: seconds until the node must have answered.

        >>> (await node.begin.reload()).kind
        'reload'
        """
        return await self._begin("POST", "/reload", "reload", None, key, timeout)

    async def patch_config(
        self, patch: Mapping[str, Any], *, key: str | None = None, timeout: float | None = None
    ) -> Operation:
        """Begin to merge a patch into the dynamic configuration.

        The operation ends when each member works by it.

        :param patch: the keys to set; those that are ``None`` are removed.
        :param key: as for a switchover.
        :param timeout: seconds until the node must have answered.

        >>> operation = await node.begin.patch_config({"ttl": 25})
        >>> operation.kind
        'config'
        """
        return await self._begin("PATCH", "/config", "config", {**patch}, key, timeout)

    async def replace_config(
        self, config: Mapping[str, Any], *, key: str | None = None, timeout: float | None = None
    ) -> Operation:
        """Begin to replace the dynamic configuration; ends when each member works by it.

        :param config: all of it.
        :param key: as for a switchover.
        :param timeout: seconds until the node must have answered.

        >>> operation = await node.begin.replace_config({"ttl": 25})
        >>> operation.kind
        'config'
        """
        return await self._begin("PUT", "/config", "config", {**config}, key, timeout)

    async def _begin(
        self,
        method: str,
        path: str,
        kind: str,
        body: object,
        key: str | None,
        timeout: float | None,
    ) -> Operation:
        headers = {**EXPLAINED, "Prefer": "respond-async"}
        if key is not None:
            headers["Idempotency-Key"] = key
        ask = self.node.request
        response = await ask(method, path, json=body, headers=headers, timeout=timeout)
        if not response.ok:
            raise refused(response)
        document = _object(response)
        if response.status == 202 and "id" in document:
            return Operation.of(document)
        state = "unknown" if response.status == 202 else "succeeded"
        text = "" if path == "/config" else response.sentence
        return Operation("", kind, state, status=response.status, text=text)


@define(eq=False)
class Foresee:
    """Tells what would come of a request, and does nothing.

    A request that is not valid is an error, as usual. Upstream's own daemon cannot tell, and would
    do what it is asked for: so the node is asked for something harmless first, and
    :class:`NotSupported` is raised if it does not know that.

    :param node: the node.
    """

    node: Health

    async def switchover(
        self, leader: str, candidate: str | None = None, *, at: datetime | None = None
    ) -> Forecast:
        """Tell what would come of a switchover.

        :param leader: who leads now.
        :param candidate: who is to lead; ``None`` for the best.
        :param at: when, aware of its zone; ``None`` for now.

        >>> forecast = await node.foresee.switchover("a", "b")
        >>> forecast.possible, [each.name for each in forecast.candidates if each.eligible]
        (True, ['b', 'c'])
        """
        return await self._foresee("/switchover", change(leader, candidate, at))

    async def failover(self, candidate: str) -> Forecast:
        """Tell what would come of a failover.

        :param candidate: who is to lead.

        >>> (await node.foresee.failover("b")).possible
        True
        """
        return await self._foresee("/failover", change(None, candidate))

    async def restart(self, *, at: datetime | None = None, **conditions: Any) -> Forecast:
        """Tell what would come of a restart.

        :param at: when, aware of its zone; ``None`` for now.
        :param conditions: what must be so: ``role``, ``postgres_version``, ``restart_pending``.

        >>> (await node.foresee.restart(role="replica")).reason
        'restart conditions are not satisfied'
        """
        return await self._foresee("/restart", restart(at, conditions))

    async def reinitialize(self, *, force: bool = False, from_leader: bool = False) -> Forecast:
        """Tell what would come of a reinitialisation.

        :param force: also while something else goes on.
        :param from_leader: from the leader and nobody else.

        >>> (await node.foresee.reinitialize()).reason
        'I am the leader, can not reinitialize'
        """
        return await self._foresee("/reinitialize", reinitialize(force, from_leader))

    async def _foresee(self, path: str, body: object) -> Forecast:
        known = await self.node.request("GET", "/operations/none")
        if known.status != 404 or "error" not in _object(known):
            raise _unfit(known)
        ask = self.node.request
        response = await ask("POST", f"{path}?dry_run=true", json=body, headers=EXPLAINED)
        if not response.ok:
            raise refused(response)
        found = _object(response)
        if "possible" not in found:
            raise BrokenAnswer(response.url, "answers with what is no forecast", response)
        return Forecast.of(found)


def _unfit(response: Response) -> ClientError:
    if is_unknown(response):
        return NotSupported(response.url)
    if response.ok:
        return BrokenAnswer(response.url, "answers with what is of no node", response)
    return refused(response)


def _object(response: Response) -> dict[str, Any]:
    """Return the object that an answer is, an empty one if it is none."""
    try:
        return mapping(response.json())
    except BrokenAnswer:
        return {}
