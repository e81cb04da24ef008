"""Who may use an endpoint: pure rules from facts about a request to a decision."""

from __future__ import annotations

import enum
import hmac
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Collection

    from twisted_patroni.settings import Network

#: The realm of basic authentication; clients store passwords under it.
REALM = "Patroni"


class Access(enum.Enum):
    """Which check an endpoint asks for (Patroni's documentation: "safe" and "unsafe" endpoints)."""

    #: Nobody is asked.
    OPEN = "open"
    #: Allowlist (with the members' addresses if so configured) and password.
    CHECKED = "checked"
    #: The same, but the members' addresses play no part in the allowlist.
    CHECKED_WITHOUT_MEMBERS = "checked without members"


@frozen
class Policy:
    """What the settings ask of a client of an unsafe endpoint.

    :param credentials: base64 of ``user:password``, or ``None``.
    :param restricted: there is an allowlist.
    :param networks: the networks it admits, host names resolved.
    :param include_members: admit the members' own addresses.
    """

    credentials: bytes | None = None
    restricted: bool = False
    networks: tuple[Network, ...] = ()
    include_members: bool = False


@frozen
class Refusal:
    """Why a client is turned away.

    :param code: the HTTP status.
    :param sentence: the body of the reply.
    :param challenge: ask for a password.
    """

    code: int
    sentence: str
    challenge: bool = False

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that go with the refusal."""
        return (("WWW-Authenticate", f'Basic realm="{REALM}"'),) if self.challenge else ()


DENIED = Refusal(403, "Access is denied")
NO_PASSWORD = Refusal(401, "no auth header received", challenge=True)
WRONG_PASSWORD = Refusal(401, "not authenticated", challenge=True)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return a client's address, IPv4 also where a dual-stack listener shows it mapped."""
    try:
        address = ip_address(host)
    except ValueError:  # a Unix socket, or what a proxy made up
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def check(
    policy: Policy,
    access: Access,
    client_host: str,
    authorization: bytes | None,
    member_networks: Collection[Network] = (),
) -> Refusal | None:
    """Decide on one request.

    :param policy: what is configured.
    :param access: what the endpoint asks for.
    :param client_host: the client's address.
    :param authorization: the ``Authorization`` header.
    :param member_networks: the members' addresses.
    :return: the refusal, or ``None`` to go on.
    """
    if access is Access.OPEN:
        return None
    members = policy.include_members and access is Access.CHECKED
    if policy.restricted or members:
        address = _address(client_host)
        admitted = (*policy.networks, *(member_networks if members else ()))
        if address is None or not any(address in network for network in admitted):
            return DENIED
    if policy.credentials is None:
        return None
    if authorization is None:
        return NO_PASSWORD
    scheme, given = authorization[:6], authorization[6:]
    # The comparison takes the same time wherever the difference is, and is made in every case.
    matches = hmac.compare_digest(policy.credentials, given)
    return None if matches and scheme == b"Basic " else WRONG_PASSWORD
