"""Tests of twisted_patroni.access, as tables: one row is one case."""

from __future__ import annotations

from base64 import b64encode
from ipaddress import ip_network

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.access import (
    DENIED,
    NO_PASSWORD,
    WRONG_PASSWORD,
    Access,
    Policy,
    Refusal,
    check,
)

OPEN, CHECKED, WITHOUT_MEMBERS = (
    Access.OPEN,
    Access.CHECKED,
    Access.CHECKED_WITHOUT_MEMBERS,
)
KEY = b64encode(b"user:secret")
PASSWORD = Policy(credentials=KEY)
LISTED = Policy(restricted=True, networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
MEMBERS = Policy(include_members=True)
BOTH = evolve(LISTED, include_members=True)
UNRESOLVED = Policy(restricted=True)
MEMBER = (ip_network("172.16.0.1/32"),)


class CheckTests(SynchronousTestCase):
    """Decisions on requests."""

    def test_password(self) -> None:
        """The header must be there and be exactly the configured key under the scheme Basic."""
        rows: list[tuple[bytes | None, Refusal | None]] = [
            (None, NO_PASSWORD),
            (b"", WRONG_PASSWORD),
            (b"Basic " + KEY, None),
            (b"basic " + KEY, WRONG_PASSWORD),
            (b"BASIC " + KEY, WRONG_PASSWORD),
            (b"Basic  " + KEY, WRONG_PASSWORD),
            (b"Basic " + KEY + b" ", WRONG_PASSWORD),
            (b"Basic " + KEY.rstrip(b"="), WRONG_PASSWORD),
            (b"Basic " + b64encode(b"user:other"), WRONG_PASSWORD),
            (b"Basic ", WRONG_PASSWORD),
            (b"Bearer " + KEY, WRONG_PASSWORD),
            (b"Basic \xff\xfe", WRONG_PASSWORD),
        ]
        for header, refusal in rows:
            for access in (CHECKED, WITHOUT_MEMBERS):
                got = check(PASSWORD, access, "192.0.2.1", header)
                self.assertEqual(got, refusal, f"{header!r} {access}")
            self.assertIsNone(check(PASSWORD, OPEN, "192.0.2.1", header), repr(header))

    def test_no_password_configured(self) -> None:
        """Without a key, no header and any header are fine."""
        for header in (None, b"", b"Basic nonsense"):
            self.assertIsNone(check(Policy(), CHECKED, "192.0.2.1", header), repr(header))

    def test_addresses(self) -> None:
        """The allowlist and the members' addresses admit as the contract says."""
        rows: list[tuple[str, Policy, Access, str, bool]] = [
            ("no list", Policy(), CHECKED, "192.0.2.1", True),
            ("listed", LISTED, CHECKED, "10.1.2.3", True),
            ("listed, mapped", LISTED, CHECKED, "::ffff:10.1.2.3", True),
            ("listed, IPv6", LISTED, CHECKED, "2001:db8::1", True),
            ("not listed", LISTED, CHECKED, "192.0.2.1", False),
            ("not listed, IPv6", LISTED, CHECKED, "2001:db9::1", False),
            ("not an address", LISTED, CHECKED, "", False),
            ("member, but only a list", LISTED, CHECKED, "172.16.0.1", False),
            ("member", MEMBERS, CHECKED, "172.16.0.1", True),
            ("no member", MEMBERS, CHECKED, "192.0.2.1", False),
            ("member or listed: member", BOTH, CHECKED, "172.16.0.1", True),
            ("member or listed: listed", BOTH, CHECKED, "10.0.0.1", True),
            ("member or listed: neither", BOTH, CHECKED, "192.0.2.1", False),
            ("failsafe, members only", MEMBERS, WITHOUT_MEMBERS, "192.0.2.1", True),
            ("failsafe, list, member", BOTH, WITHOUT_MEMBERS, "172.16.0.1", False),
            ("failsafe, list, listed", BOTH, WITHOUT_MEMBERS, "10.0.0.1", True),
            ("names not resolved", UNRESOLVED, CHECKED, "10.0.0.1", False),
            ("open endpoint", LISTED, OPEN, "192.0.2.1", True),
            ("open endpoint, members", MEMBERS, OPEN, "192.0.2.1", True),
        ]
        for what, policy, access, address, admitted in rows:
            got = check(policy, access, address, None, MEMBER)
            self.assertEqual(got, None if admitted else DENIED, what)

    def test_no_members_known(self) -> None:
        """While the members are not known, nobody is taken for one."""
        self.assertEqual(check(MEMBERS, CHECKED, "172.16.0.1", None), DENIED)
        self.assertIsNone(check(BOTH, CHECKED, "10.0.0.1", None))

    def test_order(self) -> None:
        """The address is judged before the password."""
        policy = evolve(LISTED, credentials=KEY)
        good = b"Basic " + KEY
        rows = (
            ("192.0.2.1", None, DENIED),
            ("192.0.2.1", good, DENIED),
            ("10.0.0.1", None, NO_PASSWORD),
            ("10.0.0.1", b"Basic x", WRONG_PASSWORD),
            ("10.0.0.1", good, None),
        )
        for address, header, expected in rows:
            self.assertEqual(check(policy, CHECKED, address, header), expected, repr(header))


class RefusalTests(SynchronousTestCase):
    """What a refused client is told."""

    def test_table(self) -> None:
        """Codes, sentences and the challenge are upstream's."""
        challenge = (("WWW-Authenticate", 'Basic realm="Patroni"'),)
        rows = (
            (DENIED, 403, "Access is denied", ()),
            (NO_PASSWORD, 401, "no auth header received", challenge),
            (WRONG_PASSWORD, 401, "not authenticated", challenge),
        )
        for refusal, code, sentence, headers in rows:
            self.assertEqual(
                (refusal.code, refusal.sentence, refusal.headers), (code, sentence, headers)
            )
