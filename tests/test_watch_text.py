"""Text from the network cannot steer a terminal, and takes the columns that it is thought to."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.watch.text import at, clean, cut, fit, moment, size, span, width


class TextTests(SynchronousTestCase):
    """Cleaning and measuring."""

    def test_clean(self) -> None:
        """Controls, escapes, marks of direction and line ends are question marks."""
        self.assertEqual(
            clean("a\x1b[2Jb\r\n\x07\x9b\x7f\u202e\u2028\ud800"), "a?[2Jb???" + "?" * 5
        )
        self.assertEqual(clean("größe 日本 é"), "größe 日本 é")
        self.assertEqual((clean(None), clean(["\x1b"])), ("None", "['\\x1b']"))

    def test_longest(self) -> None:
        """A text without end is cut."""
        self.assertEqual(clean("x" * 10, 4), "xxx…")

    def test_width(self) -> None:
        """Wide characters take two columns, accents none."""
        self.assertEqual([width(each) for each in ("abc", "日本", "e\u0301", "")], [3, 4, 1, 0])

    def test_fit(self) -> None:
        """A text is filled up or cut to a width, wide characters never in half."""
        self.assertEqual(fit("ab", 4), "ab  ")
        self.assertEqual(fit("ab", 4, right=True), "  ab")
        self.assertEqual(fit("abcdef", 4), "abc…")
        self.assertEqual(fit("日本語", 4), "日… ")
        self.assertEqual((cut("abc", 0), cut("abc", 1), cut("abc", 3)), ("", "…", "abc"))

    @settings(max_examples=200, derandomize=True, database=None, deadline=None)
    @given(st.text(), st.integers(0, 30))
    def test_any(self, text: str, columns: int) -> None:
        """Whatever the text is, it fits, and nothing in it is a control."""
        shown = fit(clean(text), columns)
        self.assertEqual(width(shown), columns)
        self.assertTrue(all(each >= " " and not "\x7f" <= each <= "\x9f" for each in shown))

    def test_size(self) -> None:
        """Bytes are said with a unit."""
        for count, expected in (
            (0, "0 B"),
            (1023, "1023 B"),
            (16 * 1024, "16.0 KiB"),
            (5 * 1024**3, "5.0 GiB"),
            (10**20, "90949470.2 TiB"),
            (-2048, "-2.0 KiB"),
        ):
            self.assertEqual(size(count), expected)

    def test_span(self) -> None:
        """Times are said with two units at most."""
        for seconds, expected in (
            (0, "0 s"),
            (-5, "0 s"),
            (59.9, "59 s"),
            (61, "1 min 1 s"),
            (3600, "1 h 0 min"),
            (200000, "2 d 7 h"),
        ):
            self.assertEqual(span(seconds), expected)

    def test_moment(self) -> None:
        """Only times with a zone are times; others are shown as they are, cleaned."""
        for value in (None, 7, "x", "2026-11-21", "2026-11-21T15:30:00"):
            self.assertIsNone(moment(value))
        self.assertEqual(at("soon\x1b"), "soon?")
        self.assertEqual(at("0001-01-01T00:00:00+14:00")[:4], "0001")
        self.assertRegex(at("2026-11-21T15:30:00.5+00:00"), r"2026-11-2\d \d\d:\d0:00")
