"""The cluster's dynamic configuration, and reloading the node's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.access import Access
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, error_page, json_answer, text_answer
from twisted_patroni.web.cluster import known_cluster
from twisted_patroni.web.routing import Body, endpoint

if TYPE_CHECKING:
    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.web.resource import Call


@define(eq=False)
class Configuration:
    """Shows and changes configuration.

    :param engine: the engine.
    """

    engine: Engine

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
        body=Body(),
    )
    async def patch(self, call: Call) -> Answer:
        """Answer with the result; 409 if someone else wrote meanwhile, 503 without any."""
        config = await self.engine.patch_config(call.json())
        return error_page(503) if config is None else json_answer(config)

    @endpoint(
        "PUT",
        "/config/:rest*",
        summary="Replace the dynamic configuration.",
        access=Access.CHECKED,
        right=Right.CONFIGURE,
        body=Body(),
    )
    async def replace(self, call: Call) -> Answer:
        """Answer with what was sent, 502 if it could not be written."""
        config = call.json()
        written = await self.engine.replace_config(config)
        return json_answer(config) if written else error_page(502)

    @endpoint(
        "POST",
        "/reload/:rest*",
        summary="Reload the configuration of this node, as SIGHUP does.",
        access=Access.CHECKED,
        right=Right.CONFIGURE,
    )
    async def reload(self, call: Call) -> Answer:
        """Leave a note for the HA loop, which reloads between two cycles."""
        self.engine.reload()
        return text_answer(202, "reload scheduled")
