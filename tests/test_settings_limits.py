"""Tests of ``restapi.limits``, as tables."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sections import error_of, settings
from twisted_patroni.settings import Limits

NUMBERS = {
    "line_bytes": (1024, 65536),
    "head_bytes": (1024, 1048576),
    "headers": (16, 1000),
    "body_bytes": (1024, 268435456),
    "connections": (8, 1000000),
    "connections_reserved": (0, 1000000),
    "connections_per_address": (1, 1000000),
    "requests": (1, 1000000),
    "subscribers": (1, 1000000),
}
#: With these, each of the others can be at either end of its range.
ROOM = {"connections": 1000000, "connections_reserved": 0}


class LimitTests(SynchronousTestCase):
    """What clients may take."""

    def test_defaults(self) -> None:
        """No limits are the usual limits, and so are those that are not given."""
        for value in (None, {}, {"head": None}):
            self.assertEqual(settings(limits=value).limits, Limits())
        self.assertEqual(settings(limits={"head": 20}).limits, Limits(head=20.0))

    def test_times(self) -> None:
        """Times are seconds, maybe with a fraction or written as text."""
        for key in ("handshake", "head", "body", "idle"):
            for value, expected in ((0.1, 0.1), (7, 7.0), ("2.5", 2.5), (3600, 3600.0)):
                got = settings(limits={key: value}).limits
                self.assertEqual(getattr(got, key), expected, f"{key} {value!r}")
            for wrong in (0, 0.05, -1, 3601, "nan", "inf", "5s", "", True, [1]):
                self.assertEqual(
                    error_of(limits={key: wrong}),
                    f"restapi.limits.{key}: expected 0.1 to 3600 seconds, but got {wrong!r}",
                )

    def test_numbers(self) -> None:
        """Sizes are bytes and numbers are whole, maybe written as text."""
        for key, (low, high) in NUMBERS.items():
            lines = {"head_bytes": 1048576} if key == "line_bytes" else {"line_bytes": 1024}
            room = {**ROOM, **lines}
            ends = (low, high - 1, str(low)) if key == "connections_reserved" else (low, high)
            for value in ends:
                got = settings(limits={**room, key: value}).limits
                self.assertEqual(getattr(got, key), int(value), f"{key} {value!r}")
            for wrong in (low - 1, high + 1):
                self.assertEqual(
                    error_of(limits={**room, key: wrong}),
                    f"restapi.limits.{key}: expected {low} to {high}, but got {wrong}",
                )
            for text in ("5MB", "", 1024.5, True):
                self.assertEqual(
                    error_of(limits={**room, key: text}),
                    f"restapi.limits.{key}: expected a whole number, but got {text!r}",
                )

    def test_together(self) -> None:
        """Limits that contradict each other are an error, defaults included."""
        rows: list[tuple[dict[str, Any], str]] = [
            (
                {"connections": 200, "connections_reserved": 200},
                "connections_reserved: expected less than connections (200), but got 200",
            ),
            (
                {"head_bytes": 4096},
                "head_bytes: expected no less than line_bytes (8192), but got 4096",
            ),
            (
                {"line_bytes": 65536},
                "head_bytes: expected no less than line_bytes (65536), but got 32768",
            ),
        ]
        for limits, expected in rows:
            self.assertEqual(error_of(limits=limits), f"restapi.limits.{expected}")
        self.assertEqual(error_of(limits={"line_bytes": 4096, "head_bytes": 4096}), "")

    def test_reserved(self) -> None:
        """A tenth of few connections is reserved, of many no more than usual."""
        for connections, reserved in ((8, 0), (50, 5), (1000, 100), (100000, 100)):
            limits = settings(limits={"connections": connections}).limits
            self.assertEqual(limits.connections_reserved, reserved)

    def test_unknown(self) -> None:
        """A key that is none, or is none of the operator's business, is an error."""
        keys = "handshake, head, body, idle, " + ", ".join(NUMBERS)
        fixed = ("first_byte", "half_closed", "linger", "close", "linger_bytes")
        for key in (*fixed, "timeout"):
            self.assertEqual(
                error_of(limits={key: 1}),
                f"restapi.limits: unknown key '{key}'; the keys are {keys}",
            )

    def test_no_mapping(self) -> None:
        """Limits are a mapping."""
        for value, kind in ((5, "int"), ([], "list"), ("head: 5", "str")):
            self.assertEqual(
                error_of(limits=value), f"restapi.limits: expected a mapping, but got a {kind}"
            )
