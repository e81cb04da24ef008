"""Tells whoever waits for it that an HA cycle has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from twisted_patroni.operations.gate import Gate

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


@define(eq=False)
class Cycles:
    """Lets those who wait go on after the next HA cycle."""

    _next: Gate[None] = field(factory=Gate, init=False)

    def tell(self) -> None:
        """Say that a cycle has ended."""
        self._next.tell(None)

    def wait(self) -> Deferred[None]:
        """Wait for the end of a cycle; cancelling that is leaving."""
        return self._next.wait()
