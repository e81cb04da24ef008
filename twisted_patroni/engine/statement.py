"""The status statement: what every health check and scrape asks PostgreSQL, in one row."""

from __future__ import annotations

from functools import cache


@cache
def status_sql(version: int) -> str:
    """Return the status statement for a server.

    The columns are those of :class:`~twisted_patroni.engine.interface.StatusRow`. Names are
    qualified, so no user's ``search_path`` can put another function in their place.

    :param version: as PostgreSQL numbers it: 90600, 150000, ...
    """
    wal, lsn = ("wal", "lsn") if version >= 100000 else ("xlog", "location")
    flush = "_flush" if version >= 90600 else ""

    def position(value: str) -> str:
        return f"pg_catalog.pg_{wal}_{lsn}_diff({value}, '0/0')::bigint"

    current = f"pg_catalog.pg_current_{wal}_{lsn}()"
    receiver = version >= 90600
    columns = (
        "pg_catalog.pg_postmaster_start_time()",
        "CASE WHEN r.recovering THEN 0 ELSE"
        f" ('x' || pg_catalog.substr(pg_catalog.pg_{wal}file_name({current}), 1, 8))::bit(32)::int"
        " END",
        f"CASE WHEN r.recovering THEN 0 ELSE"
        f" {position(f'pg_catalog.pg_current_{wal}{flush}_{lsn}()')} END",
        position(f"pg_catalog.pg_last_{wal}_replay_{lsn}()"),
        position(f"COALESCE(pg_catalog.pg_last_{wal}_receive_{lsn}(), '0/0')"),
        f"r.recovering AND pg_catalog.pg_is_{wal}_replay_paused()",
        "pg_catalog.pg_last_xact_replay_timestamp()",
        position("wr.latest_end_lsn") if receiver else "NULL",
        "wr.status" if receiver else "NULL",
        "pg_catalog.current_setting('restore_command')" if version >= 120000 else "NULL",
        position("wr.written_lsn") if version >= 130000 else "NULL",
        "(SELECT pg_catalog.json_agg(pg_catalog.row_to_json(s)) FROM (SELECT"
        " (SELECT a.rolname FROM pg_catalog.pg_authid AS a WHERE a.oid = act.usesysid) AS usename,"
        " act.application_name, act.client_addr, w.state, w.sync_state, w.sync_priority"
        " FROM pg_catalog.pg_stat_get_wal_senders() AS w,"
        " pg_catalog.pg_stat_get_activity(w.pid) AS act) AS s)",
    )
    source = "FROM (SELECT pg_catalog.pg_is_in_recovery() AS recovering) AS r"
    if receiver:
        source += " LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() AS wr ON true"
    return f"SELECT {', '.join(columns)} {source}"
