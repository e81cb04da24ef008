"""How a client speaks to a cluster: TLS, who asks, times and bounds."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrs import field, frozen
from attrs.validators import ge, gt

from twisted_patroni.client.configuration import Configuration
from twisted_patroni.client.tls import TlsFiles, TlsPolicy, load_policy

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

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

    >>> settings = ClientSettings(login=Login("demo", "secret"), timeout=5.0)
    >>> settings.login
    Login(user='demo')
    """

    tls: TlsFiles = field(factory=TlsFiles)
    login: Login | None = None
    connect_timeout: float = field(default=2.0, validator=gt(0))
    timeout: float = field(default=10.0, validator=gt(0))
    connections: int = field(default=8, validator=ge(1))
    idle: float = field(default=30.0, validator=gt(0))

    @classmethod
    def from_patroni(
        cls,
        source: Configuration | str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        **others: Any,
    ) -> ClientSettings:
        """Return what Patroni's configuration says, as patronictl understands it; may block.

        The section ``ctl`` counts, then ``restapi``; variables as ``PATRONI_CTL_CACERT`` go before
        both.

        :param source: the file, its content, or what was made of it already; ``None`` for the file
            that patronictl would read, which need not exist.
        :param environ: the environment, by default that of this process.
        :param others: the settings of which Patroni knows nothing, as ``timeout``.
        :raise ConfigurationError: if the configuration cannot be right.

        >>> joe = {"username": "joe", "password": "secret"}
        >>> found = ClientSettings.from_patroni(
        ...     {"ctl": {"cacert": "ca.crt", "authentication": joe}}, environ={}, timeout=3.0)
        >>> found.tls.cafile, found.login, found.timeout
        ('ca.crt', Login(user='joe'), 3.0)
        """
        configuration = Configuration.loaded(source, environ)
        return cls(**{"tls": configuration.tls(), "login": configuration.login(), **others})

    @cached_property
    def policy(self) -> TlsPolicy:
        """Whom to trust; the files are read when this is asked for first.

        :raise TlsError: if one of them cannot be used.

        >>> ClientSettings(tls=TlsFiles(insecure=True)).policy
        TlsPolicy(_trusted=None, _insecure=True)
        """
        return load_policy(self.tls)
