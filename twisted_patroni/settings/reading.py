"""Typed values out of a section of the configuration; every error names its key."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


class SettingsError(ValueError):
    """A setting is missing or wrong; the text is one line that names the key."""
