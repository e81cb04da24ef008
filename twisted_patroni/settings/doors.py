"""Further listeners: ``restapi.endpoints``, a list of Twisted endpoint strings with their rules."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import frozen

from twisted_patroni.settings.reading import SettingsError, network
from twisted_patroni.settings.tls import VerifyClient

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Network, Section

_LOOPBACK = (network("127.0.0.0/8"), network("::1/128"))
_PROXIED = "haproxy:"


class Serves(enum.IntEnum):
    """What a listener answers; each includes those before it."""

    #: Health checks.
    HEALTH = 1
    #: Everything that changes nothing.
    READ = 2
    #: Everything.
    ALL = 3


@frozen
class DoorSettings:
    """One further listener.

    :param endpoint: Twisted's server endpoint string, as ``tcp:8009:interface=127.0.0.1``.
    :param serves: what it answers.
    :param tls: clients speak TLS, with the certificate of the ``restapi`` section.
    :param verify_client: what is asked of its clients.
    :param proxies: the networks of those who may tell a client's address in PROXY protocol's
        header; ``None`` if the endpoint does not speak it.
    """

    endpoint: str
    serves: Serves
    tls: bool
    verify_client: VerifyClient
    proxies: tuple[Network, ...] | None = None


def read_doors(
    section: Section, has_certificate: bool, verify_client: VerifyClient
) -> tuple[DoorSettings, ...]:
    """Read the further listeners.

    :param section: the ``restapi`` section.
    :param has_certificate: the API has a certificate to speak TLS with.
    :param verify_client: what they ask of their clients unless they say something else.
    """
    doors: dict[str, DoorSettings] = {}
    for entry in section.sections("endpoints") or ():
        door = _read_door(entry, has_certificate, verify_client)
        if door.endpoint in doors:
            raise SettingsError(f"{entry.name}.endpoint: {door.endpoint!r} is there twice")
        doors[door.endpoint] = door
    return tuple(doors.values())


def _read_door(
    section: Section, has_certificate: bool, verify_client: VerifyClient
) -> DoorSettings:
    section.refuse_unknown(("endpoint", "serves", "tls", "verify_client", "proxies"))
    expected = "an endpoint string of Twisted's, as tcp:8009:interface=127.0.0.1"
    endpoint = section.text("endpoint", expected)
    if endpoint is None:
        raise section.wrong("endpoint", expected)
    if endpoint.removeprefix(_PROXIED).startswith(("ssl:", "tls:")):
        raise SettingsError(
            f"{section.name}.endpoint: give a tcp: endpoint and say tls: true, for TLS comes with"
            f" the certificate of the restapi section, but got {endpoint!r}"
        )
    tls = section.boolean("tls", has_certificate)
    if tls and not has_certificate:
        raise SettingsError(f"{section.name}.tls: TLS needs restapi.certfile, which is missing")
    proxies = section.networks("proxies")
    proxied = endpoint.startswith(_PROXIED)
    if proxies and not proxied:
        raise SettingsError(
            f"{section.name}.proxies: only an endpoint that begins with {_PROXIED} has proxies,"
            f" but this one is {endpoint!r}"
        )
    return DoorSettings(
        endpoint=endpoint,
        serves=section.choice("serves", Serves),
        tls=tls,
        verify_client=section.choice("verify_client", VerifyClient, verify_client),
        proxies=(proxies or _LOOPBACK) if proxied else None,
    )
