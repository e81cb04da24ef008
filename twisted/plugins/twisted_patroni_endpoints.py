"""The endpoint plugin: names the prefix ``patroni:``; everything else is in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IStreamClientEndpointStringParserWithReactor
from twisted.plugin import IPlugin
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IStreamClientEndpoint


@implementer(IPlugin, IStreamClientEndpointStringParserWithReactor)
class PatroniEndpointParser:
    """Reads strings that begin with ``patroni:``."""

    prefix = "patroni"

    def parseStreamClient(self, reactor: Any, *args: Any, **kwargs: Any) -> IStreamClientEndpoint:
        """Return the endpoint for a string.

        :param reactor: the reactor.
        :param args: the parts without a name.
        :param kwargs: the parts with one.
        """
        # Not before it is needed: this module is loaded by every program that uses any endpoint.
        from twisted_patroni.client.endpoint import parse

        return parse(reactor, *args, **kwargs)


patroni_endpoints = PatroniEndpointParser()
