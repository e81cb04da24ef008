"""What clients may take: times, sizes and numbers, and ``restapi.limits`` that changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from twisted_patroni.settings.reading import SettingsError

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Section

#: The least and the most that can be configured.
_SECONDS = (0.1, 3600.0)
_TIMES = ("handshake", "head", "body", "idle")
_NUMBERS = {
    "line_bytes": (1024, 64 * 1024),
    "head_bytes": (1024, 1024 * 1024),
    "headers": (16, 1000),
    "body_bytes": (1024, 256 * 1024 * 1024),
    "connections": (8, 1_000_000),
    "connections_reserved": (0, 1_000_000),
    "connections_per_address": (1, 1_000_000),
    "requests": (1, 1_000_000),
    "subscribers": (1, 1_000_000),
}


@frozen
class Limits:
    """What one client, and all of them together, may take.

    Times are absolute, in seconds: what a client sends meanwhile does not extend them.
    ``first_byte``, ``half_closed``, ``linger``, ``close`` and ``linger_bytes`` cannot be
    configured: they follow from how HTTP and this server work, not from what a site needs.

    :param handshake: from the accept to the end of the TLS handshake.
    :param first_byte: from there to the first byte of a request.
    :param head: from the first byte of a request to the end of its head (else 408).
    :param body: from the end of the head to the end of the body (else 408).
    :param idle: from the end of an answer to the first byte of the next request.
    :param half_closed: for an answer, once the client has said that it will send no more.
    :param linger: how long the rest of a refused request is read and dropped.
    :param close: from the close to the moment when the client has taken all that was sent.
    :param line_bytes: length of a request line (else 414) and of a header line (else 431).
    :param head_bytes: length of a head (else 431).
    :param headers: number of headers (else 431).
    :param body_bytes: length of a body (else 413).
    :param linger_bytes: how much of a refused request is read and dropped.
    :param connections: connections at a time; for a further one the oldest that waits for its
        client is closed, or itself if there is none such.
    :param connections_reserved: how many of these only loopback and the cluster's members get; a
        tenth where that is less.
    :param connections_per_address: connections of one client's address, loopback and the
        cluster's members excepted; further ones are closed.
    :param requests: requests being answered at a time (else 503), loopback and members excepted.
    :param subscribers: clients that wait for events at a time; the same for further ones.
    """

    handshake: float = 5.0
    first_byte: float = 5.0
    head: float = 10.0
    body: float = 30.0
    idle: float = 60.0
    half_closed: float = 3.0
    linger: float = 2.0
    close: float = 10.0
    line_bytes: int = 8 * 1024
    head_bytes: int = 32 * 1024
    headers: int = 100
    body_bytes: int = 5 * 1024 * 1024
    linger_bytes: int = 16 * 1024 * 1024
    connections: int = 10000
    connections_reserved: int = 100
    connections_per_address: int = 1000
    requests: int = 1000
    subscribers: int = 2000


def read_limits(section: Section) -> Limits:
    """Read what clients may take.

    :param section: ``restapi.limits``.
    """
    section.refuse_unknown((*_TIMES, *_NUMBERS))
    values: dict[str, Any] = {key: section.seconds(key, *_SECONDS) for key in _TIMES}
    values |= {key: section.integer(key, *_NUMBERS[key]) for key in _NUMBERS}
    if values["connections"] is not None and values["connections_reserved"] is None:
        values["connections_reserved"] = min(
            Limits().connections_reserved, values["connections"] // 10
        )
    limits = Limits(**{key: value for key, value in values.items() if value is not None})
    if limits.connections_reserved >= limits.connections:
        raise SettingsError(
            f"{section.name}.connections_reserved: expected less than connections"
            f" ({limits.connections}), but got {limits.connections_reserved}"
        )
    if limits.head_bytes < limits.line_bytes:
        raise SettingsError(
            f"{section.name}.head_bytes: expected no less than line_bytes"
            f" ({limits.line_bytes}), but got {limits.head_bytes}"
        )
    return limits
