"""Tests of twisted_patroni.settings, as tables: one row is one case."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sections import HASH, error_of, settings
from twisted_patroni.settings import MINIMUM_BACKLOG, HostPort, Settings, SettingsError


class ListenTests(SynchronousTestCase):
    """Where to listen, and what other members are told."""

    def test_listen(self) -> None:
        """The last colon separates host and port; an empty host and ``*`` mean every address."""
        rows = {
            "127.0.0.1:8008": HostPort("127.0.0.1", 8008),
            "node1:80": HostPort("node1", 80),
            ":8008": HostPort("", 8008),
            "*:8008": HostPort("", 8008),
            "[::1]:8008": HostPort("::1", 8008),
            "::1:8008": HostPort("::1", 8008),
            "0.0.0.0:8008": HostPort("0.0.0.0", 8008),
        }
        for text, expected in rows.items():
            self.assertEqual(settings(text).listen, expected, text)

    def test_bad_listen(self) -> None:
        """What upstream refuses is refused, in its words."""
        for text in ("localhost", "8008", "127.0.0.1:", "127.0.0.1:http", ""):
            error = self.assertRaises(SettingsError, settings, text)
            self.assertEqual(
                str(error),
                f'Invalid "restapi" config: expected <HOST>:<PORT> for "listen", but got "{text}"',
            )
        for text in ("127.0.0.1:65536", "127.0.0.1:-1"):
            self.assertRaises(SettingsError, settings, text)

    def test_no_listen(self) -> None:
        """Listen is the one key that must be there."""
        for section in ({}, {"listen": None}, {"connect_address": "127.0.0.1:8008"}):
            error = self.assertRaises(SettingsError, Settings.of, section)
            self.assertEqual(str(error), 'Can not find "restapi.listen" config')
        error = self.assertRaises(SettingsError, Settings.of, None)
        self.assertEqual(str(error), 'Can not find "restapi.listen" config')

    def test_connection_string(self) -> None:
        """Members are told the connect address, or the address listened on."""
        rows = [
            ("127.0.0.1:8008", None, "http://127.0.0.1:8008/patroni"),
            ("127.0.0.1:8008", "node1:8009", "http://node1:8009/patroni"),
            ("127.0.0.1:8008", "node1", "http://node1/patroni"),
            ("*:8008", None, "http://*:8008/patroni"),
            ("*:8008", "[2001:db8::1]:8008", "http://[2001:db8::1]:8008/patroni"),
            ("*:8008", "2001:db8::1:8008", "http://[2001:db8::1]:8008/patroni"),
            ("[::1]:8008", None, "http://[::1]:8008/patroni"),
        ]
        for listen, connect, expected in rows:
            got = settings(listen, connect_address=connect).connection_string
            self.assertEqual(got, expected, f"{listen} {connect}")

    def test_scheme(self) -> None:
        """With a certificate, members are told an https URL."""
        self.assertEqual(settings().scheme, "http")
        got = settings(certfile="node.pem")
        self.assertEqual(got.scheme, "https")
        self.assertEqual(got.connection_string, "https://127.0.0.1:8008/patroni")


class CredentialTests(SynchronousTestCase):
    """The password."""

    def test_table(self) -> None:
        """Both spellings make the same key; an empty ``auth`` makes none; two empty texts do."""
        rows: list[tuple[dict[str, Any], bytes | None]] = [
            ({}, None),
            ({"auth": ""}, None),
            ({"auth": None}, None),
            ({"auth": "user:secret"}, b"user:secret"),
            ({"auth": "us\u00e9r:s"}, "us\u00e9r:s".encode()),
            ({"authentication": {"username": "user", "password": "secret"}}, b"user:secret"),
            ({"authentication": {"username": "", "password": ""}}, b":"),
            ({"authentication": {"username": 1, "password": 2}}, b"1:2"),
        ]
        for section, expected in rows:
            key = None if expected is None else b64encode(expected)
            self.assertEqual(settings(**section).credentials, key, section)

    def test_wrong(self) -> None:
        """Half an authentication is none, and no error shows a password."""
        rows: list[dict[str, Any]] = [
            {"authentication": {"username": "user"}},
            {"authentication": {"password": "secret"}},
            {"authentication": None},
            {"authentication": "secret"},
            {"auth": ["secret"]},
        ]
        for section in rows:
            error = self.assertRaises(SettingsError, settings, **section)
            self.assertIn("restapi.auth", str(error), section)
            self.assertNotIn("secret", str(error), section)

    def test_not_shown(self) -> None:
        """Neither passwords nor their hashes are in what ends in a log or a traceback."""
        got = settings(auth="user:secret", users={"alice": HASH})
        self.assertNotIn(b64encode(b"user:secret").decode(), repr(got))
        self.assertNotIn("argon2", repr(got))


class AllowlistTests(SynchronousTestCase):
    """Who may use the unsafe endpoints."""

    def test_entries(self) -> None:
        """Networks may have host bits, addresses are networks of one, the rest are names."""
        got = settings(allowlist=["10.1.2.3/8", " 192.0.2.1 ", "2001:db8::/32", "node1", "127.1"])
        self.assertEqual(
            got.networks,
            (ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32"), ip_network("2001:db8::/32")),
        )
        self.assertEqual(got.allowed_hosts, ("node1", "127.1"))
        self.assertTrue(got.restricted)

    def test_mapped(self) -> None:
        """IPv4 networks in the spelling of a dual-stack listener admit IPv4 clients."""
        got = settings(allowlist=["::ffff:10.1.2.3", "::ffff:10.0.0.0/104", "::/0"])
        self.assertEqual(
            got.networks,
            (ip_network("10.1.2.3/32"), ip_network("10.0.0.0/8"), ip_network("::/0")),
        )

    def test_absent(self) -> None:
        """No list and an empty list restrict nothing."""
        rows: tuple[Any, ...] = (None, [])
        for value in rows:
            got = settings(allowlist=value)
            self.assertEqual((got.networks, got.restricted), ((), False), repr(value))

    def test_wrong(self) -> None:
        """An entry that cannot work is an error: skipping it could leave the node open."""
        rows: list[Any] = [["10.0.0.0/33"], ["node1/24"], [""], [7], [None], "10.0.0.0/8", {"a": 1}]
        for value in rows:
            self.assertIn("restapi.allowlist", error_of(allowlist=value), repr(value))
        self.assertEqual(
            error_of(allowlist="10.0.0.0/8"),
            "restapi.allowlist: expected a list, but got '10.0.0.0/8'",
        )

    def test_include_members(self) -> None:
        """The flag is a truth value in any of YAML's and the environment's spellings."""
        rows: list[tuple[Any, bool]] = [(None, False), (True, True), (False, False)]
        rows += [("on", True), ("TRUE", True)]
        rows += [("no", False), (1, True), ("0", False)]
        for value, expected in rows:
            got = settings(allowlist_include_members=value)
            self.assertIs(got.include_members, expected, repr(value))
        self.assertEqual(
            error_of(allowlist_include_members="maybe"),
            "restapi.allowlist_include_members: expected true or false, but got 'maybe'",
        )

    def test_open_to_network(self) -> None:
        """A node is open when anything but loopback can reach it and nothing guards it."""
        rows: list[tuple[str, dict[str, Any], bool]] = [
            ("127.0.0.1:8008", {}, False),
            ("127.9.9.9:8008", {}, False),
            ("[::1]:8008", {}, False),
            ("localhost:8008", {}, False),
            ("*:8008", {}, True),
            ("10.0.0.1:8008", {}, True),
            ("node1:8008", {}, True),
            ("*:8008", {"auth": "user:secret"}, False),
            ("*:8008", {"allowlist": ["10.0.0.0/8"]}, False),
            ("*:8008", {"allowlist": []}, True),
            ("*:8008", {"allowlist_include_members": True}, False),
            ("*:8008", {"users": {"alice": HASH}}, False),
            ("*:8008", {"access": []}, False),
            ("*:8008", {"certfile": "x"}, True),
            ("*:8008", {"certfile": "x", "verify_client": "optional"}, False),
            ("*:8008", {"verify_client": "required"}, True),
        ]
        for listen, section, expected in rows:
            self.assertIs(
                settings(listen, **section).open_to_network, expected, f"{listen} {section}"
            )


class UnknownKeyTests(SynchronousTestCase):
    """Keys that nobody knows."""

    def test_warning(self) -> None:
        """A misspelt key has no effect, as with upstream, but is named."""
        got = Settings.of({"listen": "127.0.0.1:8008", "protect_read": True})
        self.assertFalse(got.protect_reads)
        self.assertEqual(
            got.warnings, ("restapi.protect_read: there is no such key, so it has no effect",)
        )


class OtherKeyTests(SynchronousTestCase):
    """All other keys."""

    def test_defaults(self) -> None:
        """A section with listen alone is complete."""
        got = settings()
        self.assertEqual(
            (got.credentials, got.extra_headers, got.server_token, got.backlog, got.legacy_roles),
            (None, (), None, MINIMUM_BACKLOG, False),
        )

    def test_server_tokens(self) -> None:
        """Three words in any case; another word is worth a warning and changes nothing."""
        rows: list[tuple[Any, str | None]] = [
            (None, None),
            ("Original", None),
            ("original", None),
            ("Minimal", "Patroni/4.1.5"),
            ("MINIMAL", "Patroni/4.1.5"),
            ("ProductOnly", "Patroni"),
            ("productonly", "Patroni"),
            ("Full", None),
            ("", None),
        ]
        for value, expected in rows:
            self.assertEqual(settings(server_tokens=value).server_token, expected, repr(value))
        self.assertEqual(
            error_of(server_tokens=7),
            "restapi.server_tokens: expected Original, Minimal or ProductOnly, but got 7",
        )

    def test_unknown_server_tokens_are_warned_about(self) -> None:
        """Only a word that means nothing is worth a warning."""
        for value in (None, "", "original", "Minimal", "ProductOnly"):
            self.assertEqual(settings(server_tokens=value).warnings, (), repr(value))
        self.assertEqual(
            settings(server_tokens="Full").warnings,
            (
                "restapi.server_tokens: expected Original, Minimal or ProductOnly, but got 'Full':"
                " the Server header stays as it is",
            ),
        )

    def test_extra_headers(self) -> None:
        """Headers keep their order, and their values are texts."""
        got = settings(http_extra_headers={"X-B": 1, "X-A": "two words", "Server": True})
        self.assertEqual(
            got.extra_headers, (("X-B", "1"), ("X-A", "two words"), ("Server", "True"))
        )

    def test_https_headers(self) -> None:
        """Headers for https are sent over TLS only, and take the place of their namesakes."""
        got = settings(
            http_extra_headers={"X-A": "1", "X-B": "2"}, https_extra_headers={"X-A": 3, "X-C": 4}
        )
        self.assertEqual(got.extra_headers, (("X-A", "1"), ("X-B", "2")))
        self.assertEqual(got.https_extra_headers, (("X-A", "3"), ("X-C", "4")))
        self.assertEqual(got.headers(tls=False), (("X-A", "1"), ("X-B", "2")))
        self.assertEqual(got.headers(tls=True), (("X-A", "3"), ("X-B", "2"), ("X-C", "4")))

    def test_wrong_extra_headers(self) -> None:
        """A name that is none, or a value with a line break, names the key."""
        rows: list[tuple[Any, str]] = [
            (["X"], ": expected a mapping of header names to values"),
            ("X: y", ": expected a mapping of header names to values"),
            ({"X Y": "z"}, ": 'X Y' is not a header name"),
            ({"": "z"}, ": '' is not a header name"),
            ({"X": "a\r\nY: b"}, ".X: a header value cannot hold a line break"),
            ({"X": "a\n"}, ".X: a header value cannot hold a line break"),
        ]
        for key in ("http_extra_headers", "https_extra_headers"):
            for value, expected in rows:
                self.assertEqual(error_of(**{key: value}), f"restapi.{key}{expected}")

    def test_backlog(self) -> None:
        """The queue of the kernel is as long as asked, but never short."""
        for value, expected in ((None, 1024), (5, 1024), ("5", 1024), (0, 1024), (4096, 4096)):
            self.assertEqual(settings(request_queue_size=value).backlog, expected, repr(value))
        rows: list[tuple[Any, str]] = [
            (-1, "0 to 4096, but got -1"),
            (4097, "0 to 4096, but got 4097"),
            ("many", "a whole number, but got 'many'"),
            (1.5, "a whole number, but got 1.5"),
            (True, "a whole number, but got True"),
        ]
        for wrong, text in rows:
            error = error_of(request_queue_size=wrong)
            self.assertEqual(error, f"restapi.request_queue_size: expected {text}")

    def test_one_line(self) -> None:
        """An error is one line, for it ends on an operator's terminal."""
        rows: list[dict[str, Any]] = [
            {"allowlist": "a\nb"},
            {"endpoints": [{"a\nb": 1}]},
            {"users": {"a\nb": HASH}},
            {"http_extra_headers": {"a\nb": 1}},
        ]
        for section in rows:
            error = error_of(**section)
            self.assertTrue(error, section)
            self.assertNotIn("\n", error)
