"""Tests of twisted_patroni.operations.prefer: the headers Prefer and Idempotency-Key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.operations import BadHeader, Preferences, parse_key, parse_prefer

NOTHING = Preferences()
ASYNC = Preferences(respond_async=True)


class PreferTests(SynchronousTestCase):
    """What a client prefers."""

    def test_understood(self) -> None:
        """Lists, parameters, quoted values and several headers; what is unknown is ignored."""
        rows: list[tuple[list[str], Preferences]] = [
            ([], NOTHING),
            ([""], NOTHING),
            ([" , ,\t"], NOTHING),
            (["respond-async"], ASYNC),
            (["Respond-Async"], ASYNC),
            (['respond-async=""'], ASYNC),
            (["respond-async=yes"], NOTHING),
            (["respond-async; foo=bar"], ASYNC),
            (['respond-async ;a ; b = "x;,\\"y"; ;c'], ASYNC),
            (["respond-async, wait=10"], Preferences(True, 10)),
            (["wait=10", "respond-async"], Preferences(True, 10)),
            (['wait = "7" , respond-async'], Preferences(True, 7)),
            (["wait=5, wait=9"], Preferences(False, 5)),
            (["wait=0"], NOTHING),
            (["wait=60"], Preferences(False, 60)),
            (["wait=61"], Preferences(False, 60)),
            (["wait=00000000000000000000005"], Preferences(False, 5)),
            (["wait=" + "9" * 400], Preferences(False, 60)),
            (["return=minimal, handling=lenient"], NOTHING),
            (['foo="respond-async, wait=3"'], NOTHING),
            (["foo; respond-async"], NOTHING),
            (["foo; wait=3"], NOTHING),
        ]
        for lines, expected in rows:
            self.assertEqual(parse_prefer(lines), expected, str(lines))

    def test_malformed(self) -> None:
        """What cannot be read is told with the place where reading ended."""
        for line, word in (
            ("respond-async foo", "'foo'"),
            ("=3", "'=3'"),
            (";a", "';a'"),
            ("respond-async=", "'='"),
            ('respond-async; a="b', "'=\"b'"),
            ("respond-async, (", "'('"),
            ('"respond-async"', "'\"respond-async\"'"),
            ("wait=soon", "'soon'"),
            ("wait=-1", "'-1'"),
            ("wait=1.5", "'1.5'"),
            ("wait", "''"),
            ("wait=\u00b2", "'=\u00b2'"),
        ):
            error = self.assertRaises(BadHeader, parse_prefer, [line])
            self.assertIn("Prefer: ", str(error), line)
            self.assertIn(word, str(error), line)

    def test_long(self) -> None:
        """A header of the greatest length is read in one go."""
        self.assertEqual(parse_prefer(["a;" * 16000 + ",respond-async"]), ASYNC)
        self.assertRaises(BadHeader, parse_prefer, ['a="' + "\\" * 32001])


class KeyTests(SynchronousTestCase):
    """By what a repeated request is known."""

    def test_understood(self) -> None:
        """With quotation marks or without, it is the same key."""
        rows: list[tuple[list[str], str | None]] = [
            ([], None),
            (["8e03978e-40d5"], "8e03978e-40d5"),
            (['"8e03978e-40d5"'], "8e03978e-40d5"),
            ([" abc\t"], "abc"),
            (['"a\\"b\\\\c"'], 'a"b\\c'),
            (['a"b'], 'a"b'),
            (["!"], "!"),
            (["x" * 255], "x" * 255),
            (['"' + "x" * 255 + '"'], "x" * 255),
        ]
        for lines, expected in rows:
            self.assertEqual(parse_key(lines), expected, str(lines))

    def test_refused(self) -> None:
        """Nothing, too much, two, and what is not visible ASCII."""
        for lines in (
            [""],
            ['""'],
            ["x" * 256],
            ["a b"],
            ['"a b"'],
            ["\u00e9"],
            ["a\tb"],
            ['"abc'],
            ['"a"b"'],
            ['"a\\b"'],
            ['"a";b=1'],
            ["a", "a"],
        ):
            error = self.assertRaises(BadHeader, parse_key, lines)
            self.assertTrue(str(error).startswith("Idempotency-Key: "), lines)
