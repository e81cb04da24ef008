"""How members are printed: lines for people and scripts, JSON, connection strings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from twisted_patroni.client.postgres import conninfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twisted_patroni.client.finding import Place
    from twisted_patroni.discovery.settings import Wish


def lines(places: Sequence[Place], wish: Wish) -> list[str]:
    """Return the lines that show members: one for each, or a single one where all is one.

    :param places: where they are.
    :param wish: what is to be printed.
    """
    if wish.shape == "json":
        members = [_document(each) for each in places]
        return [json.dumps({"target": wish.aim.target, "members": members})]
    if wish.follow:
        return [_line(places, wish)]
    return [_line([each], wish) for each in places]


def _line(places: Sequence[Place], wish: Wish) -> str:
    if wish.shape == "plain" or not places:
        return ",".join(map(str, places))
    strings = [_conninfo(each, wish.aim.target) for each in places]
    if len(strings) == 1:
        return strings[0]
    parts = [conninfo_to_dict(each) for each in strings]
    joined = {key: ",".join(str(each[key]) for each in parts) for key in ("host", "port")}
    return make_conninfo(strings[0], **joined)


def _conninfo(place: Place, target: str) -> str:
    # The one that leads a standby cluster cannot be written to.
    is_standby = target == "primary" and place.member.role == "standby_leader"
    return conninfo(
        place.member, target, {"target_session_attrs": "standby" if is_standby else None}
    )


def _document(place: Place) -> dict[str, object]:
    member = place.member
    return {
        "name": member.name,
        "role": member.role,
        "host": place.host,
        "port": place.port,
        "lag": member.lag,
    }
