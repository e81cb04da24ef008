"""The screen shows what an operator looks for, in whatever room there is."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.event_nodes import event, member, view
from twisted_patroni.client.picture import Picture
from twisted_patroni.watch.screen import RED, Link, Span, Told, ansi, draw, plain
from twisted_patroni.watch.text import width

NOW = 1_790_000_000.0
HERE = Link("http://a:8008", since=NOW - 130)


def screen(
    snapshot: dict[str, Any] | None = None,
    link: Link = HERE,
    events: int = 0,
    columns: int = 80,
    rows: int = 24,
) -> list[str]:
    """Return the screen's lines, without the spaces at their ends."""
    picture = Picture().after(event("snapshot", view() if snapshot is None else snapshot))
    told = [Told("15:30:00", f"event {number}") for number in range(events)]
    return [plain(line).rstrip() for line in draw(picture, link, told, NOW, columns, rows)]


class ScreenTests(SynchronousTestCase):
    """What is drawn."""

    def test_healthy(self) -> None:
        """A healthy cluster is a header, a table, and the last events, the newest on top."""
        self.assertEqual(
            screen(events=2),
            [
                "demo   leader a   timeline 3",
                "connected to http://a:8008 (a) for 2 min 10 s",
                "",
                "member  role     state      TL  lag  restart  tags",
                "a       leader   running     3",
                "b       replica  streaming   3  0 B",
                "",
                "last events",
                "15:30:00  event 1",
                "15:30:00  event 0",
            ],
        )

    def test_members(self) -> None:
        """The leader is first; lag, restarts and tags are said as people do."""
        lines = screen(
            view(
                member("d", lag=None, lag_class="unknown", state="starting"),
                member("c", lag=20_000_000, lag_class="high", pending_restart=True),
                member("b", "sync_standby", tags={"nofailover": True, "clonefrom": False, "x": 1}),
                member("a", "leader", lag=0),
                member("e", scheduled_restart="tonight"),
            )
        )
        self.assertEqual(
            lines[4:9],
            [
                "a       leader        running     3",
                "b       sync standby  streaming   3       0 B           nofailover x=1",
                "c       replica       streaming   3  19.1 MiB  pending",
                "d       replica       starting    3   unknown",
                "e       replica       streaming   3       0 B  tonight",
            ],
        )

    def test_flags(self) -> None:
        """What is out of the ordinary is in the header."""
        lines = screen(view(leader=None, locked=False, paused=True, failsafe=True, dcs=False))
        self.assertEqual(
            lines[0],
            "demo   leader none   timeline 3   PAUSED   UNLOCKED   FAILSAFE   DCS LOST",
        )

    def test_plans(self) -> None:
        """Unfinished operations, a scheduled switchover and a drain are below the members."""
        operation = {
            "id": "1",
            "kind": "restart",
            "node": "b",
            "state": "running",
            "created": "2026-09-21T14:12:20+00:00",
            "steps": [{"text": "waits"}],
        }
        node = {"name": "a", "drain": {"reason": "kernel"}}
        plan = {"from": "a", "to": "b", "at": "later"}
        lines = screen(view(operations=[operation], node=node, switchover=plan, sync=["b"]))
        self.assertEqual(
            lines[6:],
            [
                "",
                "synchronous: b",
                "switchover scheduled: a -> b at later",
                "a is drained (kernel)",
                "restart on b running for 1 min 0 s: waits",
            ],
        )

    def test_connection(self) -> None:
        """It says how it is connected, or since when it is not, and why."""
        for link, expected in (
            (Link("http://a", True, NOW), "asking http://a, which has no events, for 0 s"),
            (
                Link(None, since=NOW - 5, trouble="http://a refuses"),
                "reconnecting for 5 s: http://a refuses",
            ),
        ):
            self.assertEqual(screen(link=link)[1], expected)
        lines = draw(Picture(), Link(None, since=NOW - 5), [], NOW, 80, 24)
        self.assertEqual(
            [plain(each) for each in lines], ["twisted-patroni watch", "connecting for 5 s", ""]
        )

    def test_small(self) -> None:
        """In whatever room there is, no line is too wide or too many."""
        many = view(*(member(f"日本語-{n}", tags={"x": "y" * 400}) for n in range(40)))
        picture = Picture().after(event("snapshot", many))
        told = [Told("15:30:00", "x" * 200)] * 200
        for columns in (1, 2, 10, 40, 200):
            for rows in (1, 2, 3, 5, 10, 60):
                lines = draw(picture, HERE, told, NOW, columns, rows)
                self.assertLessEqual(len(lines), rows)
                self.assertLessEqual(max(width(plain(each)) for each in lines), columns)

    def test_many_members(self) -> None:
        """Where there are more members than lines it says so, and keeps some events."""
        many = view(*(member(f"m{number:02}") for number in range(40)))
        lines = screen(many, events=50, rows=24)
        self.assertIn("... 27 more lines", lines)
        self.assertEqual(lines[-4:], [f"15:30:00  event {n}" for n in (49, 48, 47, 46)])

    def test_colour(self) -> None:
        """A style is an escape sequence that ends with its text; without colour there is none."""
        line = (Span("a", RED), Span("b"))
        self.assertEqual((ansi(line), ansi(line, colour=False)), ("\x1b[1;31ma\x1b[0mb", "ab"))
