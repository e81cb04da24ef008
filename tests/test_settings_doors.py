"""Tests of ``restapi.endpoints``, as tables."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.sections import error_of, settings
from twisted_patroni.settings import DoorSettings, Serves, VerifyClient

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
SECURE = {"certfile": "node.pem", "verify_client": "required"}


def door(main: dict[str, Any] | None = None, **entry: Any) -> DoorSettings:
    """Return the settings of one listener that serves all unless its entry says otherwise."""
    entry = {"endpoint": "tcp:8009", "serves": "all", **entry}
    (got,) = settings(endpoints=[entry], **(main or {})).doors
    return got


class DoorTests(SynchronousTestCase):
    """Further listeners."""

    def test_none(self) -> None:
        """There are none unless they are listed."""
        self.assertEqual(settings(endpoints=None).doors, ())
        self.assertEqual(settings(endpoints=[]).doors, ())

    def test_several(self) -> None:
        """Listeners keep their order and have their own rules."""
        got = settings(
            **SECURE,
            endpoints=[
                {
                    "endpoint": "tcp:8009:interface=127.0.0.1",
                    "serves": "health",
                    "tls": False,
                    "verify_client": "none",
                },
                {"endpoint": "unix:/run/patroni.sock", "serves": "Read", "tls": "off"},
                {"endpoint": "haproxy:tcp:8010", "serves": "all", "proxies": ["10.0.0.5"]},
            ],
        )
        none, required = VerifyClient.NONE, VerifyClient.REQUIRED
        self.assertEqual(
            got.doors,
            (
                DoorSettings("tcp:8009:interface=127.0.0.1", Serves.HEALTH, False, none),
                DoorSettings("unix:/run/patroni.sock", Serves.READ, False, required),
                DoorSettings(
                    "haproxy:tcp:8010", Serves.ALL, True, required, (ip_network("10.0.0.5/32"),)
                ),
            ),
        )
        self.assertEqual(got.warnings, ())

    def test_defaults(self) -> None:
        """Unless it says otherwise, a listener does as the main one."""
        plain, secure = door(), door(SECURE)
        self.assertEqual((plain.tls, plain.verify_client), (False, VerifyClient.NONE))
        self.assertEqual((secure.tls, secure.verify_client), (True, VerifyClient.REQUIRED))
        self.assertIsNone(secure.proxies)

    def test_certificates_of_a_plain_server(self) -> None:
        """Where the main listener speaks no TLS, what it would ask is not handed on."""
        self.assertIs(door({"verify_client": "required"}).verify_client, VerifyClient.NONE)

    def test_proxies(self) -> None:
        """Only listed proxies, or those on this machine, may say who the client is."""
        rows: list[tuple[dict[str, Any], Any]] = [
            ({}, LOOPBACK),
            ({"proxies": "10.0.0.0/8"}, (ip_network("10.0.0.0/8"),)),
            (
                {"proxies": ["10.1.2.3/8", "::ffff:192.0.2.1", "2001:db8::1"]},
                (ip_network("10.0.0.0/8"), ip_network("192.0.2.1"), ip_network("2001:db8::1")),
            ),
        ]
        for entry, expected in rows:
            self.assertEqual(door(endpoint="haproxy:tcp:8010", **entry).proxies, expected)

    def test_wrong_entries(self) -> None:
        """An error names the entry and the key."""
        text = "an endpoint string of Twisted's, as tcp:8009:interface=127.0.0.1"
        keys = "endpoint, serves, tls, verify_client, proxies"
        proxies = "networks or addresses (one or a list)"
        rows: list[tuple[dict[Any, Any], str]] = [
            ({"endpoint": None}, f".endpoint: expected {text}, but it is missing"),
            ({"endpoint": ""}, f".endpoint: expected {text}, but got ''"),
            ({"endpoint": 8009}, f".endpoint: expected {text}, but got 8009"),
            ({"serves": None}, ".serves: expected health, read or all, but it is missing"),
            ({"serves": ""}, ".serves: expected health, read or all, but got ''"),
            ({"serves": "write"}, ".serves: expected health, read or all, but got 'write'"),
            ({"serves": 1}, ".serves: expected health, read or all, but got 1"),
            ({"tls": "maybe"}, ".tls: expected true or false, but got 'maybe'"),
            ({"tls": True}, ".tls: TLS needs restapi.certfile, which is missing"),
            (
                {"verify_client": "always"},
                ".verify_client: expected none, optional or required, but got 'always'",
            ),
            (
                {"proxies": ["10.0.0.1"]},
                ".proxies: only an endpoint that begins with haproxy: has proxies, but this one is"
                " 'tcp:8009'",
            ),
            (
                {"endpoint": "haproxy:tcp:1", "proxies": []},
                f".proxies: expected {proxies}, but got []",
            ),
            (
                {"endpoint": "haproxy:tcp:1", "proxies": ["lb1"]},
                f".proxies: expected {proxies}, but got ['lb1']",
            ),
            (
                {"endpoint": "haproxy:tcp:1", "proxies": 7},
                f".proxies: expected {proxies}, but got 7",
            ),
            ({"serve": "all"}, f": unknown key 'serve'; the keys are {keys}"),
            ({1: 2}, f": unknown key 1; the keys are {keys}"),
        ]
        first = {"endpoint": "tcp:8010", "serves": "all"}
        for entry, expected in rows:
            second = {"endpoint": "tcp:8009", "serves": "all", **entry}
            error = error_of(endpoints=[first, second])
            self.assertEqual(error, f"restapi.endpoints[1]{expected}")

    def test_tls_in_the_string(self) -> None:
        """A string that would bring its own certificate is refused, with the way out."""
        for endpoint in ("ssl:8443", "tls:/etc/pki:tcp:8443", "haproxy:ssl:8443"):
            self.assertEqual(
                error_of(endpoints=[{"endpoint": endpoint, "serves": "all"}]),
                "restapi.endpoints[0].endpoint: give a tcp: endpoint and say tls: true, for TLS"
                f" comes with the certificate of the restapi section, but got '{endpoint}'",
            )

    def test_twice(self) -> None:
        """The same string twice is an error."""
        entry = {"endpoint": "tcp:8009", "serves": "all"}
        self.assertEqual(
            error_of(endpoints=[entry, {**entry, "serves": "read"}]),
            "restapi.endpoints[1].endpoint: 'tcp:8009' is there twice",
        )

    def test_no_list(self) -> None:
        """The listeners are a list of mappings."""
        rows: list[tuple[Any, str]] = [
            ("tcp:8009", ": expected a list of mappings, but got 'tcp:8009'"),
            ({}, ": expected a list of mappings, but got {}"),
            (["tcp:8009"], "[0]: expected a mapping, but got a str"),
            ([None], "[0]: expected a mapping, but got a NoneType"),
        ]
        for value, expected in rows:
            self.assertEqual(error_of(endpoints=value), f"restapi.endpoints{expected}")
