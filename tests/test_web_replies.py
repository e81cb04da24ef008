"""Tests of what all replies of the API have in common: status line, headers, methods, log."""

from __future__ import annotations

import logging

from tests.memory_api import ApiCase

SENTENCE = "Server does not support this operation."


class MethodTests(ApiCase):
    """Methods that a path does not have."""

    def test_unsupported(self) -> None:
        """501 with the sentence that patronictl looks for, and the method in the reason."""
        for method, target in (
            ("POST", "/"),
            ("POST", "/nope"),
            ("POST", "/primary"),
            ("PUT", "/restart"),
            ("DELETE", "/config"),
            ("DELETE", "/"),
            ("PATCH", "/reload"),
            ("TRACE", "/"),
            ("FOO", "/"),
            ("GET_config", "/"),
            ("POST_reload", "/x"),
            ("get", "/primary"),
        ):
            reply = self.request(method, target)
            reason = f"Unsupported method ({method!r})"
            self.assertEqual((reply.code, reply.reason), (501, reason), f"{method} {target}")
            self.assertErrorPage(reply, 501, SENTENCE, f"Message: {reason}.")
        self.assertEqual(self.engine.calls, [])

    def test_patronictl(self) -> None:
        """The sentence is in the reply as patronictl compares it."""
        reply = self.request("POST", "/nope", body={"a": 1})
        self.assertIn(SENTENCE, reply.body.decode())
        self.assertNotIn(f"{SENTENCE}.", reply.body.decode())


class HeaderTests(ApiCase):
    """Headers."""

    def test_order(self) -> None:
        """Server and Date, the call's own, Content-Type, then the configured ones in order."""
        self.use(auth="user:secret", http_extra_headers={"X-B": "1", "X-A": "2"})
        names = [name for name, _ in self.request("POST", "/reload").headers]
        order = ["Server", "Date", "WWW-Authenticate", "Content-Type", "X-B", "X-A"]
        self.assertEqual([name for name in names if name in order], order)

    def test_extra(self) -> None:
        """Configured headers are on all replies but bare ones, error pages included."""
        self.use(auth="user:secret", http_extra_headers={"X-Extra": "yes"})
        rows = (
            ("GET", "/primary", "yes"),
            ("GET", "/nope", "yes"),
            ("GET", "/metrics", "yes"),
            ("GET", "/cluster", "yes"),
            ("HEAD", "/cluster", "yes"),
            ("POST", "/reload", "yes"),
            ("POST", "/nope", "yes"),
            ("GET", "/failsafe", "yes"),
            ("GET", "/liveness", None),
            ("GET", "/readiness", None),
            ("OPTIONS", "/", None),
            ("HEAD", "/primary", None),
        )
        for method, target, expected in rows:
            reply = self.request(method, target)
            self.assertEqual(reply.header("X-Extra"), expected, f"{method} {target}")

    def test_extra_on_protocol_errors(self) -> None:
        """They are also on the replies to requests that cannot be read."""
        self.use(http_extra_headers={"X-Extra": "yes"})
        reply = self.request("GET", "/", {"X": "y" * 70000})
        self.assertEqual((reply.code, reply.header("X-Extra")), (431, "yes"))

    def test_extra_named_like_a_standard_one(self) -> None:
        """Such a header is added, not substituted."""
        self.use(http_extra_headers={"Server": "mine"})
        reply = self.request("GET", "/primary")
        servers = [value for name, value in reply.headers if name == "Server"]
        self.assertEqual(len(servers), 2)
        self.assertEqual(servers[1], "mine")

    def test_server(self) -> None:
        """The Server header says as much as is configured."""
        for word, expected in (
            ("minimal", "Patroni/4.1.5"),
            ("ProductOnly", "Patroni"),
            ("original", "TwistedWeb/"),
            (None, "TwistedWeb/"),
        ):
            self.use(server_tokens=word)
            server = self.request("GET", "/primary").header("Server") or ""
            self.assertTrue(server.startswith(expected), server)
            if not expected.endswith("/"):
                self.assertEqual(server, expected)

    def test_date(self) -> None:
        """The date is the clock's."""
        date = self.request("GET", "/primary").header("Date")
        self.assertEqual(date, "Wed, 01 Jul 2026 12:00:00 GMT")

    def test_version(self) -> None:
        """HTTP/1.0 is answered in kind and closed, also if keep-alive was asked for."""
        connection = self.api.begin("GET", "/primary", {"Connection": "keep-alive"})
        self.assertTrue(connection.received().startswith(b"HTTP/1.0 200 OK\r\n"))
        self.api.clock.advance(0)
        self.assertTrue(connection.closed)


class LogTests(ApiCase):
    """The log line of each answered request."""

    def test_line(self) -> None:
        """Upstream's line at DEBUG, under upstream's name; nothing at INFO."""
        with self.assertLogs("patroni.api", logging.DEBUG) as seen:
            self.request("GET", "/primary?lag=1")
            self.request("OPTIONS", "/")
            self.request("POST", "/nope")
        lines = [record.getMessage() for record in seen.records]
        self.assertRegex(
            lines[0],
            r'^API thread: 192\.0\.2\.7 - - "GET /primary\?lag=1 HTTP/1\.0" 200'
            r" - latency: \d+\.\d{3} ms$",
        )
        self.assertIn('"OPTIONS / HTTP/1.0" 200', lines[1])
        self.assertIn('"POST /nope HTTP/1.0" 501', lines[2])
        self.assertEqual({record.levelno for record in seen.records}, {logging.DEBUG})
