"""Something that happens once, and any number who wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.python.failure import Failure

_T = TypeVar("_T")


@define(eq=False)
class Gate(Generic[_T]):
    """Lets those who wait go on, at once and with the same value, when it is opened.

    :param on_left: called when the last of those who waited has left before that.
    :ivar is_open: whether it was opened.
    """

    on_left: Callable[[], None] = field(default=lambda: None)
    is_open: bool = field(default=False, init=False)
    _kept: bool = field(default=True, init=False)
    _values: list[_T | Failure] = field(factory=list, init=False)
    _waiting: list[Deferred[_T]] = field(factory=list, init=False)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self) -> Deferred[_T]:
        """Wait until it is opened; cancelling that is leaving."""
        result: Deferred[_T] = Deferred(self._leave)
        if self._values:
            result.callback(self._values[0])
        else:
            self._waiting.append(result)
        return result

    def _leave(self, waiter: Deferred[_T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
            if not self._waiting:
                self.on_left()

    def tell(self, value: _T | Failure) -> None:
        """Let those go on who wait now; it stays closed for others.

        :param value: what they get.
        """
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:  # it may leave while others are told
                each.callback(value)

    def open(self, value: _T | Failure) -> None:
        """Let everybody go on, now and later; only the first value counts.

        :param value: what they get.
        """
        if not self.is_open:
            self.is_open = True
            if self._kept:
                self._values.append(value)
            self.tell(value)

    def forget(self) -> None:
        """Do not keep the value: nobody will ask for it who does not wait by now."""
        self._kept = False
        self._values.clear()
