"""What hostile and broken clients send is refused or dropped, changes nothing, and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests import attack_lines, attacks
from tests.attacks import BODY, CHUNKED, GET, GOOD_CHUNKS, GOOD_GET, GOOD_PATCH, patch
from tests.strict_answers import read_answers
from tests.wirecase import Attacker, WireCase, codes
from twisted_patroni.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.attacks import Attack

#: Longer data is not sent byte by byte: a body in more pieces than this is refused.
_TINY = 1000


class TableTests(WireCase):
    """Each attack of the table gets the answers it deserves, however its bytes arrive."""

    def assert_table(self, table: Iterable[Attack]) -> None:
        """Try the attacks of a table, at once and byte by byte."""
        for attack in table:
            at_once, answers, attacker = self.assert_attack(attack.name, attack.data, [attack.data])
            self.assertEqual(codes(at_once), attack.at_once, attack.name)
            self.assertEqual(codes(answers), attack.codes, attack.name)
            self.assertEqual(attacker.changes, attack.changes, attack.name)
            if not attack.changes:
                self.assertEqual(attacker.api.engine.calls, [], attack.name)
            if len(attack.data) <= _TINY:
                pieces = [bytes([byte]) for byte in attack.data]
                _, same, other = self.assert_attack(attack.name, attack.data, pieces)
                self.assertEqual(_without_dates(same), _without_dates(answers), attack.name)
                self.assertEqual(other.api.engine.calls, attacker.api.engine.calls, attack.name)

    def test_framing(self) -> None:
        """A request whose end is open to doubt is 400, and what it hides is not looked at."""
        self.assert_table(attacks.FRAMING)

    def test_chunking(self) -> None:
        """Chunks are taken as RFC 9112 defines them, or not at all."""
        self.assert_table(attacks.CHUNKING)

    def test_heads(self) -> None:
        """So are headers; limits have statuses of their own."""
        self.assert_table(attacks.HEADS)

    def test_request_lines(self) -> None:
        """What is no request line of HTTP/1 is 400, another version 505, another protocol 400."""
        self.assert_table(attack_lines.REQUEST_LINES)

    def test_targets(self) -> None:
        """A target is a path or an absolute URL in ASCII; nothing in a path is decoded."""
        self.assert_table(attack_lines.TARGETS)

    def test_methods(self) -> None:
        """A method that is not declared is 501, however near it comes to one that is."""
        self.assert_table(attack_lines.METHODS)

    def test_expectations(self) -> None:
        """Who expects to be told to go on is told so, or refused instead."""
        self.assert_table(attack_lines.EXPECTATIONS)

    def test_pipelines(self) -> None:
        """Requests are answered in order up to the first that cannot be read."""
        self.assert_table(attack_lines.PIPELINES)


def _without_dates(answers: Iterable[object]) -> list[str]:
    return [str(answer).partition("'date'")[0] for answer in answers]


class EarlyEndTests(WireCase):
    """A client may leave, or say that it has done, behind each byte of a request."""

    def test_leaving(self) -> None:
        """Who leaves within a request has changed nothing, and is forgotten."""
        for request in (GOOD_GET, GOOD_PATCH, GOOD_CHUNKS):
            for size in range(len(request) + 1):
                attacker = Attacker()
                attacker.send(request[:size])
                attacker.client.vanish()
                attacker.outlast()
                complete = size == len(request) and request is not GOOD_GET
                self.assertEqual(attacker.changes, complete, request[:size])
                self.assertEqual(bool(attacker.received), size == len(request))
                self.assertEqual(attacker.api.clock.getDelayedCalls(), [])
                self.assertEqual(self.flushLoggedErrors(), [], request[:size])

    def test_half_close(self) -> None:
        """Who says within a request that nothing more will come has changed nothing, either."""
        for request in (GOOD_GET, GOOD_PATCH, GOOD_CHUNKS):
            for size in range(len(request)):
                attacker = Attacker()
                attacker.client.send(request[:size]) if size else None
                attacker.client.say_no_more()
                self.assertEqual(attacker.settle(), b"", request[:size])
                self.assertTrue(attacker.client.closed, request[:size])
                self.assertEqual(attacker.api.engine.calls, [], request[:size])
                self.assertEqual(self.flushLoggedErrors(), [], request[:size])

    def test_half_close_behind_a_request(self) -> None:
        """Who has said everything is answered."""
        for request in (GOOD_GET, GOOD_PATCH, GOOD_CHUNKS):
            attacker = Attacker()
            attacker.client.send(request)
            attacker.client.say_no_more()
            self.assertEqual(codes(read_answers(attacker.settle())), (200,))

    def test_leaving_behind_a_good_request(self) -> None:
        """The next request is none before it is complete, whatever came before it."""
        for size in range(len(GOOD_PATCH)):
            attacker = Attacker()
            answers = read_answers(attacker.send(GOOD_GET + GOOD_PATCH[:size]))
            self.assertEqual(codes(answers), (200,))
            attacker.client.vanish()
            attacker.outlast()
            self.assertEqual(attacker.api.engine.calls, [])


class EndlessTests(WireCase):
    """Whatever a client sends without end, it is not read without end."""

    def assert_stopped(self, start: bytes, piece: bytes, code: int, held: int) -> None:
        """Check how much is read before the refusal, and before the client is no longer read."""
        attacker = Attacker()
        attacker.send(start)
        sent = 0
        while not attacker.received:
            self.assertLess(sent, held, (start, piece))
            attacker.send(piece)
            sent += len(piece)
        self.assertEqual(codes(read_answers(attacker.received)), (code,), (start, piece))
        attacker.send(b"x" * (Limits().linger_bytes - held))
        self.assertFalse(attacker.client.closed)
        attacker.send(b"x" * (held + 1))
        self.assertTrue(attacker.client.closed)
        self.assertEqual(attacker.api.engine.calls, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_heads(self) -> None:
        """A head is refused as soon as it is too large, and read on for a moment only."""
        line, head = attacks.LIMITS["line_bytes"], attacks.LIMITS["head_bytes"]
        for start, piece, code, held in [
            (b"", b"x" * 500, 414, line + 500),
            (b"GET /", b"?" * 500, 414, line + 500),
            (GET[:-2], b"x" * 500, 431, line + 500),
            (GET[:-2] + b"X: ", b"x" * 500, 431, line + 500),
            (GET[:-2], (b"X: " + b"x" * 500 + b"\r\n") * 2, 431, head + 1100),
            (GET[:-2], b"X: 1\r\n" * 100, 431, head),
        ]:
            self.assert_stopped(start, piece, code, held)

    def test_bodies(self) -> None:
        """So is a body, and what is no part of its content."""
        body = attacks.LIMITS["body_bytes"]
        begun = patch(CHUNKED)
        last = begun + b"b\r\n" + BODY + b"\r\n0\r\n"
        for start, piece, code, held in [
            (begun, b"100\r\n" + b" " * 256 + b"\r\n", 413, body + 600),
            (begun + b"ffffff\r\n", b" " * 500, 413, body + 600),
            (begun, b"1\r\n \r\n" * 100, 400, 10 * 1024),
            (begun, b"1;" + b"x" * 900 + b"\r\n \r\n", 400, 1100 * 1024),
            (begun, b"0" * 100, 400, 1200),
            (begun + b"1;", b"x" * 100, 400, 1200),
            (last, b"X: 1\r\n" * 100, 400, 66 * 1024),
            (last + b"X: ", b"x" * 1000, 400, 67 * 1024),
        ]:
            self.assert_stopped(start, piece, code, held)

    def test_behind_a_request(self) -> None:
        """What is sent while an answer is made is left where it is."""
        for piece in (GET * 100, b"x" * 4000, GOOD_PATCH * 50):
            attacker = Attacker()
            attacker.api.link.held = True
            attacker.send(b"GET /replica HTTP/1.1\r\nHost: node\r\n\r\n")
            sent = 0
            while attacker.client.pipe.producerState == "producing":
                self.assertLess(sent, 32 * 1024)
                attacker.send(piece)
                sent += len(piece)
            self.assertEqual(attacker.received, b"")
            self.assertEqual(attacker.api.engine.calls, [])
