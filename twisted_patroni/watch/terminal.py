"""Where the command writes: an output that may go away, and a terminal that is given back."""

from __future__ import annotations

import os
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: The other screen, no cursor, no wrapping; and back.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"


class Writer(Protocol):
    """Where text is written to."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Show what was written."""

    def fileno(self) -> int:
        """Return the descriptor."""


@define(eq=False)
class Output:
    """Writes at once, until the reader has gone.

    :param writer: where to.
    :ivar when_gone: called once when nobody reads any more.
    :ivar gone: nobody reads any more.
    """

    writer: Writer
    when_gone: Callable[[], object] = field(default=lambda: None, init=False)
    gone: bool = field(default=False, init=False)

    def write(self, text: str) -> None:
        """Write a text, if there is still a reader.

        :param text: the text.
        """
        if self.gone:
            return
        try:
            self.writer.write(text)
            self.writer.flush()
        except (OSError, ValueError):
            self.gone = True
            self.when_gone()


@define(eq=False)
class Terminal:
    """A terminal's other screen.

    :param output: where it is.
    :param keyboard: the descriptor whose keys are not to be shown meanwhile, if it is a terminal.
    """

    output: Output
    keyboard: int | None = None
    _entered: bool = field(default=False, init=False)
    _modes: list[Any] | None = field(default=None, init=False)

    def enter(self) -> None:
        """Go to the other screen."""
        if self._entered:
            return
        self._entered = True
        if self.keyboard is not None:
            with suppress(termios.error, OSError):
                self._modes = termios.tcgetattr(self.keyboard)
                quiet = list(self._modes)
                quiet[3] &= ~termios.ECHO
                termios.tcsetattr(self.keyboard, termios.TCSANOW, quiet)
        self.output.write(_ENTER)

    def leave(self) -> None:
        """Come back from it; what was typed meanwhile is forgotten."""
        if not self._entered:
            return
        self._entered = False
        self.output.write(_LEAVE)
        if self.keyboard is not None and self._modes is not None:
            with suppress(termios.error, OSError):
                termios.tcsetattr(self.keyboard, termios.TCSAFLUSH, self._modes)

    def size(self) -> tuple[int, int]:
        """Return its columns and rows at present."""
        try:
            found = os.get_terminal_size(self.output.writer.fileno())
        except (OSError, ValueError):
            return 80, 24
        return found.columns or 80, found.lines or 24

    def show(self, lines: Iterable[str]) -> None:
        """Show these lines and nothing else, without flicker.

        :param lines: the lines, none longer than there are columns.
        """
        if self._entered:
            # From the top, and each line's rest is erased: nothing is blank in between.
            text = "\x1b[K\r\n".join(lines)
            self.output.write(f"\x1b[H{text}\x1b[K\x1b[J")
