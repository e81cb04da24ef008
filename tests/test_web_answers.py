"""Tests of twisted_patroni.web.answers against Python's own http.server, which upstream uses."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from io import BytesIO

from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.web.answers import (
    Answer,
    bare_answer,
    error_page,
    json_answer,
    problem,
    reason_phrase,
    text_answer,
)

CODES = (400, 404, 409, 411, 500, 501, 502, 503, 505)


class StandardHandler(BaseHTTPRequestHandler):
    """Python's handler, writing its error pages to memory."""

    def __init__(self) -> None:
        self.wfile = self.written = BytesIO()
        self.request_version = "HTTP/1.0"
        self.command = "POST"
        self.requestline = ""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""

    def page(self, code: int, message: str | None = None) -> tuple[str, bytes]:
        """Return reason phrase and page of an error."""
        self.send_error(code, message)
        head, _, body = self.written.getvalue().partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)[2], body


class AnswerTests(SynchronousTestCase):
    """The kinds of answers."""

    def test_error_pages(self) -> None:
        """Error pages are those of Python's http.server, byte for byte."""
        for code in CODES:
            reason, body = StandardHandler().page(code)
            answer = error_page(code)
            self.assertEqual((answer.reason, answer.body), (reason, body), code)
            self.assertEqual(answer.content_type, "text/html;charset=utf-8")

    def test_error_page_with_message(self) -> None:
        """A message takes the place of the reason phrase, and is escaped in the page."""
        for message in ("Unsupported method ('POST')", '<b> & "quotes"'):
            reason, body = StandardHandler().page(501, message)
            answer = error_page(501, message)
            self.assertEqual((answer.reason, answer.body), (reason, body), message)

    def test_error_page_with_explanation(self) -> None:
        """An explanation is escaped, too."""
        self.assertIn(b"400 - a &lt;b&gt;.", error_page(400, explanation="a <b>").body)

    def test_json(self) -> None:
        """JSON has Python's usual separators, is ASCII, and knows a text for everything."""
        value = {
            "a": [1, None],
            "t": datetime(2024, 1, 1, tzinfo=UTC),
            "d": Decimal("1.5"),
            "u": "\u00fc",
        }
        self.assertEqual(
            json_answer(value).body,
            b'{"a": [1, null], "t": "2024-01-01 00:00:00+00:00", "d": "1.5", "u": "\\u00fc"}',
        )
        self.assertEqual(
            json_answer({}, 503, (("X", "y"),)),
            Answer(503, b"{}", "application/json", (("X", "y"),)),
        )

    def test_problem(self) -> None:
        """An error is an object with one sentence."""
        self.assertEqual(
            problem(429, 'a "b"', (("Retry-After", "3"),)),
            Answer(429, b'{"error": "a \\"b\\""}', "application/json", (("Retry-After", "3"),)),
        )

    def test_text(self) -> None:
        """A sentence is labelled HTML, as upstream does."""
        self.assertEqual(text_answer(200, "OK"), Answer(200, b"OK", "text/html"))

    def test_bare(self) -> None:
        """A bare answer has no body."""
        self.assertEqual(bare_answer(503), Answer(503, bare=True))

    def test_reason_phrases(self) -> None:
        """Reason phrases are registered ones, or none."""
        rows = ((200, "OK"), (412, "Precondition Failed"), (503, "Service Unavailable"), (599, ""))
        for code, phrase in rows:
            self.assertEqual(reason_phrase(code), phrase)
