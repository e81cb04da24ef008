"""Turns the settings and a request into the facts that the rules of access decide on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from twisted_patroni.access import Access, Policy, Refusal, check
from twisted_patroni.addresses import AddressBook, member_hosts

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted_patroni.engine.interface import ClusterView
    from twisted_patroni.settings import Settings
    from twisted_patroni.web.request import ApiRequest


@define(eq=False)
class Gatekeeper:
    """Decides who may use the unsafe endpoints.

    :param addresses: what the names in the allowlist and the members' names resolve to.
    :param cluster: returns the cluster, ``None`` while the DCS is out of reach: no member is
        admitted then, as upstream has it.
    """

    addresses: AddressBook
    cluster: Callable[[], ClusterView | None]
    _settings: Settings | None = field(default=None, init=False)
    _member_hosts: frozenset[str] = field(default=frozenset(), init=False)

    def apply(self, settings: Settings) -> None:
        """Decide by these settings from now on.

        :param settings: the settings.
        """
        self._settings = settings
        self._want()

    def know(self, cluster: ClusterView) -> None:
        """Resolve the members' names ahead of their requests.

        :param cluster: as the DCS has it.
        """
        hosts = member_hosts(cluster)
        if hosts != self._member_hosts:
            self._member_hosts = hosts
            self._want()

    def _want(self) -> None:
        if self._settings is not None:
            members = self._member_hosts if self._settings.include_members else frozenset()
            self.addresses.want(members | frozenset(self._settings.allowed_hosts))

    def refusal(self, access: Access, request: ApiRequest) -> Refusal | None:
        """Decide on a request.

        :param access: what its endpoint asks for.
        :param request: its head is complete.
        """
        settings = self._settings
        if access is Access.OPEN or settings is None:
            return None
        policy = Policy(
            settings.credentials,
            settings.restricted,
            settings.networks + self.addresses.networks(settings.allowed_hosts),
            settings.include_members,
        )
        cluster = self.cluster() if settings.include_members else None
        authorization = request.requestHeaders.getRawHeaders(b"authorization")
        return check(
            policy,
            access,
            request.client_host,
            authorization[0] if authorization else None,
            () if cluster is None else self.addresses.networks(member_hosts(cluster)),
        )
