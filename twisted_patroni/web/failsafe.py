"""Failsafe mode: a leader without its DCS asks every member to agree that it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define

from twisted_patroni.access import Access
from twisted_patroni.settings import Right
from twisted_patroni.web.answers import Answer, error_page, json_answer, text_answer
from twisted_patroni.web.resource import Refused
from twisted_patroni.web.routing import Body, endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted_patroni.engine.interface import Engine
    from twisted_patroni.web.resource import Call

_ACCEPTED = "Accepted"


@define(eq=False)
class Failsafe:
    """Answers other members in failsafe mode.

    :param engine: the engine.
    """

    engine: Engine

    @endpoint(
        "GET", "/failsafe/:rest*", summary="The members that failsafe mode asks.", right=Right.READ
    )
    async def members(self, call: Call) -> Answer:
        """Answer 502 if failsafe mode is off or its members are not known."""
        members = self.engine.node().failsafe_members
        return error_page(502) if members is None else json_answer(members)

    @endpoint(
        "POST",
        "/failsafe/:rest*",
        summary="Agree that the sender goes on as primary while the DCS is away.",
        access=Access.CHECKED_WITHOUT_MEMBERS,
        for_members=True,
        body=Body(),
    )
    async def agree(self, call: Call) -> Answer:
        """Answer ``Accepted`` with the WAL position, or 500 if this node is a primary itself."""
        if not self.engine.node().failsafe_mode:
            return error_page(502)
        answer = self.engine.update_failsafe(_leader_message(call.json()))
        if isinstance(answer, str) and answer != _ACCEPTED:
            return text_answer(500, answer)
        headers = (("lsn", str(answer)),) if isinstance(answer, int) else ()
        return text_answer(200, _ACCEPTED, headers)


def _leader_message(body: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("name", "conn_url", "api_url"):
        if not isinstance(body.get(key), str):
            raise Refused(error_page(400, explanation=f"The key {key} must be a text"))
    slots = body.get("slots")
    if slots is not None and not (
        isinstance(slots, dict) and all(isinstance(position, int) for position in slots.values())
    ):
        raise Refused(error_page(400, explanation="The key slots must map names to positions"))
    return body
