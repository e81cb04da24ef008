"""How far the members are behind, now and then: events only tell when it becomes much or little."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.task import deferLater

from twisted_patroni.client.eventless import snapshot_of
from twisted_patroni.client.reasons import NoAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from twisted_patroni.client.asking import Asker

#: Seconds between two looks.
PERIOD = 5.0


@define(eq=False)
class Lags:
    """Asks the node that tells events, too, how far the members are behind.

    :param clock: for waiting.
    :param asker: asks the node.
    :param tell: called with the members' documents.
    :ivar url: the node; ``None`` while there is none to ask.
    """

    clock: IReactorTime
    asker: Asker
    tell: Callable[[list[dict[str, Any]]], None]
    url: str | None = field(default=None, init=False)

    async def run(self) -> None:
        """Ask until this is cancelled."""
        while True:
            await deferLater(self.clock, PERIOD)
            if self.url is not None:
                with suppress(NoAnswer):  # whether the node is well is for others to say
                    document = await self.asker.document(f"{self.url}/cluster")
                    self.tell(snapshot_of(document, self.clock.seconds())["data"]["members"])
