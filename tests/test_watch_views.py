"""The shapes of the command: JSON, lines, and a terminal's screen that is given back."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import TIME, EventNode, Network, event, member, view
from twisted_patroni.client.asking import Asker
from twisted_patroni.watch.lags import Lags
from twisted_patroni.watch.terminal import Output, Terminal
from twisted_patroni.watch.text import at
from twisted_patroni.watch.views import JsonView, LineView, ScreenView

A = "http://a:8008"
STRANGE_TIMES: list[Any] = ["\x1b" + "x" * 100, 7, [], "0001-01-01T00:00:00+14:00"]


class Paper(io.StringIO):
    """What is written to.

    :ivar broken: nobody reads any more.
    """

    broken = False

    def write(self, text: str, /) -> int:
        """Write a text, or fail."""
        if self.broken:
            raise BrokenPipeError
        return super().write(text)

    def taken(self) -> str:
        """Return what was written since the last time."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class ViewCase(SynchronousTestCase):
    """A view and what it has written."""

    def setUp(self) -> None:
        """Begin with an empty paper."""
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.paper = Paper()
        self.output = Output(self.paper)


class JsonTests(ViewCase):
    """JSON."""

    def test_lines(self) -> None:
        """Each event is an object in ASCII on a line; so is the beginning of a connection."""
        sent = event("member", {"name": "\x1b\x7f\x9b日\n", "change": "left"})
        shown = JsonView(self.clock, self.output)
        shown.begin()
        shown.failed(A, "refuses connections")
        shown.connected(A, False)
        shown.received(sent)
        shown.disconnected(A, "closed the connection")
        shown.end()
        text = self.paper.taken()
        self.assertTrue(all(" " <= each <= "~" for line in text.splitlines() for each in line))
        when = "2026-09-21T14:13:20+00:00"
        self.assertEqual(
            [json.loads(line) for line in text.splitlines()],
            [
                {"type": "connected", "time": when, "url": A, "polling": False},
                sent,
                {"type": "disconnected", "time": when, "url": A, "reason": "closed the connection"},
            ],
        )

    def test_reader_gone(self) -> None:
        """When the reader has gone that is told once, and nothing is written any more."""
        told: list[bool] = []
        self.output.when_gone = lambda: told.append(True)
        self.paper.broken = True
        shown = JsonView(self.clock, self.output)
        for _ in range(3):
            shown.connected(A, False)
        self.assertEqual((told, self.output.gone), ([True], True))


class LineTests(ViewCase):
    """Lines."""

    def lines(self) -> list[str]:
        """Return what was written since the last time, without the times."""
        lines = self.paper.taken().splitlines()
        for line in lines:
            self.assertRegex(line, r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
        return [line[20:] for line in lines]

    def test_events(self) -> None:
        """An event is a sentence after its own time."""
        shown = LineView(self.clock, self.output)
        shown.received(event("leader", {"old": "a", "new": "b", "timeline": 7}))
        self.assertEqual(self.paper.taken(), f"{at(TIME)} leader: a -> b (timeline 7)\n")

    def test_strange_times(self) -> None:
        """A time that is none is shown as it is, cleaned and not without end."""
        shown = LineView(self.clock, self.output)
        for time in STRANGE_TIMES:
            shown.received({"type": "leader", "time": time, "data": {"new": "b"}})
        lines = self.paper.taken().splitlines()
        self.assertEqual(lines[0], f"?{'x' * 38}… leader: b")
        self.assertEqual(lines[1], "7 leader: b")
        self.assertEqual(len(lines), 4)

    def test_snapshots(self) -> None:
        """After a new connection only what is different is told."""
        shown = LineView(self.clock, self.output)
        for leader in ("a", "a", "b"):
            shown.received(event("snapshot", view(leader=leader)))
        self.assertEqual(
            self.lines(),
            [
                "cluster demo: leader a, timeline 3",
                "members: a (leader, running), b (replica, streaming)",
                "leader: a -> b (timeline 3)",
            ],
        )

    def test_connections(self) -> None:
        """Connections are told of; a failure once, and only while no node answers."""
        shown = LineView(self.clock, self.output)
        for _ in range(3):
            shown.failed(A, "refuses connections")
        shown.connected(A, True)
        shown.failed("http://b", "refuses connections")
        shown.disconnected(A, "does not answer\x1b")
        shown.failed(A, "refuses connections")
        self.assertEqual(
            self.lines(),
            [
                f"{A} refuses connections",
                f"connected to {A}, which has no events and is asked every 2 seconds",
                f"{A} does not answer?",
                f"{A} refuses connections",
            ],
        )


class ScreenTests(ViewCase):
    """The screen."""

    def setUp(self) -> None:
        """Have a view, and end it in the end."""
        super().setUp()
        self.use()

    def use(self, **options: Any) -> None:
        """Have another view."""
        self.shown = ScreenView(self.clock, Terminal(self.output), colour=False, **options)

    def drawn(self) -> list[list[str]]:
        """Return the lines of each screen that was drawn since the last time."""
        screens = re.split("\x1b\\[H", self.paper.taken())[1:]
        return [each.replace("\x1b[K", "").replace("\x1b[J", "").split("\r\n") for each in screens]

    def test_terminal(self) -> None:
        """The terminal is taken at the start and given back in the end, once."""
        self.shown.begin()
        text = self.paper.taken()
        self.assertTrue(text.startswith("\x1b[?1049h\x1b[?25l"), text)
        for _ in range(2):
            self.shown.end()
        text = self.paper.taken()
        self.assertEqual(text, "\x1b[?7h\x1b[?25h\x1b[?1049l")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_together(self) -> None:
        """Changes in quick succession are one drawing."""
        self.shown.begin()
        self.drawn()
        self.shown.connected(A, False)
        self.shown.received(event("snapshot", view()))
        for number in range(50):
            self.shown.received(event("leader", {"old": "a", "new": "b", "timeline": number}))
        self.assertEqual(self.drawn(), [])
        self.clock.advance(0.05)
        [lines] = self.drawn()
        self.assertEqual(lines[0], "demo   leader b   timeline 49")
        self.assertIn("leader: a -> b (timeline 49)", lines[8])
        self.shown.end()

    def test_clock(self) -> None:
        """Ages are right to the second, without any event."""
        self.shown.begin()
        self.shown.connected(A, False)
        for _ in range(5):
            self.clock.advance(1)
        self.assertIn("for 5 s", self.drawn()[-1][1])
        self.shown.end()

    def test_reconnecting(self) -> None:
        """A lost connection is shown with its reason, and the picture stays."""
        self.shown.begin()
        self.shown.connected(A, False)
        self.shown.received(event("snapshot", view()))
        self.shown.disconnected(A, "closed the connection")
        self.clock.advance(1)
        lines = self.drawn()[-1]
        self.assertEqual(lines[1], f"reconnecting for 1 s: {A} closed the connection")
        self.assertIn("b       replica", lines[5])
        self.shown.failed(A, "refuses connections")
        self.clock.advance(1)
        self.assertEqual(self.drawn()[-1][1], f"reconnecting for 2 s: {A} refuses connections")
        self.shown.end()

    def test_lags(self) -> None:
        """How far members are behind is drawn when it is known anew."""
        self.shown.begin()
        self.shown.received(event("snapshot", view()))
        self.shown.lags([member("b", lag=2048)])
        self.clock.advance(1)
        self.assertIn("2.0 KiB", self.drawn()[-1][5])
        self.shown.end()

    def test_types(self) -> None:
        """The list of events has the types asked for, the picture has all."""
        self.use(types=frozenset({"config"}))
        self.shown.begin()
        self.shown.received(event("snapshot", view()))
        self.shown.received(event("cluster", {"changed": ["paused"], "paused": True}))
        self.shown.received(event("config", {"changed": {"ttl": {"old": 30, "new": 20}}}))
        self.clock.advance(1)
        lines = self.drawn()[-1]
        self.assertTrue(lines[0].endswith("PAUSED"))
        self.assertEqual([line[10:] for line in lines[8:]], ["config: ttl 30 -> 20"])
        self.shown.end()

    def test_strange_times(self) -> None:
        """A time that is none takes no more room than one."""
        self.shown.begin()
        for time in STRANGE_TIMES:
            self.shown.received({"type": "leader", "time": time, "data": {"new": "b"}})
        self.clock.advance(1)
        self.assertIn("?xxxxxxxx…  leader: b", self.drawn()[-1])
        self.shown.end()

    def test_bounded(self) -> None:
        """No more than the last two hundred events are remembered."""
        self.shown.begin()
        for number in range(1000):
            self.shown.received(event("leader", {"old": "a", "new": "b", "timeline": number}))
        self.assertEqual(len(self.shown._told), 200)
        self.shown.end()


class LagTests(ViewCase):
    """How far members are behind, which no event tells byte by byte."""

    def test_asks(self) -> None:
        """The node that tells is asked every five seconds, and nobody while there is none."""
        node = EventNode()
        network = Network(a=node)
        told: list[Any] = []
        lags = Lags(self.clock, Asker(self.clock, network), told.append)
        running = Deferred.fromCoroutine(lags.run())
        for url, lag in ((None, 1), (A, 2), (A, None), (None, 3)):
            node.cluster = None if lag is None else {"members": [member("b", lag=lag)]}
            lags.url = url
            self.clock.advance(5)
            network.flush()
        self.assertEqual([each[0]["lag"] for each in told], [2])
        self.assertEqual(network.attempts, ["a", "a"])
        running.cancel()
        self.failureResultOf(running, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
