"""``restapi.origins``: the pages, besides the node's own, that may follow its events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted_patroni.settings.reading import SettingsError

if TYPE_CHECKING:
    from twisted_patroni.settings.reading import Section

_ORIGIN = re.compile(r"(https?)://((?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?)", re.ASCII)
_USUAL_PORTS = {"http": ":80", "https": ":443"}


def read_origins(restapi: Section) -> frozenset[str]:
    """Read the origins, as browsers write them.

    :param restapi: the section.
    """
    value = restapi.values.get("origins")
    if value is None:
        return frozenset()
    if not isinstance(value, list):
        raise restapi.wrong("origins", "a list")
    return frozenset(map(_origin, value))


def _origin(entry: object) -> str:
    match = _ORIGIN.fullmatch(entry.lower()) if isinstance(entry, str) else None
    if match is None or (match[3] and not 0 < int(match[3]) < 65536):
        raise SettingsError(
            "restapi.origins: expected origins like https://dash.example:8443, without a path,"
            f" but got {entry!r}"
        )
    return f"{match[1]}://{match[2].removesuffix(_USUAL_PORTS[match[1]])}"
