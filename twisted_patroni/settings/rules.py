"""Who may do what: ``restapi.access``, ``restapi.users`` and ``restapi.protect_reads``."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Network


class Right(enum.Enum):
    """What a rule can allow; ``all`` in the configuration stands for each of them."""

    #: Look at the cluster, where ``restapi.protect_reads`` asks for a right to do so.
    READ = "read"
    #: Switchover, failover, restart, reinitialize.
    OPERATE = "operate"
    #: Change the dynamic configuration, and reload this node's.
    CONFIGURE = "configure"


@frozen
class Rule:
    """Some clients and what they may do. All conditions that are given must hold.

    Patterns are shell patterns (``*``, ``?``, ``[...]``) and mind upper and lower case.

    :param may: what it allows.
    :param subject: pattern of the client certificate's subject (RFC 4514, as ``CN=backup,O=dba``).
    :param san: pattern of one of its alternative names, as ``DNS:*.ops.example.com``,
        ``IP:10.0.0.7``, ``email:a@example.com``, ``URI:spiffe://x/y``.
    :param user: the user of basic authentication.
    :param networks: the client's address is in one of these.
    """

    may: frozenset[Right]
    subject: str | None = None
    san: str | None = None
    user: str | None = None
    networks: tuple[Network, ...] = ()
