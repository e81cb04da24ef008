"""Patroni's REST API, event-driven on Twisted, around upstream's own HA engine."""

from importlib.metadata import version

__version__: str = version("twisted_patroni")

__all__ = ["__version__"]
