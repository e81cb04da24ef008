"""The ways in: each listener with its rules, and the factory that lets connections through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from twisted_patroni.settings import Serves, VerifyClient

if TYPE_CHECKING:
    from twisted_patroni.settings import Network
    from twisted_patroni.tls import ServerTls


@define(eq=False)
class Door:
    """One listener and its rules, which may be replaced at any time; new connections mind them.

    :param name: where it listens, in the operator's words.
    :param serves: what it answers.
    :param verify_client: what is asked of its clients.
    :param tls: makes the server's side of TLS connections; ``None`` for plain HTTP.
    :param proxies: the networks of those who may tell a client's address; ``None`` if nobody tells.
    :param extra_lines: header lines of all answers but bare ones, encoded.
    """

    name: str = "main"
    serves: Serves = Serves.ALL
    verify_client: VerifyClient = VerifyClient.NONE
    tls: ServerTls | None = None
    proxies: tuple[Network, ...] | None = None
    extra_lines: bytes = b""
