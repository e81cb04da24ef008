"""The cluster's dynamic configuration, and reloading the node's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.access import Access
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, error_page, json_answer
from twisted_patroni.web.cluster import known_cluster
from twisted_patroni.web.orders import HEADERS, read_order
from twisted_patroni.web.routing import Body, endpoint

if TYPE_CHECKING:
    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.operations import Outcome
    from twisted_patroni.web.orders import Orders
    from twisted_patroni.web.resource import Call


def _shown(outcome: Outcome) -> Answer:
    config = outcome.document
    return error_page(outcome.code) if config is None else json_answer(config)


@define(eq=False)
class Configuration:
    """Shows and changes configuration.

    :param engine: the engine.
    :param orders: has the changes made, and followed.
    """

    engine: Engine
    orders: Orders

    @endpoint("GET", "/config/:rest*", summary="The dynamic configuration.", right=Right.READ)
    async def show(self, call: Call) -> Answer:
        """Show it as last seen in the DCS; 502 if it was never written."""
        config = (await known_cluster(self.engine)).config
        return error_page(502) if config is None else json_answer(config)

    @endpoint(
        "PATCH",
        "/config/:rest*",
        summary="Merge a JSON object into the dynamic configuration; null removes a key.",
        access=Access.CHECKED,
        right=Right.CONFIGURE,
        headers=HEADERS,
        body=Body(),
    )
    async def patch(self, call: Call) -> Answer:
        """Answer with the result; 409 if someone else wrote meanwhile, 503 without any."""
        order = read_order(call, "config", call.json())
        return await self.orders.place(call, order, _shown)

    @endpoint(
        "PUT",
        "/config/:rest*",
        summary="Replace the dynamic configuration.",
        access=Access.CHECKED,
        right=Right.CONFIGURE,
        headers=HEADERS,
        body=Body(),
    )
    async def replace(self, call: Call) -> Answer:
        """Answer with what was sent, 502 if it could not be written."""
        order = read_order(call, "config", call.json())
        return await self.orders.place(call, order, _shown, replace=True)

    @endpoint(
        "POST",
        "/reload/:rest*",
        summary="Reload the configuration of this node, as SIGHUP does.",
        access=Access.CHECKED,
        right=Right.CONFIGURE,
        headers=HEADERS,
    )
    async def reload(self, call: Call) -> Answer:
        """Leave a note for the HA loop, which reloads between two cycles."""
        return await self.orders.place(call, read_order(call, "reload", {}))
