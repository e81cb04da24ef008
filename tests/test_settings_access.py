"""Tests of ``restapi.access``, ``restapi.users`` and ``restapi.protect_reads``, as tables."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from twisted.trial.unittest import SynchronousTestCase

from tests.sections import HASH, error_of, settings
from twisted_patroni.settings import Right, Rule

SALT, HASHED = HASH.rsplit("$", 2)[1:]
EVERYTHING = frozenset(Right)
MUTUAL = {"certfile": "node.pem", "verify_client": "optional"}


class UserTests(SynchronousTestCase):
    """Passwords by user."""

    def test_users(self) -> None:
        """Users are there beside the one of the authentication."""
        got = settings(users={"alice": HASH, "Bob O'Neil": HASH}, auth="postgres:secret")
        self.assertEqual(got.users, {"alice": HASH, "Bob O'Neil": HASH})
        self.assertIsNotNone(got.credentials)
        self.assertEqual(settings(users=None).users, {})
        self.assertEqual(settings(users={}).users, {})

    def test_hash_of_the_library(self) -> None:
        """What the library makes is accepted."""
        argon = Argon2id(salt=b"0" * 16, length=32, iterations=2, lanes=2, memory_cost=64)
        hashed = argon.derive_phc_encoded(b"secret")
        self.assertEqual(settings(users={"alice": hashed}).users, {"alice": hashed})

    def test_cost(self) -> None:
        """One attempt to log in must not cost more than the node can spare."""
        rows = [
            ("m=262144,t=10,p=16", True),
            ("m=262145,t=1,p=1", False),
            ("m=9999999999,t=1,p=1", False),
            ("m=1024,t=11,p=1", False),
            ("m=1024,t=1,p=17", False),
            ("m=8,t=1,p=1", True),
            ("m=15,t=1,p=2", False),
            ("m=0,t=1,p=1", False),
            ("m=1024,t=0,p=1", False),
            ("m=1024,t=1,p=0", False),
        ]
        for costs, accepted in rows:
            error = error_of(users={"alice": f"$argon2id$v=19${costs}${SALT}${HASHED}"})
            self.assertEqual(error == "", accepted, costs)

    def test_wrong_hashes(self) -> None:
        """An error names the user, and shows neither hash nor password."""
        start = "$argon2id$v=19$m=1024,t=1,p=1"
        rows: list[Any] = [
            "secret",
            "",
            None,
            1234,
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            HASH.replace("argon2id", "argon2i"),
            HASH.replace("v=19", "v=16"),
            HASH.replace("v=19$", ""),
            f"{start}${SALT}",
            f"{start}$${HASHED}",
            f"{start}${SALT}$",
            f"{start}${SALT}$abcd",
            f"{start}${SALT}c2${HASHED}",
            f"{start}${SALT}=${HASHED}==",
            f"$argon2id$v=19$t=1,m=1024,p=1${SALT}${HASHED}",
            f"{HASH}\n",
            f" {HASH}",
        ]
        for value in rows:
            self.assertEqual(
                error_of(users={"bob": HASH, "alice": value}),
                "restapi.users.alice: expected an Argon2id hash in PHC's format, as"
                " $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH (m <= 262144, t <= 10, p <= 16),"
                " but got something else",
                repr(value),
            )

    def test_wrong_names(self) -> None:
        """A name that basic authentication cannot carry is an error."""
        for name in ("", "a:b", "a\nb", "a\x7f", 1, None, True):
            self.assertEqual(
                error_of(users={name: HASH}),
                "restapi.users: expected names without colons and control characters,"
                f" but got {name!r}",
            )

    def test_name_of_the_authentication(self) -> None:
        """One user cannot have two passwords."""
        rows: list[dict[str, Any]] = [
            {"auth": "postgres:secret"},
            {"authentication": {"username": "postgres", "password": "secret"}},
        ]
        for section in rows:
            self.assertEqual(
                error_of(users={"postgres": HASH}, **section),
                "restapi.users.postgres: restapi.authentication has a user of this name",
            )

    def test_no_mapping(self) -> None:
        """Users are a mapping; what else is there is not shown, for it may hold passwords."""
        for value, kind in ((["alice:secret"], "list"), ("alice:secret", "str")):
            self.assertEqual(
                error_of(users=value), f"restapi.users: expected a mapping, but got a {kind}"
            )


class RuleTests(SynchronousTestCase):
    """Who may do what."""

    def test_no_rules(self) -> None:
        """No list leaves it to Patroni's one check; an empty list allows nobody anything."""
        self.assertIsNone(settings().rules)
        self.assertIsNone(settings(access=None).rules)
        self.assertEqual(settings(access=[]).rules, ())

    def test_rules(self) -> None:
        """Rules keep their order and their conditions."""
        got = settings(
            **MUTUAL,
            auth="postgres:secret",
            users={"alice": HASH},
            access=[
                {"may": "all", "subject": "CN=admin,*"},
                {"may": ["operate", "read"], "san": "DNS:*.ops.example.com", "user": "alice"},
                {"may": ["configure"], "user": "postgres", "network": "10.1.2.3/8"},
                {"may": "read", "network": ["192.0.2.1", "2001:db8::/32"]},
            ],
        )
        self.assertEqual(
            got.rules,
            (
                Rule(EVERYTHING, subject="CN=admin,*"),
                Rule(
                    frozenset({Right.OPERATE, Right.READ}),
                    san="DNS:*.ops.example.com",
                    user="alice",
                ),
                Rule(
                    frozenset({Right.CONFIGURE}),
                    user="postgres",
                    networks=(ip_network("10.0.0.0/8"),),
                ),
                Rule(
                    frozenset({Right.READ}),
                    networks=(ip_network("192.0.2.1"), ip_network("2001:db8::/32")),
                ),
            ),
        )
        self.assertEqual(got.warnings, ())

    def test_wrong(self) -> None:
        """A condition that is empty or unknown is an error: without it, more clients match."""
        may = ".may: expected read, operate, configure, all or a list of these, but"
        networks = ".network: expected networks or addresses (one or a list), but"
        subject = ".subject: expected a pattern of a certificate's subject, but"
        san = ".san: expected a pattern of a certificate's alternative name, but"
        keys = "may, subject, san, user, network"
        rows: list[tuple[dict[str, Any], str]] = [
            ({"may": None}, f"{may} it is missing"),
            ({"may": []}, f"{may} got []"),
            ({"may": "write"}, f"{may} got 'write'"),
            ({"may": ["read", "write"]}, f"{may} got ['read', 'write']"),
            ({"may": [["read"]]}, f"{may} got [['read']]"),
            ({"may": True}, f"{may} got True"),
            ({"network": []}, f"{networks} got []"),
            ({"network": None}, f"{networks} it is missing"),
            ({"network": ["node1"]}, f"{networks} got ['node1']"),
            ({"network": "10.0.0.0/33"}, f"{networks} got '10.0.0.0/33'"),
            ({"subject": ""}, f"{subject} got ''"),
            ({"subject": ["CN=a"]}, f"{subject} got ['CN=a']"),
            ({"san": None}, f"{san} it is missing"),
            ({"san": 7}, f"{san} got 7"),
            ({"user": ""}, ".user: expected the name of a user, but got ''"),
            (
                {"user": "eve"},
                ".user: 'eve' is neither in restapi.users nor the one of restapi.authentication",
            ),
            ({"roles": "x"}, f": unknown key 'roles'; the keys are {keys}"),
        ]
        for entry, expected in rows:
            second = {"may": "all", "network": "10.0.0.0/8", **entry}
            error = error_of(access=[{"may": "read", "network": "::/0"}, second])
            self.assertEqual(error, f"restapi.access[1]{expected}")

    def test_no_condition(self) -> None:
        """A rule for everybody must say so, with the networks of everybody."""
        self.assertEqual(
            error_of(access=[{"may": "all"}]),
            "restapi.access[0]: expected one or more of subject, san, user and network",
        )

    def test_no_list(self) -> None:
        """The rules are a list of mappings."""
        rows: list[tuple[Any, str]] = [
            ("all", ": expected a list of mappings, but got 'all'"),
            ({"may": "all"}, ": expected a list of mappings, but got {'may': 'all'}"),
            (["all"], "[0]: expected a mapping, but got a str"),
        ]
        for value, expected in rows:
            self.assertEqual(error_of(access=value), f"restapi.access{expected}")

    def test_certificates_that_nobody_is_asked_for(self) -> None:
        """A rule about certificates is worth a warning where there are none."""
        warning = (
            "restapi.access[1]: never holds, for no client is asked for a certificate"
            " (verify_client)",
        )
        secure = {"certfile": "node.pem"}
        asking = {"endpoint": "tcp:8009", "serves": "all", "verify_client": "required"}
        rows: list[tuple[dict[str, Any], tuple[str, ...]]] = [
            ({}, warning),
            (secure, warning),
            (MUTUAL, ()),
            ({**secure, "endpoints": [asking]}, ()),
            ({**secure, "endpoints": [{**asking, "tls": False}]}, warning),
            ({"endpoints": [asking]}, warning),
        ]
        for condition in ("subject", "san"):
            access = [{"may": "read", "network": "::/0"}, {"may": "all", condition: "*"}]
            for section, expected in rows:
                self.assertEqual(settings(access=access, **section).warnings, expected, section)


class ProtectReadsTests(SynchronousTestCase):
    """An identity for what changes nothing, too."""

    def test_needs_identities(self) -> None:
        """Somebody must be able to show one."""
        expected = (
            "restapi.protect_reads: nobody has an identity to show; it needs authentication,"
            " users, access, or verify_client with certfile"
        )
        asking = {"endpoint": "tcp:8009", "serves": "all", "verify_client": "required"}
        rows: list[tuple[dict[str, Any], bool]] = [
            ({}, False),
            ({"allowlist": ["10.0.0.0/8"]}, False),
            ({"certfile": "node.pem"}, False),
            ({"verify_client": "required"}, False),
            ({"auth": "user:secret"}, True),
            ({"users": {"alice": HASH}}, True),
            ({"access": [{"may": "read", "network": "10.0.0.0/8"}]}, True),
            (MUTUAL, True),
            ({"certfile": "node.pem", "endpoints": [asking]}, True),
        ]
        for section, accepted in rows:
            error = error_of(protect_reads=True, **section)
            self.assertEqual(error, "" if accepted else expected, section)

    def test_words(self) -> None:
        """It is a truth value, and false if absent."""
        for value, expected in ((None, False), (False, False), ("off", False), ("on", True)):
            got = settings(protect_reads=value, auth="user:secret")
            self.assertIs(got.protect_reads, expected, repr(value))
        for wrong in ("", "some", 2):
            self.assertEqual(
                error_of(protect_reads=wrong),
                f"restapi.protect_reads: expected true or false, but got {wrong!r}",
            )
