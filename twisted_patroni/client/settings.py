"""How a client speaks to a cluster: TLS, who asks, times and bounds."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from attrs import field, frozen

from twisted_patroni.client.tls import TlsFiles, TlsPolicy, load_policy

if TYPE_CHECKING:
    from twisted_patroni.client.asking import Login


@frozen(slots=False)
class ClientSettings:
    """How to speak to the nodes of a cluster.

    :param tls: whom to trust, and what to show.
    :param login: user and password; ``None`` to show none.
    :param connect_timeout: seconds until a connection must have been made.
    :param timeout: seconds until an answer must be complete, the wait for a connection included.
    :param connections: connections to one node at a time.
    :param idle: seconds for which a connection is kept that nobody uses; less than the 60 for
        which a node keeps it.
    """

    tls: TlsFiles = field(factory=TlsFiles)
    login: Login | None = None
    connect_timeout: float = 2.0
    timeout: float = 10.0
    connections: int = 8
    idle: float = 30.0

    @cached_property
    def policy(self) -> TlsPolicy:
        """Whom to trust; the files are read when this is asked for first.

        :raise TlsError: if one of them cannot be used.
        """
        return load_policy(self.tls)
