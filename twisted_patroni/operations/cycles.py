"""Tells whoever waits for it that an HA cycle has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field
from twisted.internet.defer import TimeoutError as DeferredTimeout

from twisted_patroni.operations.gate import Gate

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure

#: Seconds after which nobody waits for a cycle any longer: the HA loop may hang.
LONGEST = 60.0


@define(eq=False)
class Cycles:
    """Lets those who wait go on after the next HA cycle.

    :param clock: for a loop that hangs.
    """

    clock: IReactorTime
    _next: Gate[None] = field(factory=Gate, init=False)

    def tell(self) -> None:
        """Say that a cycle has ended."""
        self._next.tell(None)

    def wait(self) -> Deferred[None]:
        """Wait for the end of a cycle, a minute at most; cancelling that is leaving."""
        return self._next.wait().addTimeout(LONGEST, self.clock).addErrback(_too_long)


def _too_long(failure: Failure) -> None:
    failure.trap(DeferredTimeout)
