"""Tests of twisted_patroni.web.monitoring: GET /metrics."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

import twisted_patroni
from tests.doubles import FakeEngine, make_node
from tests.memory_api import ApiCase, Reply
from tests.test_metrics_api import check_with_promtool
from twisted_patroni.postgres import PostgresError

DOCUMENT = Path(twisted_patroni.__file__).parent.parent / "docs" / "metrics.md"


class MetricsTests(ApiCase):
    """GET /metrics."""

    def samples(self, reply: Reply) -> dict[str, float]:
        """Return the values by name and labels, after Prometheus' own parser."""
        return {
            f"{sample.name} {sorted(sample.labels.items())}": sample.value
            for family in text_string_to_metric_families(reply.body.decode())
            for sample in family.samples
        }

    def test_text(self) -> None:
        """All of it can be read by Prometheus, the engine's part first."""
        reply = self.request("GET", "/metrics")
        self.assertEqual((reply.code, reply.header("Content-Type")), (200, "text/plain"))
        self.assertIn(b'\npatroni_version{scope="demo",name="alpha"} 040105\n', reply.body)
        self.assertTrue(reply.body.startswith(b"# HELP patroni_version "))
        self.assertTrue(reply.body.endswith(b"\n"))
        samples = self.samples(reply)
        self.assertEqual(samples["patroni_primary [('name', 'alpha'), ('scope', 'demo')]"], 1)
        self.assertEqual(self.request("GET", "/metrics/x").code, 200)

    def test_no_name_twice(self) -> None:
        """No metric of the engine has the name of one of the API's."""
        families = text_string_to_metric_families(self.request("GET", "/metrics").body.decode())
        names = [family.name for family in families]
        self.assertEqual(len(names), len(set(names)))

    def test_silent_postgresql(self) -> None:
        """A scrape succeeds in every state of PostgreSQL."""
        self.link.error = PostgresError("gone")
        reply = self.request("GET", "/metrics")
        self.assertEqual(reply.code, 200)
        self.assertIn(b'patroni_postgres_state{scope="demo",name="alpha"} -1\n', reply.body)
        self.use(FakeEngine(make_node(state="stopped", role="demoted", cluster=None)))
        reply = self.request("GET", "/metrics")
        self.assertEqual(reply.code, 200)
        self.assertIn(b'patroni_cluster_unlocked{scope="demo",name="alpha"} 1\n', reply.body)

    def test_requests_are_counted(self) -> None:
        """Answers are counted by endpoint, method and status, refused ones too."""
        self.request("GET", "/primary")
        self.request("GET", "/replica")
        self.request("OPTIONS", "/")
        self.request("BREW", "/")
        text = self.request("GET", "/metrics").body.decode()
        counted = {
            tuple(sample.labels[name] for name in ("endpoint", "method", "code")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "twisted_patroni_http_requests_total"
        }
        self.assertEqual(
            counted,
            {
                ("/primary", "GET", "200"): 1,
                ("/replica", "GET", "503"): 1,
                ("/", "OPTIONS", "200"): 1,
                ("none", "other", "501"): 1,
            },
        )
        self.assertIn("\ntwisted_patroni_http_request_duration_seconds_count 4.0\n", text)

    def own_text(self) -> str:
        """Return what the API tells of itself."""
        text = self.request("GET", "/metrics").body.decode()
        return "".join(re.findall(r"^(?:# \w+ )?twisted_patroni_.*\n", text, re.MULTILINE))

    def test_promtool(self) -> None:
        """Prometheus' own tool has nothing to say about our own metrics."""
        self.request("GET", "/primary")
        check_with_promtool(self.own_text())

    def test_documented(self) -> None:
        """Each of our own metrics is in the documentation, with its kind."""
        shown = re.findall(r"^# TYPE (\S+) (\w+)$", self.own_text(), re.MULTILINE)
        rows = re.findall(r"^\| `(twisted_\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
        self.assertCountEqual(shown, rows)

    def test_own_state(self) -> None:
        """The API tells of connections, its status statements and its lanes."""
        waiting = self.api.begin("GET", "/primary")
        self.link.error = PostgresError("gone")
        samples = self.samples(self.request("GET", "/metrics"))
        for name, value in (
            ("status_failures_total", 1),
            ("status_statements_total", 2),
            ("connections", 1),
            ("connections_accepted_total", 2),
            ("requests_in_flight", 1),
        ):
            self.assertEqual(samples[f"twisted_patroni_{name} []"], value, name)
        for lane in self.api.api.lanes.each():
            labels = [("lane", lane.name)]
            self.assertEqual(samples[f"twisted_patroni_lane_busy {labels}"], 0)
            self.assertEqual(samples[f"twisted_patroni_lane_queued {labels}"], 0)
            self.assertGreater(samples[f"twisted_patroni_lane_workers {labels}"], 0)
            self.assertEqual(samples[f"twisted_patroni_lane_refused_total {labels}"], 0)
        waiting.vanish()

    def test_looks_are_counted(self) -> None:
        """Looks at the DCS are counted, whoever took them."""
        self.api.open()
        self.engine.look()
        self.engine.look()
        samples = self.samples(self.request("GET", "/metrics"))
        self.assertEqual(samples["twisted_patroni_dcs_looks_total []"], 2)
