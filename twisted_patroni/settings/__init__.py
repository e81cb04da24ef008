"""The ``restapi`` section as frozen, validated settings; every error names its key."""

from __future__ import annotations

from twisted_patroni.settings.doors import DoorSettings, Serves
from twisted_patroni.settings.limits import Limits
from twisted_patroni.settings.reading import Network, SettingsError
from twisted_patroni.settings.restapi import MINIMUM_BACKLOG, HostPort, Settings
from twisted_patroni.settings.rules import Right, Rule
from twisted_patroni.settings.tls import TlsSettings, VerifyClient
from twisted_patroni.settings.webhooks import WebhookSettings

__all__ = [
    "MINIMUM_BACKLOG",
    "DoorSettings",
    "HostPort",
    "Limits",
    "Network",
    "Right",
    "Rule",
    "Serves",
    "Settings",
    "SettingsError",
    "TlsSettings",
    "VerifyClient",
    "WebhookSettings",
]
