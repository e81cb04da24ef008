"""Connections to the PostgreSQL of a cluster: of one member after the other, until one takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted_patroni.client.postgres import CannotConnect, conninfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from twisted_patroni.client.postgres import Connector
    from twisted_patroni.client.searching import Search


async def conninfo_of(search: Search, parameters: Mapping[str, Any]) -> str:
    """Return the connection string of a member that will do.

    :param search: finds it.
    :param parameters: libpq's.
    """
    candidate = await search.next()
    if candidate is None:
        raise search.in_vain()
    return conninfo(candidate.member, search.target, parameters)


async def connection_to(
    search: Search, connector: Connector, parameters: Mapping[str, Any], patience: float
) -> psycopg.Connection[Any]:
    """Open a connection to a member that will do, and takes it.

    :param search: finds it.
    :param connector: opens connections.
    :param parameters: libpq's.
    :param patience: seconds for one member, unless ``connect_timeout`` says otherwise.
    """
    given = parameters.get("connect_timeout")
    try:
        seconds = patience if given is None else float(given)
    except (TypeError, ValueError):
        raise ValueError(f"connect_timeout: {given!r} is no number of seconds") from None
    while (candidate := await search.next()) is not None:
        text = conninfo(candidate.member, search.target, parameters)
        limit = min(search.left, seconds) if seconds > 0 else search.left
        try:
            return await connector.connect(text, limit)
        except CannotConnect as error:
            search.failed(candidate, error)
        search.tried.add(candidate.pool.url)
    raise search.in_vain()
