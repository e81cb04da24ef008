"""Tests of access to the API: every endpoint, with and without what it asks for."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tests.doubles import FakeEngine, make_cluster, make_node
from tests.logs import logged_by
from tests.memory_api import ApiCase, Reply, inline_lanes
from twisted_patroni.engine.interface import MemberView
from twisted_patroni.settings import Settings

KEY = b64encode(b"user:secret").decode()
GOOD = {"Authorization": f"Basic {KEY}"}
MESSAGE = {"name": "beta", "conn_url": "postgres://b", "api_url": "http://b"}

#: The endpoints that are checked, with a body that they take and the status they then have.
CHECKED: list[tuple[str, str, Any, int]] = [
    ("PATCH", "/config", {"ttl": 20}, 200),
    ("PUT", "/config", {"ttl": 20}, 200),
    ("POST", "/reload", None, 202),
    ("POST", "/sigterm", None, 202),
    ("POST", "/restart", None, 200),
    ("DELETE", "/restart", None, 200),
    ("POST", "/switchover", {"leader": "x"}, 412),
    ("DELETE", "/switchover", None, 404),
    ("POST", "/failover", {"leader": "x"}, 400),
    ("POST", "/reinitialize", None, 200),
    ("POST", "/citus", {"type": "x"}, 200),
    ("POST", "/mpp", {"type": "x"}, 200),
    ("POST", "/reload/anything", None, 202),
    ("DELETE", "/drain", None, 404),
    ("POST", "/drain", None, 200),
]
FAILSAFE: tuple[str, str, Any, int] = ("POST", "/failsafe", MESSAGE, 200)
OPEN = [
    ("GET", "/"),
    ("GET", "/primary"),
    ("HEAD", "/primary"),
    ("OPTIONS", "/primary"),
    ("GET", "/liveness"),
    ("HEAD", "/liveness"),
    ("GET", "/readiness"),
    ("GET", "/patroni"),
    ("GET", "/cluster"),
    ("GET", "/history"),
    ("GET", "/config"),
    ("GET", "/failsafe"),
    ("GET", "/metrics"),
]


def failsafe_engine(**changes: Any) -> FakeEngine:
    """Return an engine in failsafe mode."""
    node = make_node(failsafe_mode=True, failsafe_members={"alpha": "http://a"}, **changes)
    return FakeEngine(node)


class PasswordTests(ApiCase):
    """Basic authentication."""

    def test_checked(self) -> None:
        """Each unsafe endpoint asks for the password, word for word as upstream does."""
        self.use(failsafe_engine(), auth="user:secret")
        rows: list[tuple[dict[str, str], str | None]] = [
            ({}, "no auth header received"),
            ({"Authorization": f"basic {KEY}"}, "not authenticated"),
            ({"Authorization": "Basic nonsense"}, "not authenticated"),
            ({"Authorization": f"Bearer {KEY}"}, "not authenticated"),
            (GOOD, None),
            ({"AUTHORIZATION": f"Basic {KEY}"}, None),
        ]
        for number, (method, target, body, code) in enumerate([*CHECKED, FAILSAFE]):
            for headers, sentence in rows:
                # Each from elsewhere: one who goes on with wrong passwords has to wait.
                client = f"192.0.2.{number}"
                reply = self.request(method, target, headers, body, client=client)
                if sentence is None:
                    self.assertEqual(reply.code, code, f"{method} {target}")
                    continue
                self.assertReply(reply, 401, sentence)
                self.assertEqual(reply.header("WWW-Authenticate"), 'Basic realm="Patroni"')

    def test_refused_requests_do_nothing(self) -> None:
        """A refused request does not reach the engine."""
        self.use(failsafe_engine(), auth="user:secret")
        for method, target, body, _ in [*CHECKED, FAILSAFE]:
            self.request(method, target, {}, body)
        self.assertEqual((self.engine.calls, self.engine.begun), ([], 0))

    def test_open(self) -> None:
        """Reading needs no password, and a wrong one does no harm."""
        self.use(failsafe_engine(), auth="user:secret")
        for method, target in OPEN:
            for headers in ({}, {"Authorization": "Basic nonsense"}):
                self.assertEqual(self.request(method, target, headers).code, 200, target)

    def test_without_password(self) -> None:
        """Where none is configured, none is asked for."""
        self.use(failsafe_engine())
        for method, target, body, code in [*CHECKED, FAILSAFE]:
            self.assertEqual(self.request(method, target, {}, body).code, code, target)


class AddressTests(ApiCase):
    """The allowlist and the members' addresses."""

    def denied(self, reply: Reply) -> bool:
        """Tell whether a reply is that access is denied."""
        if reply.code != 403:
            return False
        self.assertReply(reply, 403, "Access is denied")
        self.assertIsNone(reply.header("WWW-Authenticate"))
        return True

    def test_allowlist(self) -> None:
        """Only those on the list may use the unsafe endpoints; IPv4 is IPv4, however it comes."""
        self.use(failsafe_engine(), allowlist=["192.0.2.0/24"])
        for client, admitted in (
            ("192.0.2.9", True),
            ("::ffff:192.0.2.9", True),
            ("198.51.100.1", False),
            ("2001:db8::1", False),
        ):
            for method, target, body, _ in [*CHECKED, FAILSAFE]:
                reply = self.request(method, target, {}, body, client=client)
                self.assertEqual(not self.denied(reply), admitted, f"{client} {target}")
            for method, target in OPEN:
                self.assertEqual(self.request(method, target, client=client).code, 200, target)

    def test_address_before_password(self) -> None:
        """Who is not on the list is not asked for a password."""
        self.use(auth="user:secret", allowlist=["192.0.2.0/24"])
        self.assertTrue(self.denied(self.request("POST", "/reload", client="198.51.100.1")))
        self.assertTrue(self.denied(self.request("POST", "/reload", GOOD, client="198.51.100.1")))
        self.assertEqual(self.request("POST", "/reload").code, 401)
        self.assertEqual(self.request("POST", "/reload", GOOD).code, 202)

    def test_members(self) -> None:
        """With nothing but members admitted, their addresses are the list."""
        self.use(failsafe_engine(), allowlist_include_members=True)
        self.api.open()
        self.engine.look()
        for client, admitted in (("10.0.0.2", True), ("10.0.0.9", False)):
            for method, target, body, _ in CHECKED:
                reply = self.request(method, target, {}, body, client=client)
                self.assertEqual(not self.denied(reply), admitted, f"{client} {target}")

    def test_failsafe_without_members(self) -> None:
        """For /failsafe the members do not count: no list means everybody, a list means it."""
        for section, client, admitted in (
            ({"allowlist_include_members": True}, "198.51.100.1", True),
            ({"allowlist_include_members": True, "allowlist": ["192.0.2.1"]}, "10.0.0.2", False),
            ({"allowlist_include_members": True, "allowlist": ["192.0.2.1"]}, "192.0.2.1", True),
        ):
            self.use(failsafe_engine(), **section)
            self.api.open()
            self.engine.look()
            reply = self.request("POST", "/failsafe", {}, MESSAGE, client=client)
            self.assertEqual(not self.denied(reply), admitted, f"{section} {client}")

    def test_members_not_resolved(self) -> None:
        """A member whose name is not resolved yet is not admitted, and does not wait for it."""
        members = (MemberView("beta", "http://beta.example:8008/patroni"),)
        self.use(allowlist_include_members=True)
        self.engine.view = make_node(cluster=make_cluster(members=members))
        self.api.open()
        self.engine.dcs = make_cluster(members=members)
        self.engine.look()
        self.assertTrue(self.denied(self.request("POST", "/reload", client="10.0.0.2")))

    def test_members_without_dcs(self) -> None:
        """While the DCS is away, no member is known, and only those listed are admitted."""
        self.use(allowlist_include_members=True, allowlist=["192.0.2.7"])
        self.api.open()
        self.engine.look()
        self.assertEqual(self.request("POST", "/reload", client="10.0.0.2").code, 202)
        self.engine.view = make_node(cluster=None)
        self.assertTrue(self.denied(self.request("POST", "/reload", client="10.0.0.2")))
        self.assertEqual(self.request("POST", "/reload").code, 202)

    def test_unresolved_list(self) -> None:
        """A list of names that are not resolved yet admits nobody; it is not an empty list."""
        self.use(allowlist=["proxy.example"])
        self.assertTrue(self.denied(self.request("POST", "/reload")))

    def test_resolved_list(self) -> None:
        """Names on the list stand for their addresses, as soon as these are known."""
        self.use(lanes=inline_lanes(), allowlist=["localhost"])
        self.assertEqual(self.request("POST", "/reload", client="127.0.0.1").code, 202)
        self.assertTrue(self.denied(self.request("POST", "/reload")))

    def test_unix_socket(self) -> None:
        """A client of a Unix socket counts as 127.0.0.1."""
        rows: list[tuple[dict[str, Any], int]] = [({}, 202)]
        rows.append(({"allowlist": ["127.0.0.1"]}, 202))
        rows.append(({"allowlist": ["192.0.2.0/24", "::1"]}, 403))
        for section, code in rows:
            self.use(**section)
            self.assertEqual(self.request("POST", "/reload", client="").code, code)


class ReloadTests(ApiCase):
    """Changed settings."""

    def test_next_request(self) -> None:
        """Changed settings count from the next request on."""
        self.assertEqual(self.request("POST", "/reload").code, 202)
        changed = Settings.of({"listen": "127.0.0.1:8008", "auth": "user:secret"})
        self.api.api.apply(changed, None)
        self.assertEqual(self.request("POST", "/reload").code, 401)
        self.assertEqual(self.request("POST", "/reload", GOOD).code, 202)

    def test_warning(self) -> None:
        """A node that anybody can change is warned about, at the start and at each reload."""
        events = logged_by(self, "twisted_patroni.restapi")
        for section, warnings in (
            ({"listen": "*:8008"}, 1),
            ({"listen": "*:8008", "auth": "user:secret"}, 0),
            ({"listen": "127.0.0.1:8008"}, 0),
        ):
            events.clear()
            self.api.api.apply(Settings.of(section), None)
            found = [event for event in events if "SECURITY" in event["log_format"]]
            self.assertEqual(len(found), warnings, section)
