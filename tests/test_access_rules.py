"""Tests of twisted_patroni.access with rules, and of what holds for every combination."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product
from typing import TYPE_CHECKING

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.test_access import (
    CONFIGURE,
    FAILSAFE,
    HEALTH,
    MPP,
    OPEN,
    OPERATE,
    READ,
    STATUS,
    UNSAFE,
    Paper,
)
from twisted_patroni.access import (
    DENIED,
    NO_CERTIFICATE,
    NO_PASSWORD,
    PENDING,
    WRONG_PASSWORD,
    Login,
    Pending,
    Policy,
    Refusal,
    Visitor,
    decide,
    forbidden,
)
from twisted_patroni.settings import Right, Rule, Serves

if TYPE_CHECKING:
    from tests.test_access import Wanted

OPS = (ip_network("10.0.0.0/8"),)
MAY_OPERATE = frozenset({Right.OPERATE})
ALL = frozenset(Right)
MAY_NOT_OPERATE = forbidden(Right.OPERATE)
PAPER = Paper("CN=backup,O=dba", ("DNS:one.ops.example.com", "IP:10.0.0.7"))


def with_rules(*rules: Rule) -> Policy:
    """Return a policy with these rules, and with passwords."""
    return Policy(authentication=True, users=True, rules=rules)


class RuleTests(SynchronousTestCase):
    """Whom a rule is about, and what it allows."""

    def test_conditions(self) -> None:
        """All conditions of a rule must hold."""
        near, far = Visitor("10.1.2.3"), Visitor("192.0.2.1")
        alice = evolve(near, login=Login.RIGHT, user="alice")
        paper = evolve(far, certificate=PAPER)
        rows: list[tuple[Rule, Visitor, Refusal | None]] = [
            (Rule(MAY_OPERATE, networks=OPS), near, None),
            (Rule(MAY_OPERATE, networks=OPS), evolve(near, host="::ffff:10.1.2.3"), None),
            (Rule(MAY_OPERATE, networks=OPS), far, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, networks=OPS), evolve(far, host="made up"), MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, networks=(ip_network("127.0.0.1"),)), Visitor(""), None),
            (Rule(MAY_OPERATE, user="alice"), alice, None),
            (Rule(MAY_OPERATE, user="alice"), evolve(alice, user="bob"), MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, user="alice"), near, NO_PASSWORD),
            (Rule(MAY_OPERATE, user="alice", networks=OPS), alice, None),
            (Rule(MAY_OPERATE, user="alice", networks=OPS), near, NO_PASSWORD),
            (Rule(MAY_OPERATE, user="alice", networks=OPS), far, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, user="alice", subject="*"), alice, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, user="alice", subject="*"), paper, NO_PASSWORD),
            (Rule(MAY_OPERATE, subject="CN=backup,*"), paper, None),
            (Rule(MAY_OPERATE, subject="cn=backup,*"), paper, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, subject="CN=backup"), paper, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, subject="*"), far, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, san="DNS:*.ops.example.com"), paper, None),
            (Rule(MAY_OPERATE, san="IP:10.0.0.[78]"), paper, None),
            (Rule(MAY_OPERATE, san="DNS:*.dev.example.com"), paper, MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, san="*"), evolve(paper, certificate=Paper()), MAY_NOT_OPERATE),
            (Rule(MAY_OPERATE, subject="*", san="IP:*", networks=OPS), paper, MAY_NOT_OPERATE),
        ]
        for rule, visitor, expected in rows:
            got = decide(with_rules(rule), OPERATE, visitor)
            self.assertEqual(got, expected, f"{rule} {visitor}")

    def test_rights(self) -> None:
        """What several rules allow adds up; nothing else is allowed."""
        policy = with_rules(
            Rule(MAY_OPERATE, networks=OPS),
            Rule(frozenset({Right.CONFIGURE}), user="alice"),
            Rule(ALL, subject="CN=backup,*"),
        )
        near = Visitor("10.0.0.1")
        alice = evolve(near, login=Login.RIGHT, user="alice")
        backup = Visitor("192.0.2.1", certificate=PAPER)
        rows: list[tuple[Visitor, list[Refusal | None]]] = [
            (near, [None, NO_PASSWORD]),
            (alice, [None, None]),
            (evolve(alice, host="192.0.2.1"), [MAY_NOT_OPERATE, None]),
            (evolve(alice, user="bob"), [None, forbidden(Right.CONFIGURE)]),
            (backup, [None, None]),
            (Visitor("192.0.2.1"), [MAY_NOT_OPERATE, NO_PASSWORD]),
        ]
        for visitor, expected in rows:
            got = [decide(policy, wanted, visitor) for wanted in (OPERATE, CONFIGURE)]
            self.assertEqual(got, expected, str(visitor))

    def test_no_rules_allow_nothing(self) -> None:
        """An empty list of rules allows nothing."""
        visitor = Visitor("10.0.0.1", Login.RIGHT, "alice", PAPER)
        self.assertEqual(decide(with_rules(), OPERATE, visitor), MAY_NOT_OPERATE)
        self.assertIsNone(decide(with_rules(), READ, visitor))

    def test_given_password_must_be_right(self) -> None:
        """A password that is given must be right, even where none is needed."""
        policy = with_rules(Rule(ALL, networks=OPS))
        for login, expected in (
            (Login.ABSENT, None),
            (Login.UNVERIFIED, PENDING),
            (Login.WRONG, WRONG_PASSWORD),
            (Login.RIGHT, None),
        ):
            self.assertEqual(decide(policy, OPERATE, Visitor("10.0.0.1", login)), expected)
        # Nobody has one, so there is none that could be right.
        nobody = Policy(rules=policy.rules)
        self.assertIsNone(decide(nobody, OPERATE, Visitor("10.0.0.1", Login.UNVERIFIED)))

    def test_unverified_user_is_nobody(self) -> None:
        """A user counts only after a right password."""
        policy = with_rules(Rule(ALL, user="alice"))
        for login in Login:
            got = decide(policy, OPERATE, Visitor("10.0.0.1", login, "alice"))
            self.assertEqual(got is None, login is Login.RIGHT, str(login))

    def test_allowlist_is_outside(self) -> None:
        """The allowlist stays in force around the rules, for what changes something."""
        policy = evolve(
            with_rules(Rule(ALL, networks=(ip_network("0.0.0.0/0"),))),
            restricted=True,
            networks=OPS,
            protect_reads=True,
        )
        self.assertEqual(decide(policy, OPERATE, Visitor("192.0.2.1")), DENIED)
        self.assertIsNone(decide(policy, OPERATE, Visitor("10.0.0.1")))
        self.assertIsNone(decide(policy, READ, Visitor("192.0.2.1")))

    def test_reads(self) -> None:
        """Where reads are protected they are by rule, but for members' look at the status."""
        policy = with_rules(Rule(frozenset({Right.READ}), networks=OPS))
        protected = evolve(policy, protect_reads=True)
        near, far = Visitor("10.0.0.1"), Visitor("192.0.2.1")
        may_not = forbidden(Right.READ)
        rows: list[tuple[Policy, Wanted, Visitor, Refusal | None]] = [
            (policy, READ, far, None),
            (protected, READ, far, may_not),
            (protected, READ, near, None),
            (protected, STATUS, far, may_not),
            (protected, STATUS, evolve(far, member=True), None),
            (protected, READ, evolve(far, member=True), may_not),
            (protected, HEALTH, far, None),
            (protected, OPERATE, near, MAY_NOT_OPERATE),
        ]
        for each, wanted, visitor, expected in rows:
            self.assertEqual(decide(each, wanted, visitor), expected, f"{wanted} {visitor}")

    def test_members(self) -> None:
        """What members tell each other stays under Patroni's own check."""
        for wanted in (MPP, FAILSAFE):
            for policy in (with_rules(), with_rules(Rule(ALL, user="alice"))):
                self.assertEqual(decide(policy, wanted, Visitor("10.0.0.1")), NO_PASSWORD)
                right = Visitor("10.0.0.1", Login.RIGHT, "alice")
                self.assertIsNone(decide(policy, wanted, right))
                wanting = evolve(right, certificate_wanted=True)
                self.assertEqual(decide(policy, wanted, wanting), NO_CERTIFICATE)
            only_users = Policy(users=True, rules=())
            self.assertIsNone(decide(only_users, wanted, Visitor("10.0.0.1", member=True)))


class CombinationTests(SynchronousTestCase):
    """What holds for every combination of listener, certificate, login, rules and endpoint."""

    def combinations(self) -> list[tuple[Policy, Wanted, Visitor]]:
        """Return them all."""
        rules = (
            None,
            (),
            (Rule(ALL, user="alice"),),
            (Rule(ALL, subject="CN=backup,*"),),
            (Rule(MAY_OPERATE, networks=OPS), Rule(frozenset({Right.READ}), user="alice")),
        )
        policies = [
            Policy(authentication, users, restricted, OPS, False, each, protect)
            for authentication, users, restricted, each, protect in product(
                (False, True), (False, True), (False, True), rules, (False, True)
            )
        ]
        visitors = [
            Visitor(host, login, "alice", certificate, wanted, serves, member)
            for host, login, certificate, wanted, serves, member in product(
                ("10.0.0.1", "192.0.2.1"),
                Login,
                (None, PAPER),
                (False, True),
                Serves,
                (False, True),
            )
        ]
        return list(product(policies, (*OPEN, *UNSAFE), visitors))

    def test_invariants(self) -> None:
        """Health checks are open; nothing waits in vain; no door, list or right is passed by."""
        for policy, wanted, visitor in self.combinations():
            got = decide(policy, wanted, visitor)
            case = f"{policy} {wanted} {visitor}"
            if wanted is HEALTH:
                self.assertIsNone(got, case)
            elif visitor.serves is Serves.HEALTH:
                self.assertIsInstance(got, Refusal, case)
            if wanted in UNSAFE and got is None:
                self.assertIs(visitor.serves, Serves.ALL, case)
                self.assertTrue(not policy.restricted or visitor.host == "10.0.0.1", case)
                if policy.rules is None or wanted.right is None:
                    self.assertTrue(visitor.certificate or not visitor.certificate_wanted, case)
                    self.assertTrue(not policy.authentication or visitor.login is Login.RIGHT, case)
            if isinstance(got, Pending):
                self.assertIs(visitor.login, Login.UNVERIFIED, case)
                self.assertTrue(policy.password_wanted, case)
                wrong = decide(policy, wanted, evolve(visitor, login=Login.WRONG))
                self.assertEqual(wrong, WRONG_PASSWORD, case)
            if got == WRONG_PASSWORD:
                self.assertIs(visitor.login, Login.WRONG, case)
