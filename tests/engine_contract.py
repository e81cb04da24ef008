"""What every engine promises, the real one as well as the double in memory."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from twisted_patroni.engine.interface import Engine, config_digest

if TYPE_CHECKING:
    from twisted.trial.unittest import SynchronousTestCase

    _Base = SynchronousTestCase
else:
    _Base = object

SIZES: dict[str, int | None] = {
    "1048576": 1048576,
    "10MB": 10 * 2**20,
    "1kB": 1024,
    "1GB": 2**30,
    "1TB": 2**40,
    "1.5MB": 3 * 2**19,
    "0x10": 16,
    "1e3": 1000,
    "1B": 1,
    "0": 0,
    "-1": -1,
    "10mb": None,
    "1KB": None,
    "1MiB": None,
    "5s": None,
    "much": None,
    "1e400": None,
}
SECONDS: list[tuple[Any, int | None]] = [
    (10, 10),
    ("10", 10),
    ("10s", 10),
    ("1min", 60),
    ("2h", 7200),
    ("1d", 86400),
    (1.6, 2),
    ("1000 ms", 1),
    (0, 0),
    ("-5s", -5),
    ("soon", None),
    ("10MB", None),
    ("1e400", None),
    (None, None),
]
VERSIONS: dict[str, int | None] = {
    "15.2": 150002,
    "15.0": 150000,
    "9.6.1": 90601,
    "15": None,
    "15.x": None,
    "new": None,
}
TRUTHS: list[tuple[Any, bool | None]] = [
    (True, True),
    ("true", True),
    ("ON", True),
    ("yes", True),
    (1, True),
    (False, False),
    ("off", False),
    ("no", False),
    (0, False),
    ("perhaps", None),
    (None, None),
]


class EngineContract(_Base):
    """Tests for a test case whose :attr:`subject` is an engine of some kind."""

    subject: Engine

    def test_has_what_the_interface_has(self) -> None:
        """Each method of the interface is there, with the same parameters."""
        for name, promised in inspect.getmembers(Engine, inspect.isfunction):
            if name.startswith("_"):
                continue
            offered = getattr(type(self.subject), name)
            self.assertEqual(
                list(inspect.signature(offered).parameters),
                list(inspect.signature(promised).parameters),
                name,
            )
        self.assertEqual(self.subject.version, "4.1.5")

    def test_sizes(self) -> None:
        """Sizes have PostgreSQL's units, in PostgreSQL's spelling only."""
        for text, expected in SIZES.items():
            self.assertEqual(self.subject.parse_size(text), expected, text)

    def test_durations(self) -> None:
        """Durations are numbers of seconds, or have PostgreSQL's units."""
        for value, expected in SECONDS:
            self.assertEqual(self.subject.parse_seconds(value), expected, repr(value))

    def test_versions(self) -> None:
        """Versions have two or three numbers; the rest is told so."""
        for text, expected in VERSIONS.items():
            if expected is None:
                error = self.assertRaises(ValueError, self.subject.parse_version, text)
                self.assertIn("Invalid PostgreSQL version", str(error), text)
            else:
                self.assertEqual(self.subject.parse_version(text), expected, text)

    def test_truth_values(self) -> None:
        """Truth values are those of PostgreSQL's settings, without abbreviations."""
        for value, expected in TRUTHS:
            self.assertIs(self.subject.parse_bool(value), expected, repr(value))

    def test_digest(self) -> None:
        """A configuration's digest depends on what it says, not on how it is written."""
        one = {"ttl": 30, "postgresql": {"parameters": {"a": 1, "b": None}}}
        other = {"postgresql": {"parameters": {"b": None, "a": 1}}, "ttl": 30}
        self.assertEqual(config_digest(one), config_digest(other))
        self.assertRegex(config_digest(one), "^[0-9a-f]{16}$")
        digests = {
            config_digest(each) for each in (one, {**one, "ttl": 31}, {**one, "x": None}, {})
        }
        self.assertEqual(len(digests), 4)

    def test_at_rest(self) -> None:
        """Nothing is pending, and no configuration is worked by, before there is one."""
        self.assertIs(self.subject.reload_pending(), False)
        self.assertIsNone(self.subject.applied_config())
        self.assertIs(self.subject.node().dcs_answers, True)

    def test_looks_are_counted(self) -> None:
        """A look has a number greater than the count before it began."""
        for _ in range(2):
            before = self.subject.looks_begun()
            self.assertGreater(self.successResultOf(self.subject.look()).number, before)

    def test_members_are_asked(self) -> None:
        """A member gives a status and a body."""
        self.successResultOf(self.subject.look())
        answer = self.successResultOf(self.subject.ask_member("beta", "/patroni?x=1"))
        self.assertEqual(answer, (200, b"{}"))

    def test_restart_conditions(self) -> None:
        """A restart without conditions is always for this node."""
        self.assertIs(self.successResultOf(self.subject.restart_matches({})), True)
