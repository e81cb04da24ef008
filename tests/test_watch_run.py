"""One run of the command in memory, and the terminal that it takes and gives back."""

from __future__ import annotations

import io
import os
import pty
import select
import termios
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import EventNode, Network, Notes, member, view
from twisted_patroni.client.asking import Asker
from twisted_patroni.client.tls import TlsFiles
from twisted_patroni.watch.command import Watching
from twisted_patroni.watch.settings import CommandError, Wanted
from twisted_patroni.watch.terminal import Output, Terminal
from twisted_patroni.watch.views import ScreenView

if TYPE_CHECKING:
    from twisted_patroni.watch.command import View

A, B = "http://a:8008", "http://b:8008"


class Shown(Notes):
    """A view that notes down what it is told."""

    def begin(self) -> None:
        """Note the beginning."""
        self.told.append(("begin",))

    def end(self) -> None:
        """Note the end."""
        self.told.append(("end",))


class WatchingTests(SynchronousTestCase):
    """A run."""

    def begin(
        self, view: View, *, shape: str = "lines", timeout: float | None = 30.0, **nodes: EventNode
    ) -> Deferred[None]:
        """Begin to watch two nodes."""
        self.clock = Clock()
        self.network = Network(**nodes)
        want = Wanted((A, B), TlsFiles(), None, frozenset({"leader"}), None, timeout, shape)
        self.watching = Watching(self.clock, want, Asker(self.clock, self.network), view)
        running = Deferred.fromCoroutine(self.watching.run())
        self.network.flush()
        return running

    def test_gives_up(self) -> None:
        """If no node answers for so long it ends, and says why of each, of the hanging one too."""
        silent = EventNode()
        silent.silent = True
        shown = Shown()
        running = self.begin(shown, b=silent, timeout=3.0)
        self.clock.advance(3)
        text = str(self.failureResultOf(running, CommandError).value)
        self.assertEqual(text, f"no node answers: {A} refuses connections; {B} does not answer")
        self.assertEqual(shown.told, [("begin",), ("failed", A, "refuses connections"), ("end",)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_goes_on(self) -> None:
        """Once a node has answered it never gives up."""
        node = EventNode()
        running = self.begin(Shown(), a=node)
        del self.network.nodes["a"]
        node.cut()
        for _ in range(200):
            self.network.flush()
            self.clock.advance(0.5)
        self.assertNoResult(running)
        self.watching.end()
        self.assertIsNone(self.successResultOf(running))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_types(self) -> None:
        """Lines ask for the types that are wanted, a screen needs all for its picture."""
        targets = []
        for shape in ("lines", "screen"):
            node = EventNode()
            running = self.begin(Shown(), shape=shape, a=node)
            targets.append(node.asked[0][0])
            self.watching.end()
            self.assertIsNone(self.successResultOf(running))
        self.assertEqual(targets, ["/events?types=leader,member", "/events"])

    def test_lags(self) -> None:
        """A screen asks the node that tells events how far members are behind, while it has one."""
        node = EventNode()
        node.greeting = view(member("b", lag=0, api_url=None))
        node.cluster = {"members": [member("b", lag=2048)]}
        terminal = Terminal(Output(io.StringIO()))
        running = self.begin(ScreenView(Clock(), terminal), shape="screen", a=node)
        self.clock.advance(5)
        self.network.flush()
        del self.network.nodes["a"]
        node.cut()
        self.network.flush()
        self.clock.advance(5)
        self.assertEqual([target for target, _ in node.asked].count("/cluster"), 1)
        self.watching.end()
        self.assertIsNone(self.successResultOf(running))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ended_before(self) -> None:
        """A signal that comes before it has begun is not lost."""
        running = self.begin(Shown())
        self.watching.end()
        self.successResultOf(running)
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(self.watching.run())))


class TerminalTests(SynchronousTestCase):
    """A terminal of the kernel's."""

    def setUp(self) -> None:
        """Open one."""
        self.other, self.descriptor = pty.openpty()
        self.addCleanup(os.close, self.other)
        self.writer = os.fdopen(self.descriptor, "w")
        self.addCleanup(self.writer.close)

    def echoes(self) -> bool:
        """Tell whether keys are shown."""
        modes = termios.tcgetattr(self.descriptor)
        return bool(modes[3] & termios.ECHO)

    def shown(self, until: str, times: int) -> str:
        """Return what was written, which the kernel hands over in pieces of its own.

        :param until: what must have come.
        :param times: how often.
        """
        text = ""
        while text.count(until) < times and select.select([self.other], [], [], 10)[0]:
            text += os.read(self.other, 10_000).decode()
        return text

    def test_keys(self) -> None:
        """Keys are not shown while it is taken, and as before afterwards."""
        terminal = Terminal(Output(self.writer), self.descriptor)
        before = termios.tcgetattr(self.descriptor)
        for _ in range(2):
            terminal.enter()
            terminal.enter()
            self.assertFalse(self.echoes())
            terminal.leave()
            self.assertEqual(termios.tcgetattr(self.descriptor), before)
        text = self.shown(until="\x1b[?1049l", times=2)
        self.assertEqual(text.count("\x1b[?1049h"), 2)
        self.assertEqual(text.count("\x1b[?1049l"), 2)

    def test_size(self) -> None:
        """Its size is asked for each time; where that is unknown it is the usual one."""
        terminal = Terminal(Output(self.writer))
        self.assertEqual(terminal.size(), (80, 24))
        termios.tcsetwinsize(self.descriptor, (50, 132))
        self.assertEqual(terminal.size(), (132, 50))
        self.assertEqual(Terminal(Output(io.StringIO())).size(), (80, 24))

    def test_not_taken(self) -> None:
        """Nothing is shown on a terminal that is not taken."""
        terminal = Terminal(Output(self.writer))
        terminal.show(["x"])
        terminal.leave()
        os.set_blocking(self.other, False)
        self.assertRaises(BlockingIOError, os.read, self.other, 100)
