"""A Twisted endpoint that leads to whichever member of a cluster fits at the moment.

Any Twisted program has it by its name, once this package is installed::

    clientFromString(reactor, "patroni:10.0.0.11,10.0.0.12:target=primary")

The hosts are those of members, one is enough; the arguments that may follow:

``target``
    ``primary`` (the default), ``replica`` or ``any``.
``port``
    ``postgres`` (the default) or ``rest``.
``restPort``
    the port of the REST API of those hosts that are given without one, 8008 by default. A colon
    within an argument is written ``\\:``, as in ``10.0.0.11\\:8009``.
``scheme``
    ``http`` or ``https``: how to speak to them. By default ``https`` if ``cafile`` is given, or if
    the configuration says that its own node speaks TLS.
``cafile``
    authorities to trust; those of the system by default.
``config``
    Patroni's configuration, or patronictl's, for TLS and the password. No host needs to be given
    then: it is the one of the configuration.
``lag``
    how far a replica may be behind, as ``1MB``.
``timeout``
    seconds until the connection must have been made, 10 by default.
"""

from __future__ import annotations

import os
import random as chance
import re
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IStreamClientEndpoint
from zope.interface import implementer

from twisted_patroni.client.amounts import bytes_of, seconds_of
from twisted_patroni.client.asking import bounded
from twisted_patroni.client.configuration import Configuration, ConfigurationError
from twisted_patroni.client.finding import Aim, Checker, Finder
from twisted_patroni.client.reaching import agent_of
from twisted_patroni.client.reasons import reason_of
from twisted_patroni.client.settings import ClientSettings
from twisted_patroni.client.tls import TlsError, TlsFiles
from twisted_patroni.client.urls import AddressError, are_secure, base_url, seed_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twisted.internet.interfaces import IProtocol, IProtocolFactory
    from twisted.web.iweb import IAgent

    from twisted_patroni.client.finding import Place

#: Where the REST API of a host is that is given without a port.
REST_PORT = 8008

_ARGUMENTS = frozenset(
    {"hosts", "target", "port", "restPort", "scheme", "cafile", "config", "lag", "timeout"}
)
#: How an attempt to connect fails; ``ValueError`` stands for a name that cannot be one.
_FAILURES = (ConnectError, DNSLookupError, ValueError)
_SCHEMES = ("http", "https")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:/@?#\s]+)(:(?P<port>[0-9]{1,5}))?")


def _default_agent(endpoint: PatroniEndpoint) -> IAgent:
    # It keeps no connection: nobody ever closes an endpoint.
    return agent_of(endpoint.reactor, endpoint.settings)


def _default_route(endpoint: PatroniEndpoint) -> Callable[[str, int], IStreamClientEndpoint]:
    def to(host: str, port: int) -> IStreamClientEndpoint:
        patience = endpoint.settings.connect_timeout
        return HostnameEndpoint(endpoint.reactor, host, port, timeout=patience)

    return to


@implementer(IStreamClientEndpoint)
@define(eq=False)
class PatroniEndpoint:
    """Leads to a member that fits at the moment when it is connected to.

    Each time the nodes are asked for the members, and the one that is chosen whether it is what
    it is taken for, by the health check that a load balancer would use (``/primary``,
    ``/standby-leader``, ``/replica``): that is one small request more, and nobody writes to a
    leader that has been replaced. Replicas are tried in random order until one takes the
    connection. Nothing is tried twice, and nothing is waited for but answers: a program that is to
    outlast a failover retries, as :class:`twisted.application.internet.ClientService` does.

    To PostgreSQL the stream is plain: its protocol begins TLS by itself. To a REST API that speaks
    TLS it is encrypted and verified for the member's name, which nobody but this endpoint knows.

    :param reactor: the reactor.
    :param seeds: URLs of nodes; one is enough.
    :param settings: who asks, whom to trust; its ``timeout`` is for all of it, its
        ``connect_timeout`` for each attempt.
    :param aim: what to connect to.
    :param agent: asks the nodes.
    :param random: a number from 0 to 1, a new one for each call.
    :param route: makes the endpoint for a host and a port.

    >>> endpoint = PatroniEndpoint(
    ...     reactor, ["http://10.0.0.11:8008", "http://10.0.0.12:8008"], aim=Aim("replica"))
    >>> endpoint.aim.target
    'replica'
    """

    reactor: Any
    seeds: Sequence[str] = field(converter=seed_urls)
    settings: ClientSettings = field(factory=ClientSettings)
    aim: Aim = field(factory=Aim)
    agent: IAgent = field(default=Factory(_default_agent, takes_self=True))
    random: Callable[[], float] = chance.random
    route: Callable[[str, int], IStreamClientEndpoint] = field(
        default=Factory(_default_route, takes_self=True)
    )

    def finder(self) -> Finder:
        """Return what finds members that fit, once."""
        checker = Checker(self.reactor, self.settings, self.agent, are_secure(self.seeds))
        return Finder(self.seeds, self.aim, checker)

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Find a member and connect to it.

        :param factory: builds the protocol.
        :return: cancelling it ends all that is on its way. Fails with a :class:`ClientError` that
            says what was found: :class:`ClusterUnknown` if no node answers, :class:`NoLeader` or
            :class:`NoMember`.
        """
        return Deferred.fromCoroutine(self._within_time(factory))

    async def _within_time(self, factory: IProtocolFactory) -> IProtocol:
        finder = self.finder()
        connecting = Deferred.fromCoroutine(self._connect(finder, factory))
        try:
            return await bounded(connecting, self.settings.timeout, self.reactor)
        except DeferredTimeout:
            raise finder.failure() from None

    async def _connect(self, finder: Finder, factory: IProtocolFactory) -> IProtocol:
        reason: Exception | None = None
        while (places := await finder.more()) is not None:
            for place in sorted(places, key=lambda _: self.random()):
                if not await finder.fits(place):
                    continue
                finder.note(place, "does not answer")
                try:
                    return await self._to(place).connect(factory)
                # Not whatever it is: an attempt that was cancelled fails with an error of its own.
                except _FAILURES as error:
                    finder.note(place, reason_of(error))
                    reason = error
        raise finder.failure() from reason

    def _to(self, place: Place) -> IStreamClientEndpoint:
        endpoint = self.route(place.host, place.port)
        if not place.tls:
            return endpoint
        creator = self.settings.policy.creatorForNetloc(place.host.encode("ascii"), place.port)
        return wrapClientTLS(creator, endpoint, self.reactor)


def parse(reactor: Any, *words: str, **arguments: str) -> PatroniEndpoint:
    """Make an endpoint of the parts of its string, as this module's text describes them.

    The files that are named are read at once.

    :param reactor: the reactor.
    :param words: what has no name: the hosts.
    :param arguments: what has one.
    :raise ValueError: if something cannot be right; it begins with the argument's name.
    """
    if len(words) > 1:
        raise ValueError(f"hosts: write a colon within an argument as \\:, before {words[1]!r}")
    for name in arguments:
        if name not in _ARGUMENTS:
            known = ", ".join(sorted(_ARGUMENTS))
            raise ValueError(f"{name}: there is no such argument, only {known}")
    if words and "hosts" in arguments:
        raise ValueError("hosts: given twice")
    hosts = words[0] if words else arguments.get("hosts", "")
    aim = Aim(
        arguments.get("target", "primary"), arguments.get("port", "postgres"), _lag(arguments)
    )
    configuration = _configuration(arguments)
    seeds = _seeds(hosts, arguments, configuration)
    settings = _settings(arguments, configuration)
    _read_certificates(settings, arguments)
    return PatroniEndpoint(reactor, seeds, settings, aim)


def _lag(arguments: Mapping[str, str]) -> int | None:
    given = arguments.get("lag")
    if given is None:
        return None
    if arguments.get("target", "primary") == "primary":
        raise ValueError("lag: a primary is never behind, it is for target=replica and target=any")
    return bytes_of(given)


def _configuration(arguments: Mapping[str, str]) -> Configuration | None:
    path = arguments.get("config")
    if path is None:
        return None
    try:
        # Its sections must be right even if nothing of them is used.
        found = Configuration.of(path, os.environ)
        found.tls(), found.login(), found.url()
    except ConfigurationError as error:
        raise ValueError(f"config: {error}") from None
    return found


def _seeds(
    hosts: str, arguments: Mapping[str, str], configuration: Configuration | None
) -> list[str]:
    named = [each.strip() for each in hosts.split(",") if each.strip()]
    if not named and configuration is None:
        raise ValueError("hosts: at least one is needed, or config")
    scheme = _scheme(arguments, configuration)
    port = _port(arguments)
    if not named and configuration is not None:
        for name in ("restPort", "scheme"):
            if name in arguments:
                raise ValueError(f"{name}: of no use without hosts")
        return [configuration.url()]
    return [_seed(each, scheme, port) for each in named]


def _seed(text: str, scheme: str, port: int) -> str:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(f"hosts: {text!r} is not HOST or HOST\\:PORT")
    try:
        return base_url(f"{scheme}://{found['host']}:{found['port'] or port}")
    except AddressError as error:
        raise ValueError(f"hosts: {error}") from None


def _scheme(arguments: Mapping[str, str], configuration: Configuration | None) -> str:
    secure = configuration is not None and configuration.url().startswith("https:")
    default = "https" if secure or "cafile" in arguments else "http"
    scheme = arguments.get("scheme", default)
    if scheme not in _SCHEMES:
        raise ValueError(f"scheme: {scheme!r} is none of {', '.join(_SCHEMES)}")
    if scheme == "http" and "cafile" in arguments:
        raise ValueError("cafile: of no use with scheme=http")
    return scheme


def _settings(arguments: Mapping[str, str], configuration: Configuration | None) -> ClientSettings:
    timeout = _seconds(arguments)
    cafile = arguments.get("cafile")
    if configuration is None:
        return ClientSettings(tls=TlsFiles(cafile=cafile), timeout=timeout)
    files = configuration.tls()
    if cafile is not None:
        files = evolve(files, cafile=cafile)
    return ClientSettings(tls=files, login=configuration.login(), timeout=timeout)


def _port(arguments: Mapping[str, str]) -> int:
    given = arguments.get("restPort", str(REST_PORT))
    if not (given.isascii() and given.isdecimal() and 0 < int(given[:6]) < 65536):
        raise ValueError(f"restPort: {given!r} is not a port")
    return int(given)


def _seconds(arguments: Mapping[str, str]) -> float:
    try:
        return seconds_of(arguments.get("timeout", str(ClientSettings().timeout)))
    except ValueError as error:
        raise ValueError(f"timeout: {error}") from None


def _read_certificates(settings: ClientSettings, arguments: Mapping[str, str]) -> None:
    try:
        _ = settings.policy
    except TlsError as error:
        named = "cafile" if settings.tls.cafile == arguments.get("cafile") else "config"
        raise ValueError(f"{named}: {error}") from None
