"""Tests of twisted_patroni.engine.statement: what is asked of which server version."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.doubles import primary_row
from twisted_patroni.engine.statement import status_sql

VERSIONS = (90400, 90500, 90600, 100000, 110000, 120000, 130000, 150000, 180000)


def columns(sql: str) -> list[str]:
    """Split the select list at the commas outside of parentheses and quotes."""
    found, depth, quoted, start = [], 0, False, len("SELECT ")
    text = sql[: sql.index(" FROM (SELECT pg_catalog.pg_is_in_recovery()")]
    for at, character in enumerate(text):
        quoted ^= character == "'"
        if quoted:
            continue
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            found.append(text[start:at].strip())
            start = at + 1
    return [*found, text[start:].strip()]


class StatusSqlTests(SynchronousTestCase):
    """The status statement."""

    def test_one_column_for_each_attribute(self) -> None:
        """Whatever the version, the row fits the view."""
        attributes = len(primary_row().__attrs_attrs__)
        for version in VERSIONS:
            self.assertEqual(len(columns(status_sql(version))), attributes, version)

    def test_since_which_version(self) -> None:
        """Functions and views are asked for since the version that has them, else NULL."""
        rows = (
            # version, words that are there, words that are not
            (90500, ("xlog", "pg_current_xlog_location()"), ("wal_receiver", "flush", "_lsn_diff")),
            (90600, ("pg_current_xlog_flush_location", "wal_receiver"), ("pg_wal_lsn_diff",)),
            (100000, ("pg_wal_lsn_diff", "pg_current_wal_flush_lsn"), ("xlog",)),
            (110000, (), ("restore_command", "written_lsn")),
            (120000, ("restore_command",), ("written_lsn",)),
            (130000, ("restore_command", "written_lsn"), ("xlog",)),
        )
        for version, there, absent in rows:
            sql = status_sql(version)
            for word in there:
                self.assertIn(word, sql, version)
            for word in absent:
                self.assertNotIn(word, sql, version)

    def test_positions_of_columns(self) -> None:
        """Columns that not every version has keep their place."""
        for version in VERSIONS:
            got = columns(status_sql(version))
            self.assertEqual("NULL" in got[7:9], version < 90600, version)
            self.assertEqual(got[9] == "NULL", version < 120000, version)
            self.assertEqual(got[10] == "NULL", version < 130000, version)

    def test_functions_are_qualified(self) -> None:
        """No function is looked for in a schema that a user could write to."""
        for version in VERSIONS:
            sql = status_sql(version)
            for name in ("pg_is_in_recovery", "pg_last_", "json_agg", "row_to_json", "substr("):
                for at in range(len(sql)):
                    if sql.startswith(name, at) and sql[at - 1] != "_":
                        self.assertTrue(sql[:at].endswith("pg_catalog."), f"{version} {sql[at:]}")
