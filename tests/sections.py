"""Settings and errors from ``restapi`` sections written as keyword arguments."""

from __future__ import annotations

from typing import Any

from twisted_patroni.settings import Settings, SettingsError

#: A hash of the password "secret", with the least that is accepted.
HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$+RsCrdHrAKGEJIDLM0Esow"


def settings(listen: str = "127.0.0.1:8008", **section: Any) -> Settings:
    """Return the settings of a section."""
    return Settings.of({"listen": listen, **section}, "4.1.5")


def error_of(**section: Any) -> str:
    """Return the text of a section's error, or an empty one if it has none."""
    try:
        settings(**section)
    except SettingsError as error:
        return str(error)
    return ""
