"""Tells receivers over HTTP what has happened: signed, in order, and without delaying anything."""

from twisted_patroni.webhooks.files import check
from twisted_patroni.webhooks.hooks import Webhooks

__all__ = ["Webhooks", "check"]
