"""Tests of twisted_patroni.access without rules, as tables: one row is one case."""

from __future__ import annotations

import hmac
from base64 import b64encode
from ipaddress import ip_network
from typing import Any

from attrs import evolve, frozen
from twisted.trial.unittest import SynchronousTestCase

from twisted_patroni.access import (
    DENIED,
    NO_CERTIFICATE,
    NO_PASSWORD,
    ONLY_HEALTH,
    ONLY_READ,
    PENDING,
    WRONG_PASSWORD,
    Access,
    Login,
    Policy,
    Refusal,
    Visitor,
    claim,
    decide,
    forbidden,
    is_right,
)
from twisted_patroni.settings import Right, Serves


@frozen
class Wanted:
    """What an endpoint asks for."""

    access: Access = Access.CHECKED
    right: Right | None = None
    for_members: bool = False


@frozen
class Paper:
    """A client certificate."""

    subject: str = "CN=backup"
    names: tuple[str, ...] = ()


HEALTH = Wanted(Access.OPEN)
READ = Wanted(Access.OPEN, Right.READ)
STATUS = Wanted(Access.OPEN, Right.READ, for_members=True)
OPERATE = Wanted(right=Right.OPERATE)
CONFIGURE = Wanted(right=Right.CONFIGURE)
MPP = Wanted(for_members=True)
FAILSAFE = Wanted(Access.CHECKED_WITHOUT_MEMBERS, for_members=True)
OPEN = (HEALTH, READ, STATUS)
UNSAFE = (OPERATE, CONFIGURE, MPP, FAILSAFE)

KEY = b64encode(b"user:secret")
SOMEBODY = Visitor("192.0.2.1")
LISTED = Policy(restricted=True, networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")))
MEMBERS = Policy(include_members=True)
BOTH = evolve(LISTED, include_members=True)
UNRESOLVED = Policy(restricted=True)
MEMBER = (ip_network("172.16.0.1/32"),)


class AuthorizationTests(SynchronousTestCase):
    """The header of basic authentication."""

    def test_single_password(self) -> None:
        """It must be exactly the configured key under the scheme Basic, of whatever length."""
        rows = [
            (b"Basic " + KEY, True),
            (b"", False),
            (b"basic " + KEY, False),
            (b"BASIC " + KEY, False),
            (b"Basic  " + KEY, False),
            (b"Basic " + KEY + b" ", False),
            (b"Basic " + KEY.rstrip(b"="), False),
            (b"Basic " + KEY[:1], False),
            (b"Basic " + KEY * 1000, False),
            (b"Basic " + b64encode(b"user:other"), False),
            (b"Basic ", False),
            (b"Basic", False),
            (b"Bearer " + KEY, False),
            (b"Basic \xff\xfe", False),
        ]
        for header, right in rows:
            self.assertEqual(is_right(KEY, header), right, repr(header[:40]))

    def test_constant_time(self) -> None:
        """What decides is the comparison that takes the same time wherever the difference is."""
        compared: list[tuple[Any, Any]] = []

        def compare(a: Any, b: Any) -> bool:
            compared.append((a, b))
            return True

        self.patch(hmac, "compare_digest", compare)
        headers = (b"Basic " + KEY, b"Basic other", b"Bearer other", b"")
        self.assertEqual([is_right(KEY, header) for header in headers], [True, True, False, False])
        self.assertEqual(compared, [(KEY, header[6:]) for header in headers])

    def test_claim(self) -> None:
        """Whose password it claims to be, if it says so in UTF-8."""
        rows: list[tuple[bytes, tuple[str, str] | None]] = [
            (b"alice:secret", ("alice", "secret")),
            (b"alice:a:b", ("alice", "a:b")),
            (b"alice:", ("alice", "")),
            (b":secret", ("", "secret")),
            ("zoë:ü".encode(), ("zoë", "ü")),
            ("zoë:ü".encode("latin-1"), None),
            (b"alice", None),
            (b"", None),
        ]
        for text, expected in rows:
            self.assertEqual(claim(b"Basic " + b64encode(text)), expected, repr(text))
        for header in (b"", b"Basic", b"Basic ?", b"Basic YQ", b"bearer " + b64encode(b"a:b")):
            self.assertIsNone(claim(header), repr(header))


class CheckTests(SynchronousTestCase):
    """Patroni's own check."""

    def test_nothing_configured(self) -> None:
        """Nobody is refused, whatever header is sent."""
        for login in Login:
            for wanted in (*OPEN, *UNSAFE):
                visitor = evolve(SOMEBODY, login=login)
                self.assertIsNone(decide(Policy(), wanted, visitor), f"{login} {wanted}")

    def test_password(self) -> None:
        """It is asked for where something is changed, be it Patroni's own or that of users."""
        rows = (
            (Login.ABSENT, NO_PASSWORD),
            (Login.UNVERIFIED, PENDING),
            (Login.WRONG, WRONG_PASSWORD),
            (Login.RIGHT, None),
        )
        for policy in (
            Policy(authentication=True),
            Policy(users=True),
            Policy(authentication=True, users=True),
        ):
            for login, expected in rows:
                visitor = evolve(SOMEBODY, login=login, user="u")
                for wanted in UNSAFE:
                    self.assertEqual(decide(policy, wanted, visitor), expected, f"{login} {wanted}")
                for wanted in OPEN:
                    self.assertIsNone(decide(policy, wanted, visitor), f"{login} {wanted}")

    def test_members_and_users(self) -> None:
        """What members tell each other needs the password that Patroni itself knows, no other."""
        visitor = evolve(SOMEBODY, member=True)
        for wanted in (MPP, FAILSAFE):
            self.assertIsNone(decide(Policy(users=True), wanted, visitor))
            for users in (False, True):
                policy = Policy(authentication=True, users=users)
                self.assertEqual(decide(policy, wanted, visitor), NO_PASSWORD)
        self.assertEqual(decide(Policy(users=True), OPERATE, visitor), NO_PASSWORD)

    def test_certificate(self) -> None:
        """Where the listener asks for certificates, what changes something needs one."""
        wanting = evolve(SOMEBODY, certificate_wanted=True)
        for wanted in UNSAFE:
            self.assertEqual(decide(Policy(), wanted, wanting), NO_CERTIFICATE)
            self.assertIsNone(decide(Policy(), wanted, evolve(wanting, certificate=Paper())))
        for wanted in OPEN:
            self.assertIsNone(decide(Policy(), wanted, wanting))

    def test_addresses(self) -> None:
        """The allowlist and the members' addresses admit as the contract says."""
        rows: list[tuple[str, Policy, Wanted, str, bool]] = [
            ("no list", Policy(), OPERATE, "192.0.2.1", True),
            ("listed", LISTED, OPERATE, "10.1.2.3", True),
            ("listed, mapped", LISTED, OPERATE, "::ffff:10.1.2.3", True),
            ("listed, IPv6", LISTED, OPERATE, "2001:db8::1", True),
            ("not listed", LISTED, OPERATE, "192.0.2.1", False),
            ("not listed, mapped", LISTED, OPERATE, "::ffff:192.0.2.1", False),
            ("not listed, IPv6", LISTED, OPERATE, "2001:db9::1", False),
            ("not an address", LISTED, OPERATE, "localhost", False),
            ("Unix socket", LISTED, OPERATE, "", False),
            ("member, but only a list", LISTED, OPERATE, "172.16.0.1", False),
            ("member", MEMBERS, OPERATE, "172.16.0.1", True),
            ("no member", MEMBERS, OPERATE, "192.0.2.1", False),
            ("member or listed: member", BOTH, OPERATE, "172.16.0.1", True),
            ("member or listed: listed", BOTH, OPERATE, "10.0.0.1", True),
            ("member or listed: neither", BOTH, OPERATE, "192.0.2.1", False),
            ("MPP, member", BOTH, MPP, "172.16.0.1", True),
            ("failsafe, members only", MEMBERS, FAILSAFE, "192.0.2.1", True),
            ("failsafe, list, member", BOTH, FAILSAFE, "172.16.0.1", False),
            ("failsafe, list, listed", BOTH, FAILSAFE, "10.0.0.1", True),
            ("names not resolved", UNRESOLVED, OPERATE, "10.0.0.1", False),
            ("health check", LISTED, HEALTH, "192.0.2.1", True),
            ("read", LISTED, READ, "192.0.2.1", True),
            ("read, members", MEMBERS, READ, "192.0.2.1", True),
        ]
        for what, policy, wanted, address, admitted in rows:
            got = decide(policy, wanted, Visitor(address, member_networks=MEMBER))
            self.assertEqual(got, None if admitted else DENIED, what)

    def test_unix_socket(self) -> None:
        """A Unix socket's clients count as 127.0.0.1."""
        policy = Policy(restricted=True, networks=(ip_network("127.0.0.0/8"),))
        self.assertIsNone(decide(policy, OPERATE, Visitor("")))

    def test_no_members_known(self) -> None:
        """While the members are not known, nobody is taken for one."""
        self.assertEqual(decide(MEMBERS, OPERATE, Visitor("172.16.0.1")), DENIED)
        self.assertIsNone(decide(BOTH, OPERATE, Visitor("10.0.0.1")))

    def test_order(self) -> None:
        """The address is judged before the certificate, and that before the password."""
        policy = evolve(LISTED, authentication=True)
        for login, then in (
            (Login.ABSENT, NO_PASSWORD),
            (Login.UNVERIFIED, PENDING),
            (Login.WRONG, WRONG_PASSWORD),
            (Login.RIGHT, None),
        ):
            outside = Visitor("192.0.2.1", login, certificate_wanted=True)
            inside = evolve(outside, host="10.0.0.1")
            certified = evolve(inside, certificate=Paper())
            self.assertEqual(
                [decide(policy, OPERATE, each) for each in (outside, inside, certified)],
                [DENIED, NO_CERTIFICATE, then],
            )


class DoorTests(SynchronousTestCase):
    """Listeners that do not serve everything."""

    def test_table(self) -> None:
        """A listener for health checks serves these, one for reading what changes nothing."""
        rows = [
            *((Serves.HEALTH, wanted, ONLY_HEALTH) for wanted in (READ, STATUS, *UNSAFE)),
            *((Serves.READ, wanted, ONLY_READ) for wanted in UNSAFE),
            *((Serves.READ, wanted, None) for wanted in OPEN),
            *((Serves.ALL, wanted, None) for wanted in (*OPEN, *UNSAFE)),
            (Serves.HEALTH, HEALTH, None),
        ]
        for serves, wanted, expected in rows:
            visitor = evolve(SOMEBODY, serves=serves)
            self.assertEqual(decide(Policy(), wanted, visitor), expected, f"{serves} {wanted}")

    def test_before_all_else(self) -> None:
        """Who comes to the wrong listener learns nothing of the allowlist, and is not asked."""
        policy = evolve(LISTED, authentication=True, protect_reads=True)
        visitor = evolve(SOMEBODY, certificate_wanted=True, serves=Serves.HEALTH, member=True)
        for wanted in (READ, STATUS, *UNSAFE):
            self.assertEqual(decide(policy, wanted, visitor), ONLY_HEALTH)


class ProtectedReadTests(SynchronousTestCase):
    """``protect_reads`` without rules."""

    def test_identity(self) -> None:
        """Reading asks for the certificate and the password that are wanted, health checks not."""
        rows: list[tuple[Policy, dict[str, Any], Any]] = [
            (Policy(), {}, None),
            (Policy(), {"certificate_wanted": True}, NO_CERTIFICATE),
            (Policy(), {"certificate_wanted": True, "certificate": Paper()}, None),
            (Policy(authentication=True), {}, NO_PASSWORD),
            (Policy(users=True), {}, NO_PASSWORD),
            (Policy(users=True), {"login": Login.UNVERIFIED}, PENDING),
            (Policy(users=True), {"login": Login.WRONG}, WRONG_PASSWORD),
            (Policy(users=True), {"login": Login.RIGHT, "user": "u"}, None),
            (
                Policy(users=True),
                {"login": Login.RIGHT, "user": "u", "certificate_wanted": True},
                NO_CERTIFICATE,
            ),
        ]
        for policy, facts, expected in rows:
            visitor = evolve(SOMEBODY, **facts)
            protected = evolve(policy, protect_reads=True)
            for wanted in (READ, STATUS):
                self.assertEqual(decide(protected, wanted, visitor), expected, str(facts))
                self.assertIsNone(decide(policy, wanted, visitor), str(facts))
            self.assertIsNone(decide(protected, HEALTH, visitor), str(facts))

    def test_allowlist(self) -> None:
        """The allowlist is about what changes something."""
        self.assertIsNone(decide(evolve(LISTED, protect_reads=True), READ, SOMEBODY))

    def test_members(self) -> None:
        """Members always see each other's status, and nothing else."""
        policy = Policy(authentication=True, protect_reads=True)
        visitor = evolve(SOMEBODY, certificate_wanted=True, member=True)
        for login in Login:
            self.assertIsNone(decide(policy, STATUS, evolve(visitor, login=login)))
        self.assertEqual(decide(policy, READ, visitor), NO_CERTIFICATE)


class RefusalTests(SynchronousTestCase):
    """What a refused client is told."""

    def test_table(self) -> None:
        """Codes, sentences and the challenge; those that upstream has are upstream's."""
        challenge = (("WWW-Authenticate", 'Basic realm="Patroni"'),)
        rows: list[tuple[Refusal, int, str, tuple[tuple[str, str], ...]]] = [
            (DENIED, 403, "Access is denied", ()),
            (NO_CERTIFICATE, 403, "client certificate required", ()),
            (NO_PASSWORD, 401, "no auth header received", challenge),
            (WRONG_PASSWORD, 401, "not authenticated", challenge),
            (
                forbidden(Right.OPERATE),
                403,
                "this client may not operate: no rule of restapi.access allows it",
                (),
            ),
            (Refusal(429, "slowly", retry_after=3), 429, "slowly", (("Retry-After", "3"),)),
        ]
        for refusal, code, sentence, headers in rows:
            self.assertEqual(
                (refusal.code, refusal.sentence, refusal.headers), (code, sentence, headers)
            )
