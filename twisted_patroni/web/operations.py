"""Restart, reinitialise, switch over, fail over, and what MPP workers report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.access import Access
from twisted_patroni.operations import Outcome
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, error_page, json_answer, text_answer
from twisted_patroni.web.orders import ACCEPT, DRY_RUN, HEADERS, read_order, told, wants_dry_run
from twisted_patroni.web.routing import Body, endpoint

if TYPE_CHECKING:
    from typing import Any

    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.operations import Action, Desk
    from twisted_patroni.web.orders import Orders
    from twisted_patroni.web.resource import Call


def _foreseen(forecast: dict[str, Any] | Outcome) -> Answer:
    return told(forecast) if isinstance(forecast, Outcome) else json_answer(forecast)


@define(eq=False)
class OperationPages:
    """Takes requests to change something.

    :param engine: the engine.
    :param desk: carries the longer ones out.
    :param orders: answers who asks for those.
    """

    engine: Engine
    desk: Desk
    orders: Orders

    @endpoint(
        "POST",
        "/restart/:rest*",
        summary="Restart PostgreSQL, now or at a scheduled time, if conditions hold.",
        access=Access.CHECKED,
        right=Right.OPERATE,
        query=(DRY_RUN,),
        headers=HEADERS,
        body=Body(optional=True),
    )
    async def restart(self, call: Call) -> Answer:
        """Answer when PostgreSQL is up again, or at once if it is scheduled."""
        body = call.json()
        if wants_dry_run(call):
            return _foreseen(await self.desk.restarts.foresee_restart(body))
        return await self.orders.place(call, read_order(call, "restart", body))

    @endpoint(
        "DELETE",
        "/restart/:rest*",
        summary="Forget the scheduled restart.",
        access=Access.CHECKED,
        right=Right.OPERATE,
    )
    async def delete_restart(self, call: Call) -> Answer:
        """Answer 404 if there is none."""
        if await self.engine.delete_restart():
            self.desk.restart_deleted()
            return text_answer(200, "scheduled restart deleted")
        return text_answer(404, "no restarts are scheduled")

    @endpoint(
        "POST",
        "/reinitialize/:rest*",
        summary="Rebuild this replica from another member.",
        access=Access.CHECKED,
        right=Right.OPERATE,
        query=(DRY_RUN,),
        headers=HEADERS,
        body=Body(optional=True),
    )
    async def reinitialize(self, call: Call) -> Answer:
        """Answer when the work has begun."""
        body = call.json()
        if wants_dry_run(call):
            return json_answer(await self.desk.restarts.foresee_reinitialize())
        return await self.orders.place(call, read_order(call, "reinitialize", body))

    @endpoint(
        "POST",
        "/switchover/:rest*",
        summary="Hand the leader's role to another member, now or at a scheduled time.",
        access=Access.CHECKED,
        right=Right.OPERATE,
        query=(DRY_RUN,),
        headers=(*HEADERS, ACCEPT),
        body=Body(),
    )
    async def switchover(self, call: Call) -> Answer:
        """Answer when the new leader has the lock."""
        return await self._change(call, "switchover")

    @endpoint(
        "POST",
        "/failover/:rest*",
        summary="Make a member the leader, also when there is none.",
        access=Access.CHECKED,
        right=Right.OPERATE,
        query=(DRY_RUN,),
        headers=(*HEADERS, ACCEPT),
        body=Body(),
    )
    async def failover(self, call: Call) -> Answer:
        """Answer when the new leader has the lock."""
        return await self._change(call, "failover")

    async def _change(self, call: Call, action: Action) -> Answer:
        body = call.json()
        if wants_dry_run(call):
            return _foreseen(await self.desk.leadership.foresee(body, action))
        return await self.orders.place(call, read_order(call, action, body))

    @endpoint(
        "DELETE",
        "/switchover/:rest*",
        summary="Forget the scheduled switchover.",
        access=Access.CHECKED,
        right=Right.OPERATE,
    )
    async def delete_switchover(self, call: Call) -> Answer:
        """Answer 404 if there is none, 409 if it changed meanwhile."""
        failover = (await self.engine.look()).cluster.failover
        if failover is None or failover.scheduled_at is None:
            return text_answer(404, "no switchover is scheduled")
        if await self.engine.delete_failover(failover):
            self.desk.switchover_deleted(failover)
            return text_answer(200, "scheduled switchover deleted")
        return error_page(409)

    @endpoint(
        "POST",
        "/citus/:rest*",
        "/mpp/:rest*",
        summary="Take an event of an MPP worker, if this node leads the coordinator.",
        access=Access.CHECKED,
        for_members=True,
        body=Body(),
    )
    async def mpp(self, call: Call) -> Answer:
        """Answer when the event is dealt with."""
        await self.engine.handle_mpp_event(call.json())
        return text_answer(200, "OK")

    @endpoint(
        "POST",
        "/sigterm/:rest*",
        summary="Do nothing; upstream's own tests on Windows stop a node this way.",
        access=Access.CHECKED,
        right=Right.OPERATE,
    )
    async def sigterm(self, call: Call) -> Answer:
        """Answer as upstream does on every platform but Windows."""
        return text_answer(202, "shutdown scheduled")
