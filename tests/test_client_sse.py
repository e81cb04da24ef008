"""Server-Sent Events are parsed as the HTML standard says, in bounded memory."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.client.sse import Message, SseParser, TooLong


def parsed(*pieces: bytes) -> list[tuple[str, str, str]]:
    """Return type, data and last id of the messages in some pieces of a stream."""
    parser = SseParser()
    messages = [each for piece in pieces for each in parser.feed(piece)]
    return [(each.type, each.data, each.last_id) for each in messages]


class StandardTests(SynchronousTestCase):
    """What the standard's section on the format says, with its own examples."""

    def test_lines_of_data(self) -> None:
        """Lines of data are joined by line feeds."""
        stream = b"data: YHOO\ndata: +2\ndata: 10\n\n"
        self.assertEqual(parsed(stream), [("message", "YHOO\n+2\n10", "")])

    def test_comments_and_ids(self) -> None:
        """Comments are nothing, an id counts until the next one, and an empty one clears it."""
        stream = (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
            b"data:  third event\n"
        )
        self.assertEqual(
            parsed(stream), [("message", "first event", "1"), ("message", "second event", "")]
        )

    def test_empty_data(self) -> None:
        """A line of data without any is an event; what is not complete at the end is none."""
        self.assertEqual(
            parsed(b"data\n\ndata\ndata\n\ndata:"), [("message", "", ""), ("message", "\n", "")]
        )

    def test_one_space(self) -> None:
        """One space after the colon does not count, a second one does."""
        self.assertEqual(
            parsed(b"data:test\n\ndata: test\n\ndata:  test\n\n"),
            [("message", "test", ""), ("message", "test", ""), ("message", " test", "")],
        )

    def test_types(self) -> None:
        """A type holds for one event; one without data is none, and leaves none behind."""
        stream = b"event: add\ndata: 1\n\nevent: gone\n\ndata: 2\n\n"
        self.assertEqual(parsed(stream), [("add", "1", ""), ("message", "2", "")])

    def test_ends_of_lines(self) -> None:
        """Lines end with LF, CR or CRLF, in one stream as well."""
        for end in (b"\n", b"\r", b"\r\n"):
            stream = end.join([b"event: x", b"data: 1", b"data: 2", b"", b""])
            self.assertEqual(parsed(stream), [("x", "1\n2", "")])
        self.assertEqual(parsed(b"data: 1\r\ndata: 2\rdata: 3\n\r"), [("message", "1\n2\n3", "")])

    def test_carriage_return_ends_at_once(self) -> None:
        """An event that ends with CR is not held back until it is known what follows."""
        parser = SseParser()
        self.assertEqual(parser.feed(b"data: 1\r\r"), [Message("message", "1", "")])
        self.assertEqual(parser.feed(b"\ndata: 2\r\n\r\n"), [Message("message", "2", "")])

    def test_byte_order_mark(self) -> None:
        """One mark at the start does not count; a second one, or a later one, does."""
        mark = b"\xef\xbb\xbf"
        self.assertEqual(parsed(mark + b"data: 1\n\n"), [("message", "1", "")])
        self.assertEqual(parsed(mark[:1], mark[1:], b"data: 1\n\n"), [("message", "1", "")])
        self.assertEqual(parsed(mark + mark + b"data: 1\n\n"), [])
        self.assertEqual(parsed(b"\n" + mark + b"data: 1\n\n"), [])

    def test_id_with_null(self) -> None:
        """An id with a null character in it is ignored."""
        self.assertEqual(
            parsed(b"id: 1\ndata: x\n\nid: 2\x003\ndata: y\n\n"),
            [("message", "x", "1"), ("message", "y", "1")],
        )

    def test_id_of_incomplete_event(self) -> None:
        """The position is that of the last event that was complete."""
        parser = SseParser()
        parser.feed(b"id: 1\ndata: x\n\nid: 2\ndata: y\n")
        self.assertEqual(parser.last_id, "1")
        parser.feed(b"\n")
        self.assertEqual(parser.last_id, "2")

    def test_id_without_data(self) -> None:
        """An id alone moves the position without an event."""
        parser = SseParser()
        self.assertEqual(parser.feed(b"id: 7\n\n"), [])
        self.assertEqual(parser.last_id, "7")

    def test_retry(self) -> None:
        """Only digits are a time to wait."""
        parser = SseParser()
        for value, expected in ((b"soon", None), (b"", None), (b"1500", 1500), (b"-1", 1500)):
            parser.feed(b"retry: " + value + b"\n")
            self.assertEqual(parser.retry, expected)

    def test_unknown_fields(self) -> None:
        """Unknown fields, and those with other capitals, are ignored."""
        self.assertEqual(parsed(b"DATA: 1\nfoo: 2\nbar\ndata: 3\n\n"), [("message", "3", "")])

    def test_not_utf8(self) -> None:
        """What is not UTF-8 is replaced, and does not swallow the end of its line."""
        self.assertEqual(
            parsed(b"data: a\xc3\n\n"), [("message", "a\N{REPLACEMENT CHARACTER}", "")]
        )

    def test_character_in_pieces(self) -> None:
        """A character may come in pieces."""
        stream = "data: \N{EURO SIGN}\n\n".encode()
        pieces = [stream[i : i + 1] for i in range(len(stream))]
        self.assertEqual(parsed(*pieces), [("message", "\N{EURO SIGN}", "")])


class BoundTests(SynchronousTestCase):
    """Nobody can make it remember more than a bound."""

    def test_line_without_end(self) -> None:
        """A line may have so many bytes and no more, in however many pieces."""
        parser = SseParser(max_line=16)
        self.assertEqual(len(parser.feed(b"data: 0123456789\n\n")), 1)
        parser.feed(b": 234567")
        parser.feed(b"89012345")
        error = self.assertRaises(TooLong, parser.feed, b"6")
        self.assertEqual(str(error), "a line has more than 16 bytes")

    def test_event_without_end(self) -> None:
        """The lines of an event may have so many bytes together, empty ones counted."""
        parser = SseParser(max_event=20)
        parser.feed(b"data\ndata\ndata\ndata\ndata\n")
        self.assertEqual(parser.feed(b"\n"), [Message("message", "\n\n\n\n", "")])
        parser.feed(b"data\ndata\ndata\ndata\ndata\n")
        self.assertRaises(TooLong, parser.feed, b"data\n")


class PiecesTests(SynchronousTestCase):
    """It does not matter in which pieces a stream comes."""

    @settings(max_examples=200, derandomize=True, database=None, deadline=None)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"data",
                    b"id",
                    b"event",
                    b"retry",
                    b":",
                    b" ",
                    b"\n",
                    b"\r",
                    b"\xef\xbb\xbf",
                    b"1",
                ]
            ),
            max_size=40,
        ),
        st.lists(st.integers(0, 120), max_size=8),
    )
    def test_same(self, parts: list[bytes], places: list[int]) -> None:
        """At once and in pieces, the events are the same."""
        stream = b"".join(parts) + b"\n\n"
        cuts = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
        pieces = [stream[a:b] for a, b in pairwise(cuts)]
        self.assertEqual(parsed(*pieces), parsed(stream))
