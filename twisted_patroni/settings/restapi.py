"""The ``restapi`` section as frozen, validated settings; every error names its key."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from attrs import field, frozen

from twisted_patroni.settings.doors import DoorSettings
from twisted_patroni.settings.limits import Limits
from twisted_patroni.settings.reading import Network, SettingsError
from twisted_patroni.settings.rules import Rule
from twisted_patroni.settings.tls import TlsSettings, VerifyClient

_T = TypeVar("_T")

#: Connections the kernel holds while the reactor is busy; the length that lost none when measured.
MINIMUM_BACKLOG = 1024
_TLS_KEYS = ("certfile", "keyfile", "keyfile_password", "cafile", "ciphers", "verify_client")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0"})


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
    :param users: hashes of the passwords (Argon2id in PHC's format) by user, beside ``credentials``.
    :param limits: what clients may take.
    :param warnings: what the operator should know of these settings; one line each.
    """

    listen: HostPort
    listen_text: str
    connect_address: str
    credentials: bytes | None = None
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
    limits: Limits = Limits()
    warnings: tuple[str, ...] = ()

    @property
    def connection_string(self) -> str:
        """The URL under which this member publishes its API."""
        host, _, port = self.connect_address.rpartition(":")
        host, port = (host, f":{port}") if host and port.isdigit() else (self.connect_address, "")
        host = host.strip("[]")
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}{port}/patroni"

    @property
    def open_to_network(self) -> bool:
        """Whether anybody who reaches the port may use the unsafe endpoints."""
        loopback = self.listen.host == "localhost"
        with suppress(ValueError):  # a name, or every address
            loopback = loopback or ip_address(self.listen.host).is_loopback
        guarded = self.credentials or self.restricted or self.include_members
        return not guarded and not loopback

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
        for key in _TLS_KEYS:
            if section.get(key) and key != "verify_client":
                raise SettingsError(
                    f"restapi.{key}: TLS is not supported by this version; remove the TLS keys"
                    " from the restapi section or run upstream's patroni"
                )
        listen_text = str(section["listen"])
        networks, hosts, restricted = _allowlist(section.get("allowlist"))
        return cls(
            listen=_listen(listen_text),
            listen_text=listen_text,
            connect_address=str(section.get("connect_address") or listen_text),
            credentials=_credentials(section),
            networks=networks,
            allowed_hosts=hosts,
            restricted=restricted,
            include_members=_boolean(section, "allowlist_include_members"),
            extra_headers=_headers(section.get("http_extra_headers"), "http_extra_headers"),
            server_token=_server_token(section.get("server_tokens"), version),
            backlog=max(MINIMUM_BACKLOG, _integer(section, "request_queue_size", 5, 0, 4096)),
            legacy_roles=_boolean(section, "legacy_roles"),
        )


def _checked(key: str, expected: str, value: object, convert: Callable[[], _T]) -> _T:
    try:
        return convert()
    except (TypeError, ValueError, KeyError) as error:
        raise SettingsError(f"restapi.{key}: expected {expected}, but got {value!r}") from error


def _listen(text: str) -> HostPort:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise SettingsError(
            f'Invalid "restapi" config: expected <HOST>:<PORT> for "listen", but got "{text}"'
        )
    host = host.strip("[]")
    return HostPort("" if host == "*" else host, int(port))


def _credentials(section: Mapping[str, Any]) -> bytes | None:
    auth = section.get("auth")
    if not auth and "authentication" in section:
        authentication = section["authentication"]
        auth = _checked(
            "authentication",
            "a username and a password",
            "something else",
            lambda: f"{authentication['username']}:{authentication['password']}",
        )
    if not auth:
        return None
    if not isinstance(auth, str):
        raise SettingsError('restapi.auth: expected "username:password"')
    return base64.b64encode(auth.encode("utf-8"))


def _allowlist(value: object) -> tuple[tuple[Network, ...], tuple[str, ...], bool]:
    if value is None:
        return (), (), False
    if not isinstance(value, list):
        raise SettingsError(f"restapi.allowlist: expected a list, but got {value!r}")
    networks: list[Network] = []
    hosts: list[str] = []
    for entry in value:
        if not isinstance(entry, str) or not entry.strip():
            raise SettingsError(
                f"restapi.allowlist: expected a network, address or host name, but got {entry!r}"
            )
        try:
            networks.append(ip_network(entry.strip(), strict=False))
        except ValueError as error:
            if "/" in entry:
                raise SettingsError(
                    f"restapi.allowlist: {entry!r} is not a network ({error})"
                ) from error
            hosts.append(entry.strip())
    return tuple(networks), tuple(hosts), bool(value)


def _boolean(section: Mapping[str, Any], key: str) -> bool:
    value = section.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    word = str(value).lower()
    if word in _TRUE | _FALSE:
        return word in _TRUE
    raise SettingsError(f"restapi.{key}: expected true or false, but got {value!r}")


def _integer(section: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = section.get(key)
    if value is None:
        return default
    number = _checked(key, "a whole number", value, lambda: int(str(value)))
    if not low <= number <= high:
        raise SettingsError(f"restapi.{key}: expected {low} to {high}, but got {number}")
    return number


def _headers(value: object, key: str) -> tuple[tuple[str, str], ...]:
    if not value:
        return ()
    if not isinstance(value, Mapping):
        raise SettingsError(f"restapi.{key}: expected a mapping of header names to values")
    headers = []
    for name, content in value.items():
        text = str(content)
        if not _TOKEN.fullmatch(str(name)):
            raise SettingsError(f"restapi.{key}: {name!r} is not a header name")
        # A line break here would let a configuration value add headers, or a whole reply.
        if any(character in text for character in "\r\n\0"):
            raise SettingsError(f"restapi.{key}.{name}: a header value cannot hold a line break")
        headers.append((str(name), text))
    return tuple(headers)


def _server_token(value: object, version: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise SettingsError(
            f"restapi.server_tokens: expected Original, Minimal or ProductOnly, but got {value!r}"
        )
    tokens = {"original": None, "productonly": "Patroni", "minimal": f"Patroni/{version}"}
    return tokens.get(value.lower())
