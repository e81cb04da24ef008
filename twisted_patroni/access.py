"""Who may use an endpoint: pure rules from facts about a request to a decision."""

from __future__ import annotations

import binascii
import enum
import hmac
from base64 import b64decode
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Protocol

from attrs import frozen

from twisted_patroni.settings import Serves

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted_patroni.settings import Network, Right, Rule

    Address = IPv4Address | IPv6Address

#: The realm of basic authentication; clients store passwords under it.
REALM = "Patroni"
#: What a Unix socket's clients count as: they are on this machine.
LOCAL = "127.0.0.1"


class Access(enum.Enum):
    """Which check an endpoint asks for (Patroni's documentation: "safe" and "unsafe" endpoints)."""

    #: Nobody is asked, unless reads are protected.
    OPEN = "open"
    #: Allowlist (with the members' addresses if so configured), certificate and password.
    CHECKED = "checked"
    #: The same, but the members' addresses play no part in the allowlist.
    CHECKED_WITHOUT_MEMBERS = "checked without members"


class Demand(Protocol):
    """What is to be known of an endpoint."""

    @property
    def access(self) -> Access:
        """Which check it asks for."""

    @property
    def right(self) -> Right | None:
        """What its clients must be allowed to do; ``None`` for what rules have no say in."""

    @property
    def for_members(self) -> bool:
        """Whether members ask it of each other, to keep PostgreSQL up."""


class Certificate(Protocol):
    """What a client's certificate, verified in the handshake, says of the client."""

    @property
    def subject(self) -> str:
        """Whose it is."""

    @property
    def names(self) -> tuple[str, ...]:
        """Its alternative names."""


class Login(enum.Enum):
    """What is known of the ``Authorization`` that a client gave."""

    #: There is none.
    ABSENT = "absent"
    #: Nobody has looked at it yet.
    UNVERIFIED = "unverified"
    WRONG = "wrong"
    RIGHT = "right"


@frozen
class Policy:
    """What the settings ask of clients.

    :param authentication: Patroni's own single password is configured.
    :param users: there are users with passwords of their own.
    :param restricted: there is an allowlist.
    :param networks: the networks it admits, host names resolved.
    :param include_members: it admits the members' own addresses, too.
    :param rules: who may do what; ``None`` for Patroni's one check.
    :param protect_reads: what only shows something asks for an identity, too.
    """

    authentication: bool = False
    users: bool = False
    restricted: bool = False
    networks: tuple[Network, ...] = ()
    include_members: bool = False
    rules: tuple[Rule, ...] | None = None
    protect_reads: bool = False

    @property
    def password_wanted(self) -> bool:
        """Whether anybody has a password to show."""
        return self.authentication or self.users


@frozen
class Visitor:
    """What is known of a client, and of the listener that it came to.

    :param host: its address, empty for a Unix socket.
    :param login: what is known of its ``Authorization``.
    :param user: who it is, if that was right.
    :param certificate: its certificate.
    :param certificate_wanted: the listener asks for one.
    :param serves: what the listener answers.
    :param member: its address is one of a member, as last known.
    :param member_networks: the addresses of the members that the DCS shows now.
    """

    host: str
    login: Login = Login.ABSENT
    user: str | None = None
    certificate: Certificate | None = None
    certificate_wanted: bool = False
    serves: Serves = Serves.ALL
    member: bool = False
    member_networks: Collection[Network] = ()


@frozen
class Refusal:
    """Why a client is turned away.

    :param code: the HTTP status.
    :param sentence: the body of the reply.
    :param challenge: ask for a password.
    :param retry_after: after how many seconds to come back, if that helps.
    """

    code: int
    sentence: str
    challenge: bool = False
    retry_after: int | None = None

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that go with the refusal."""
        if self.challenge:
            return (("WWW-Authenticate", f'Basic realm="{REALM}"'),)
        return () if self.retry_after is None else (("Retry-After", str(self.retry_after)),)


class Pending(enum.Enum):
    """The one member is the decision that there is none before the password was verified."""

    PENDING = "pending"


PENDING = Pending.PENDING
DENIED = Refusal(403, "Access is denied")
NO_CERTIFICATE = Refusal(403, "client certificate required")
NO_PASSWORD = Refusal(401, "no auth header received", challenge=True)
WRONG_PASSWORD = Refusal(401, "not authenticated", challenge=True)
ONLY_HEALTH = Refusal(403, "this listener answers health checks only")
ONLY_READ = Refusal(403, "this listener answers only what changes nothing")


def forbidden(right: Right) -> Refusal:
    """Return the refusal of a client whom no rule allows what it asks for.

    :param right: what it would need.
    """
    return Refusal(403, f"this client may not {right.value}: no rule of restapi.access allows it")


def decide(policy: Policy, demand: Demand, visitor: Visitor) -> Refusal | Pending | None:
    """Decide on one request.

    :param policy: what is configured.
    :param demand: what the endpoint asks for.
    :param visitor: who wants it.
    :return: the refusal, ``None`` to go on, or :data:`PENDING` if that depends on the login.
    """
    if demand.access is Access.OPEN:
        if demand.right is None:
            return None
        if visitor.serves is Serves.HEALTH:
            return ONLY_HEALTH
        # A member that is kept out of a leader race can cost the cluster its leader.
        if not policy.protect_reads or (demand.for_members and visitor.member):
            return None
    elif visitor.serves is not Serves.ALL:
        return ONLY_HEALTH if visitor.serves is Serves.HEALTH else ONLY_READ
    elif not _is_listed(policy, demand, visitor):
        return DENIED
    if policy.rules is not None and demand.right is not None:
        return _by_rules(policy, policy.rules, demand.right, visitor)
    if visitor.certificate_wanted and visitor.certificate is None:
        return NO_CERTIFICATE
    return _by_password(policy, demand, visitor)


def _is_listed(policy: Policy, demand: Demand, visitor: Visitor) -> bool:
    members = policy.include_members and demand.access is Access.CHECKED
    if not (policy.restricted or members):
        return True
    admitted = (*policy.networks, *(visitor.member_networks if members else ()))
    return _is_within(_address(visitor.host), admitted)


def _by_password(policy: Policy, demand: Demand, visitor: Visitor) -> Refusal | Pending | None:
    wanted = policy.password_wanted
    if demand.for_members and visitor.member:
        # Members send the password of Patroni's own configuration. Users beside it, which only
        # this API knows, must not make them fail where they need no password without them.
        wanted = policy.authentication
    if not wanted or visitor.login is Login.RIGHT:
        return None
    if visitor.login is Login.UNVERIFIED:
        return PENDING
    return NO_PASSWORD if visitor.login is Login.ABSENT else WRONG_PASSWORD


def _by_rules(
    policy: Policy, rules: tuple[Rule, ...], right: Right, visitor: Visitor
) -> Refusal | Pending | None:
    if policy.password_wanted:
        if visitor.login is Login.UNVERIFIED:
            return PENDING
        if visitor.login is Login.WRONG:
            return WRONG_PASSWORD
    user = visitor.user if visitor.login is Login.RIGHT else None
    address = _address(visitor.host)
    fitting = [
        rule
        for rule in rules
        if right in rule.may
        and (not rule.networks or _is_within(address, rule.networks))
        and _is_certified(rule, visitor.certificate)
    ]
    if any(rule.user is None or rule.user == user for rule in fitting):
        return None
    return NO_PASSWORD if fitting and user is None else forbidden(right)


def _is_certified(rule: Rule, certificate: Certificate | None) -> bool:
    """Tell whether a certificate meets the conditions of a rule, if it has such."""
    if rule.subject is None and rule.san is None:
        return True
    if certificate is None:
        return False
    if rule.subject is not None and not fnmatchcase(certificate.subject, rule.subject):
        return False
    return rule.san is None or any(fnmatchcase(name, rule.san) for name in certificate.names)


def _is_within(address: Address | None, networks: Collection[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _address(host: str) -> Address | None:
    """Return a client's address, IPv4 also where a dual-stack listener shows it mapped."""
    try:
        address = ip_address(host or LOCAL)
    except ValueError:  # what a proxy made up
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_right(credentials: bytes, authorization: bytes) -> bool:
    """Tell whether an ``Authorization`` is the one of the single configured password.

    :param credentials: base64 of ``user:password``.
    :param authorization: the header.
    """
    scheme, given = authorization[:6], authorization[6:]
    # The comparison takes the same time wherever the difference is, and is made in every case.
    matches = hmac.compare_digest(credentials, given)
    return matches and scheme == b"Basic "


def claim(authorization: bytes) -> tuple[str, str] | None:
    """Return the user and the password in an ``Authorization``, ``None`` if it has none.

    :param authorization: the header.
    """
    if not authorization.startswith(b"Basic "):
        return None
    try:
        user, colon, password = b64decode(authorization[6:], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon else None
