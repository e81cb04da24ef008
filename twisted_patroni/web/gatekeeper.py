"""Turns the settings and a request into the facts that the rules of access decide on."""

from __future__ import annotations

import math
from base64 import b64decode
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred

from twisted_patroni.access import (
    PENDING,
    Access,
    Login,
    Policy,
    Refusal,
    Visitor,
    claim,
    decide,
    is_right,
)
from twisted_patroni.addresses import AddressBook, member_host, member_hosts
from twisted_patroni.fitness import shut_out
from twisted_patroni.settings import VerifyClient
from twisted_patroni.web.connections import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from twisted_patroni.engine.interface import ClusterView
    from twisted_patroni.passwords import PasswordBook
    from twisted_patroni.settings import Network, Settings
    from twisted_patroni.slowing import Slowing
    from twisted_patroni.web.request import ApiRequest
    from twisted_patroni.web.routing import Endpoint

    #: A refusal, ``None`` to go on, or what takes time to find out which of them it is.
    Verdict = Refusal | None | Callable[[], Coroutine[Deferred[Any], Any, Refusal | None]]


@frozen
class _Attempt:
    """A request whose ``Authorization`` matters.

    :param endpoint: what it asks for.
    :param request: the request.
    :param visitor: what else is known of its client.
    :param authorization: the header.
    """

    endpoint: Endpoint
    request: ApiRequest
    visitor: Visitor
    authorization: bytes

    @property
    def unhindered(self) -> bool:
        """Whether it is a member's, about what keeps PostgreSQL up: that is never slowed."""
        return self.endpoint.for_members and self.visitor.member


@define(eq=False)
class Gatekeeper:
    """Decides who may use an endpoint. Before it has settings, nobody may change anything.

    :param addresses: what the names in the allowlist and the members' names resolve to.
    :param cluster: returns the cluster, ``None`` while the DCS is out of reach: the allowlist
        admits no member then, as upstream has it.
    :param passwords: verifies those of the users.
    :param slowing: makes those wait who guess passwords.
    """

    addresses: AddressBook
    cluster: Callable[[], ClusterView | None]
    passwords: PasswordBook
    slowing: Slowing
    _settings: Settings | None = field(default=None, init=False)
    _policy: Policy = field(default=Policy(restricted=True), init=False)
    _user: str | None = field(default=None, init=False)
    _members: ClusterView | None = field(default=None, init=False)
    _member_hosts: frozenset[str] = field(default=frozenset(), init=False)
    _member_addresses: frozenset[str] = field(default=frozenset(), init=False)

    def __attrs_post_init__(self) -> None:
        self.addresses.on_change = self._resolved

    def apply(self, settings: Settings) -> None:
        """Decide by these settings from now on.

        :param settings: the settings.
        """
        self._settings = settings
        self._user = None
        if settings.credentials is not None:
            self._user = b64decode(settings.credentials).decode().partition(":")[0]
        self.passwords.apply(settings.users)
        self._want()
        self._resolved()

    def know(self, cluster: ClusterView) -> None:
        """Resolve the members' names ahead of their requests.

        :param cluster: as the DCS has it.
        """
        self._members = cluster
        hosts = member_hosts(cluster)
        if hosts != self._member_hosts:
            self._member_hosts = hosts
            self._want()
            self._resolved()

    def _want(self) -> None:
        allowed = () if self._settings is None else self._settings.allowed_hosts
        self.addresses.want(self._member_hosts | frozenset(allowed))

    def _resolved(self) -> None:
        """Work out, ahead of the requests, what depends on addresses."""
        members = self.addresses.networks(self._member_hosts)
        self._member_addresses = frozenset(str(network.network_address) for network in members)
        settings = self._settings
        if settings is not None:
            self._policy = Policy(
                authentication=settings.credentials is not None,
                users=bool(settings.users),
                restricted=settings.restricted,
                networks=settings.networks + self.addresses.networks(settings.allowed_hosts),
                include_members=settings.include_members,
                rules=settings.rules,
                protect_reads=settings.protect_reads,
            )

    def is_trusted(self, host: str) -> bool:
        """Tell whether an address is this machine's own, or a member's as far as is known.

        :param host: the address, empty for a Unix socket.
        """
        return host in self._member_addresses or is_loopback(host)

    def member_networks(self) -> dict[str, tuple[Network, ...]]:
        """Return the addresses of each member, as last known; those not resolved are missing."""
        found: dict[str, tuple[Network, ...]] = {}
        for member in () if self._members is None else self._members.members:
            networks = self.addresses.networks([member_host(member) or ""])
            if networks:
                found[member.name] = networks
        return found

    def shut_out(self, own_name: str) -> list[str]:
        """Say which other members the allowlist refuses, as far as that is known.

        :param own_name: this node's name.
        """
        settings = self._settings
        if settings is None or not settings.restricted:
            return []
        admitted = self.addresses.networks(settings.allowed_hosts)
        if settings.allowed_hosts and not admitted:
            return []
        others = self.member_networks()
        others.pop(own_name, None)
        return shut_out(settings, others, admitted)

    def judge(self, endpoint: Endpoint, request: ApiRequest) -> Verdict:
        """Decide on a request; where its password is right, note whose it is.

        :param endpoint: what it asks for.
        :param request: its head is complete.
        """
        # Nothing but this for health checks: balancers send thousands of them each second.
        if endpoint.right is None and endpoint.access is Access.OPEN:
            return None
        given = request.requestHeaders.getRawHeaders(b"authorization")
        visitor = self._visitor(request, given is not None)
        decision = decide(self._policy, endpoint, visitor)
        if decision is not PENDING:
            return decision
        assert given is not None
        return self._judge_login(_Attempt(endpoint, request, visitor, given[0]))

    def _visitor(self, request: ApiRequest, has_login: bool) -> Visitor:
        channel, policy = request.channel, self._policy
        host, wanted = request.client_host, channel.door.verify_client is not VerifyClient.NONE
        cluster = self.cluster() if policy.include_members else None
        return Visitor(
            host,
            login=Login.UNVERIFIED if has_login else Login.ABSENT,
            certificate=channel.client_certificate if wanted or policy.rules else None,
            certificate_wanted=wanted,
            serves=channel.door.serves,
            member=host in self._member_addresses,
            member_networks=(
                () if cluster is None else self.addresses.networks(member_hosts(cluster))
            ),
        )

    def _judge_login(self, attempt: _Attempt) -> Verdict:
        refusal = self._too_early(attempt)
        if refusal is not None:
            return refusal
        credentials = None if self._settings is None else self._settings.credentials
        if credentials is not None and is_right(credentials, attempt.authorization):
            return self._conclude(attempt, self._user)
        claimed = claim(attempt.authorization) if self._policy.users else None
        if claimed is None:
            return self._conclude(attempt, None)
        if self.passwords.remembers(*claimed):
            return self._conclude(attempt, claimed[0])
        return partial(self._verify, attempt, *claimed)

    async def _verify(self, attempt: _Attempt, user: str, password: str) -> Refusal | None:
        refusal = self._too_early(attempt)  # others may have failed while the body arrived
        if refusal is not None:
            return refusal
        try:
            right = await self.passwords.verify(user, password)
        except CancelledError:
            # Leaving early must not be a way to keep the lane busy without ever being slowed.
            self._fail(attempt)
            raise
        return self._conclude(attempt, user if right else None)

    def _too_early(self, attempt: _Attempt) -> Refusal | None:
        if attempt.unhindered:
            return None
        seconds = math.ceil(self.slowing.wait(attempt.visitor.host, attempt.authorization))
        if not seconds:
            return None
        sentence = "too many wrong passwords from this address"
        return Refusal(429, sentence, retry_after=seconds)

    def _conclude(self, attempt: _Attempt, user: str | None) -> Refusal | None:
        """Decide once it is known who the user is, ``None`` for a wrong password."""
        if user is None:
            self._fail(attempt)
        else:
            attempt.request.user = user
            self.slowing.succeeded(attempt.visitor.host, attempt.authorization)
        login = Login.WRONG if user is None else Login.RIGHT
        visitor = evolve(attempt.visitor, login=login, user=user)
        decision = decide(self._policy, attempt.endpoint, visitor)
        assert decision is not PENDING
        return decision

    def _fail(self, attempt: _Attempt) -> None:
        if not attempt.unhindered:
            self.slowing.failed(attempt.visitor.host)
