"""Request targets and answers as text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.web.answers import Answer, bare_answer, error_page, json_answer
from twisted_patroni.web.wire import (
    HTTP_1_0,
    HTTP_1_1,
    bad_line_status,
    encode_answer,
    header_lines,
    is_field,
    parse_target,
    plain_host,
)

STANDARD = b"Server: S\r\nDate: D\r\n"
EXTRA = b"X: 1\r\n"


def encoded(
    answer: Answer, version: bytes = HTTP_1_1, method: bytes = b"GET", close: bool = False
) -> bytes:
    """Return the bytes of an answer with fixed surroundings."""
    return encode_answer(
        answer, version=version, method=method, close=close, standard=STANDARD, extra=EXTRA
    )


class TargetTests(SynchronousTestCase):
    """Targets are read as upstream reads them."""

    def test_path(self) -> None:
        """Only the path counts, and nothing in it is decoded."""
        for raw, path in [
            (b"/primary", "/primary"),
            (b"/PRIMARY", "/PRIMARY"),
            (b"/%70rimary", "/%70rimary"),
            (b"//leader", "/leader"),
            (b"///leader//x", "/leader//x"),
            (b"//", "/"),
            (b"http://h/patroni", "/patroni"),
            (b"http://h//leader", "/leader"),
            (b"http://h", ""),
            (b"http://h/", "/"),
            (b"/a;b=c", "/a"),
            (b"?lag=1", ""),
            (b"*", "*"),
            (b"primary", "primary"),
            (b"/..//%00/:", "/..//%00/:"),
        ]:
            self.assertEqual(parse_target(raw).path, path, raw)

    def test_components(self) -> None:
        """The path is cut at its slashes; only the leading one counts for nothing."""
        for raw, components in [
            (b"/", [b""]),
            (b"http://h", []),
            (b"/a/b", [b"a", b"b"]),
            (b"//a//b/", [b"a", b"", b"b", b""]),
            (b"*", [b"*"]),
            (b"/%61/:", [b"%61", b":"]),
        ]:
            self.assertEqual(list(parse_target(raw).components), components, raw)

    def test_query(self) -> None:
        """Values are decoded, empty ones dropped, and the first of several is taken."""
        for raw, query in [
            (b"/?lag=1&lag=2", {"lag": "1"}),
            (b"/?lag=&lag=2", {"lag": "2"}),
            (b"/?lag=", {}),
            (b"/?lag", {}),
            (b"/?a=%31%26+b&c=d", {"a": "1& b", "c": "d"}),
            (b"/?a=%ff", {"a": "\ufffd"}),
            (b"/", {}),
        ]:
            self.assertEqual(parse_target(raw).query, query, raw)

    def test_unreadable(self) -> None:
        """A target that cannot be a URL, or may be read in two ways, is an error."""
        for raw in [
            b"http://[/",
            b"http://]/x",
            b"http://[::1/x",
            b"/config#x",
            b"/?a#b",
            b"x:config",
            b"http:config",
            b"http:///config",
            b"node:8008",
            b"/\x7f",
            b"/\xa0",
            b"/a b",
            b"",
        ]:
            self.assertRaises(ValueError, parse_target, raw)

    def test_bad_line(self) -> None:
        """Another version is told from what is not a request line of HTTP at all."""
        for line, code in [
            (b"PRI * HTTP/2.0", 505),
            (b"GET / HTTP/3.7", 505),
            (b"GET / HTTP/10.0", 505),
            (b"GET / HTTP/1.1", 400),
            (b"GET /", 400),
            (b"GET / HTTP/x", 400),
            (b"GET  / HTTP/2.0", 400),
            (b"", 400),
        ]:
            self.assertEqual(bad_line_status(line), code, line)

    def test_fields(self) -> None:
        """A field is a token, a colon and whatever does not end the line."""
        for line in [b"a:b", b"A-_b: c : d", b"X:", b"x:\xff\t"]:
            self.assertTrue(is_field(line), line)
        for line in [b"", b":", b": b", b"a", b"a :b", b" a: b", b"a: b\n", b"a:\rb", b"a:\0"]:
            self.assertFalse(is_field(line), line)


class AddressTests(SynchronousTestCase):
    """Addresses are shown as their owners write them."""

    def test_plain_host(self) -> None:
        """Only IPv4 in IPv6's clothes is changed."""
        for host, shown in [
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:c000:201", "192.0.2.1"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("", ""),
            ("no: address", "no: address"),
        ]:
            self.assertEqual(plain_host(host), shown)


class AnswerTests(SynchronousTestCase):
    """Answers have upstream's shape."""

    def test_bare(self) -> None:
        """A bare answer is one line to HTTP/1.0, and as short as possible to HTTP/1.1."""
        for method in (b"GET", b"HEAD", b"OPTIONS"):
            self.assertEqual(
                encoded(bare_answer(200), HTTP_1_0, method, close=True), b"HTTP/1.0 200 OK\r\n\r\n"
            )
            self.assertEqual(
                encoded(bare_answer(503), method=method),
                b"HTTP/1.1 503 Service Unavailable\r\n" + STANDARD + b"Content-Length: 0\r\n\r\n",
            )
        self.assertEqual(
            encoded(bare_answer(200), close=True),
            b"HTTP/1.1 200 OK\r\n" + STANDARD + b"Content-Length: 0\r\nConnection: close\r\n\r\n",
        )

    def test_normal(self) -> None:
        """Headers come in upstream's order, the operator's last."""
        answer = json_answer({"a": 1}, headers=(("lsn", "5"),))
        self.assertEqual(
            encoded(answer, close=True),
            b"HTTP/1.1 200 OK\r\n"
            + STANDARD
            + b"lsn: 5\r\nContent-Type: application/json\r\nContent-Length: 8\r\n"
            + b'Connection: close\r\nX: 1\r\n\r\n{"a": 1}',
        )

    def test_head(self) -> None:
        """HEAD gets the headers of GET and no body."""
        for answer in (json_answer([1, 2]), error_page(404)):
            head = encoded(answer, method=b"HEAD")
            self.assertEqual(head + answer.body, encoded(answer))

    def test_page(self) -> None:
        """A page has its own reason phrase, and the operator's headers as well."""
        page = encoded(error_page(501, "Unsupported method ('POST')"))
        self.assertTrue(page.startswith(b"HTTP/1.1 501 Unsupported method ('POST')\r\n"))
        self.assertIn(b"\r\nContent-Type: text/html;charset=utf-8\r\n", page)
        self.assertIn(b"\r\nX: 1\r\n\r\n", page)

    def test_no_header_injection(self) -> None:
        """Line breaks in texts do not become line breaks on the wire."""
        lines = header_lines([("A\r\nB", "c\r\nD: e\0\u2603\xe9")])
        self.assertEqual(lines, b"A  B: c  D: e ?\xe9\r\n")
        status = encoded(error_page(400, "x\r\nEvil: 1")).split(b"\r\n")[0]
        self.assertEqual(status, b"HTTP/1.1 400 x  Evil: 1")
