"""The ``restapi`` section as frozen, validated settings; every error names its key."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from attrs import evolve, field, frozen

from twisted_patroni.settings.doors import DoorSettings, read_doors
from twisted_patroni.settings.limits import Limits, read_limits
from twisted_patroni.settings.origins import read_origins
from twisted_patroni.settings.reading import Network, Section, SettingsError, network
from twisted_patroni.settings.rules import Rule, read_rules, read_users
from twisted_patroni.settings.tls import TlsSettings, VerifyClient, read_tls, read_verify_client
from twisted_patroni.settings.webhooks import WebhookSettings, read_webhooks

#: Connections the kernel holds while the reactor is busy; the length that lost none when measured.
MINIMUM_BACKLOG = 1024
#: The shortest and longest pause, in seconds, between two looks at the files of TLS.
_WATCH = (1.0, 86400.0)
#: All keys of the section, upstream's and ours.
KEYS = (
    "listen",
    "connect_address",
    "auth",
    "authentication",
    "allowlist",
    "allowlist_include_members",
    "http_extra_headers",
    "https_extra_headers",
    "server_tokens",
    "request_queue_size",
    "thread_pool_size",
    "legacy_roles",
    "certfile",
    "keyfile",
    "keyfile_password",
    "cafile",
    "crlfile",
    "ciphers",
    "verify_client",
    "certificate_watch",
    "endpoints",
    "access",
    "users",
    "protect_reads",
    "origins",
    "limits",
    "webhooks",
)


@frozen
class HostPort:
    """An address to listen on or to be reached at.

    :param host: a name or address, empty for every address.
    :param port: the TCP port.
    """

    host: str
    port: int


@frozen
class Settings:
    """What the ``restapi`` section asks for.

    :param listen: where to listen.
    :param listen_text: that, as it was written.
    :param connect_address: what other members are told, ``HOST:PORT``.
    :param credentials: base64 of ``user:password`` as it appears in a good ``Authorization``
        header, or ``None`` when nobody needs a password.
    :param networks: those an allowlist admits to unsafe endpoints.
    :param allowed_hosts: host names in that allowlist, still to be resolved.
    :param restricted: there is an allowlist with an entry in it.
    :param include_members: the members' own addresses are admitted, too.
    :param extra_headers: sent with every reply that is more than a status line.
    :param server_token: the ``Server`` header; ``None`` for the HTTP library's own.
    :param backlog: connections the kernel may hold before they are accepted.
    :param legacy_roles: say ``master`` where Patroni 4 says ``primary``.
    :param tls: how the main listener speaks TLS; ``None`` for plain HTTP.
    :param verify_client: what is asked of its clients.
    :param https_extra_headers: sent, on TLS connections, besides those of ``extra_headers`` and in
        the place of such of the same name.
    :param certificate_watch: after how many seconds each to look whether the files of TLS have
        changed; ``None`` to wait for a reload.
    :param doors: further listeners.
    :param rules: who may do what; ``None`` for the one check of Patroni.
    :param protect_reads: GETs that are no health checks ask for an identity, too.
    :param users: hashes of passwords (Argon2id in PHC's format) by user, beside ``credentials``.
    :param origins: the origins, besides the node's own, whose pages may follow its events.
    :param limits: what clients may take.
    :param webhooks: who is told of events over HTTP.
    :param warnings: what the operator should know of these settings; one line each.
    """

    listen: HostPort
    listen_text: str
    connect_address: str
    credentials: bytes | None = field(default=None, repr=False)
    networks: tuple[Network, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    restricted: bool = False
    include_members: bool = False
    extra_headers: tuple[tuple[str, str], ...] = ()
    server_token: str | None = None
    backlog: int = MINIMUM_BACKLOG
    legacy_roles: bool = False
    tls: TlsSettings | None = None
    verify_client: VerifyClient = VerifyClient.NONE
    https_extra_headers: tuple[tuple[str, str], ...] = ()
    certificate_watch: float | None = None
    doors: tuple[DoorSettings, ...] = ()
    rules: tuple[Rule, ...] | None = None
    protect_reads: bool = False
    users: Mapping[str, str] = field(factory=dict, repr=False)
    origins: frozenset[str] = frozenset()
    limits: Limits = field(factory=Limits)
    webhooks: tuple[WebhookSettings, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def scheme(self) -> str:
        """The scheme of the main listener's URLs."""
        return "https" if self.tls else "http"

    @property
    def connection_string(self) -> str:
        """The URL under which this member publishes its API."""
        host, _, port = self.connect_address.rpartition(":")
        host, port = (host, f":{port}") if host and port.isdigit() else (self.connect_address, "")
        host = host.strip("[]")
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}{port}/patroni"

    @property
    def judging(self) -> tuple[object, ...]:
        """All by which requests are judged; equal where they are judged alike."""
        return (
            self.credentials,
            self.users,
            self.rules,
            self.protect_reads,
            self.networks,
            self.allowed_hosts,
            self.restricted,
            self.include_members,
            self.origins,
            self.tls is None,
            self.verify_client,
            self.doors,
        )

    @property
    def asks_for_certificates(self) -> bool:
        """Whether clients are asked for a certificate, by any of the listeners."""
        return self.verify_client is not VerifyClient.NONE or any(
            door.tls and door.verify_client is not VerifyClient.NONE for door in self.doors
        )

    @property
    def open_to_network(self) -> bool:
        """Whether anybody who reaches the main port may use the unsafe endpoints."""
        loopback = self.listen.host == "localhost"
        with suppress(ValueError):  # a name, or every address
            loopback = loopback or ip_address(self.listen.host).is_loopback
        return not loopback and not self.guards(self.verify_client)

    def guards(self, verify_client: VerifyClient) -> bool:
        """Tell whether more is needed for the unsafe endpoints than to reach a listener.

        :param verify_client: what the listener asks of its clients.
        """
        return bool(
            self.credentials
            or self.users
            or self.rules is not None
            or self.restricted
            or self.include_members
            or verify_client is not VerifyClient.NONE
        )

    def headers(self, tls: bool) -> tuple[tuple[str, str], ...]:
        """Return the headers to send with every reply that is more than a status line.

        :param tls: to a TLS connection.
        """
        further = self.https_extra_headers if tls else ()
        return tuple({**dict(self.extra_headers), **dict(further)}.items())

    @classmethod
    def of(cls, section: Mapping[str, Any], version: str = "") -> Settings:
        """Validate a ``restapi`` section.

        :param section: as upstream's configuration loader gives it: environment merged in, and
            ``authentication`` turned into ``auth``.
        :param version: the engine's version, for ``server_tokens: minimal``.
        :raise SettingsError: naming the first key that is wrong.
        """
        if not isinstance(section, Mapping) or section.get("listen") is None:
            raise SettingsError('Can not find "restapi.listen" config')
        restapi = Section("restapi", section)
        listen_text = str(section["listen"])
        networks, hosts, restricted = _allowlist(restapi)
        user, credentials = _credentials(restapi)
        tls = read_tls(restapi)
        verify_client = read_verify_client(restapi) if tls else VerifyClient.NONE
        users = read_users(restapi.section("users"), user)
        settings = cls(
            listen=_listen(listen_text),
            listen_text=listen_text,
            connect_address=str(section.get("connect_address") or listen_text),
            credentials=credentials,
            networks=networks,
            allowed_hosts=hosts,
            restricted=restricted,
            include_members=restapi.boolean("allowlist_include_members"),
            extra_headers=restapi.headers("http_extra_headers"),
            server_token=_server_token(restapi, version),
            backlog=max(MINIMUM_BACKLOG, restapi.integer("request_queue_size", 0, 4096) or 0),
            legacy_roles=restapi.boolean("legacy_roles"),
            tls=tls,
            verify_client=verify_client,
            https_extra_headers=restapi.headers("https_extra_headers"),
            certificate_watch=restapi.seconds("certificate_watch", *_WATCH),
            doors=read_doors(restapi, tls is not None, verify_client),
            rules=read_rules(restapi, {*users, *([] if user is None else [user])}),
            protect_reads=restapi.boolean("protect_reads"),
            users=users,
            origins=read_origins(restapi),
            limits=read_limits(restapi.section("limits")),
            webhooks=read_webhooks(restapi),
        )
        _check_together(settings, restapi)
        for key in section:
            if key not in KEYS:
                restapi.warn(key, "there is no such key, so it has no effect")
        return evolve(settings, warnings=tuple(restapi.warnings))


def _listen(text: str) -> HostPort:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(
            f'Invalid "restapi" config: expected <HOST>:<PORT> for "listen", but got "{text}"'
        )
    host = host.strip("[]")
    return HostPort("" if host == "*" else host, int(port))


def _credentials(restapi: Section) -> tuple[str | None, bytes | None]:
    """Return the user of the one password that Patroni knows, and both as they are compared."""
    auth = restapi.values.get("auth")
    if not auth and "authentication" in restapi.values:
        authentication = restapi.values["authentication"]
        try:
            auth = f"{authentication['username']}:{authentication['password']}"
        except (KeyError, TypeError) as error:
            raise SettingsError(
                "restapi.authentication: expected a username and a password, but got something else"
            ) from error
    if not auth:
        return None, None
    if not isinstance(auth, str):
        raise SettingsError('restapi.auth: expected "username:password"')
    return auth.partition(":")[0], base64.b64encode(auth.encode("utf-8"))


def _allowlist(restapi: Section) -> tuple[tuple[Network, ...], tuple[str, ...], bool]:
    value = restapi.values.get("allowlist")
    if value is None:
        return (), (), False
    if not isinstance(value, list):
        raise restapi.wrong("allowlist", "a list")
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in value:
        if not isinstance(entry, str) or not entry.strip():
            raise SettingsError(
                f"restapi.allowlist: expected a network, address or host name, but got {entry!r}"
            )
        try:
            networks.append(network(entry))
        except ValueError as error:
            if "/" in entry:
                raise SettingsError(
                    f"restapi.allowlist: {entry!r} is not a network ({error})"
                ) from error
            hosts.append(entry.strip())
    return tuple(networks), tuple(hosts), bool(value)


def _server_token(restapi: Section, version: str) -> str | None:
    value = restapi.values.get("server_tokens")
    if not restapi.has("server_tokens"):
        return None
    expected = "Original, Minimal or ProductOnly"
    if not isinstance(value, str):
        raise restapi.wrong("server_tokens", expected)
    tokens = {"original": None, "productonly": "Patroni", "minimal": f"Patroni/{version}"}
    if value.lower() not in tokens:
        error = restapi.wrong("server_tokens", expected)
        restapi.warnings.append(f"{error}: the Server header stays as it is")
    return tokens.get(value.lower())


def _check_together(settings: Settings, restapi: Section) -> None:
    """Refuse, or warn of, what is right by itself but makes no sense together."""
    certificates = settings.asks_for_certificates
    if settings.protect_reads and not (
        settings.credentials or settings.users or settings.rules is not None or certificates
    ):
        raise SettingsError(
            "restapi.protect_reads: nobody has an identity to show; it needs authentication,"
            " users, access, or verify_client with certfile"
        )
    for number, rule in enumerate(settings.rules or ()):
        if (rule.subject or rule.san) and not certificates:
            restapi.warn(
                f"access[{number}]",
                "never holds, for no client is asked for a certificate (verify_client)",
            )
