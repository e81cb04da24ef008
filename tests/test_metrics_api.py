"""Tests of twisted_patroni.metrics.api: what the API tells of itself."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from unittest import SkipTest

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.test_checks import PATHS
from twisted_patroni import __version__
from twisted_patroni.engine.interface import Cycle
from twisted_patroni.metrics import ApiMetrics, endpoint_label


def check_with_promtool(text: str) -> None:
    """Fail unless Prometheus' own tool finds nothing to say about metrics.

    :param text: the metrics.
    :raise SkipTest: if the tool is not installed.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        raise SkipTest("promtool is not installed")
    ended = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60
    )
    if (ended.returncode, ended.stdout, ended.stderr) != (0, "", ""):
        raise AssertionError(ended.stdout + ended.stderr)


class EndpointLabelTests(SynchronousTestCase):
    """The label of a request's endpoint."""

    def test_declared(self) -> None:
        """An endpoint is called by its path, without what clients choose of it."""
        for declared, label in (
            ("/patroni/:rest*", "/patroni"),
            ("/config", "/config"),
            ("/members/:name/restart", "/members"),
        ):
            self.assertEqual(endpoint_label(declared, "/whatever"), label)

    def test_unrouted(self) -> None:
        """A request that was refused before an endpoint was found has a label of its own."""
        self.assertEqual(endpoint_label(None, "/primary"), "none")

    def test_health_checks(self) -> None:
        """Each health check of the contract has its label, its variations share one."""
        shared = {path for path in PATHS if endpoint_label("/:check*", path) != path}
        meaningless = {path for path, stands_for in PATHS.items() if stands_for == "nothing"}
        self.assertEqual(
            shared - meaningless,
            {
                "/async-replica",
                "/foo-leader-bar",
                "/healthz",
                "/my-read-only-pool",
                "/x-standby-leader/y",
                "/xprimaryx",
            },
        )
        self.assertEqual(meaningless - shared, set())
        self.assertEqual({endpoint_label("/:check*", path) for path in shared}, {"other"})


class ApiMetricsTests(SynchronousTestCase):
    """What the API counts about itself."""

    def setUp(self) -> None:
        """Begin to count."""
        self.metrics = ApiMetrics()

    def samples(self) -> dict[str, float]:
        """Return the values by name and labels, as Prometheus reads them."""
        return {
            sample.name
            + "".join(f" {name}={value}" for name, value in sorted(sample.labels.items())): (
                sample.value
            )
            for family in text_string_to_metric_families(self.metrics.text())
            for sample in family.samples
        }

    def test_requests(self) -> None:
        """Requests are counted by endpoint, method and status; unknown methods share a label."""
        for endpoint, method, code in (
            ("/primary", b"GET", 200),
            ("/primary", b"GET", 200),
            ("/primary", b"GET", 503),
            ("/patroni", b"GET", 200),
            ("none", b"BREW", 501),
            ("none", b"\xff", 501),
        ):
            self.metrics.answered(method, code, 0.002, endpoint)
        samples = self.samples()
        requests = "twisted_patroni_http_requests_total"
        self.assertEqual(samples[f"{requests} code=200 endpoint=/primary method=GET"], 2)
        self.assertEqual(samples[f"{requests} code=503 endpoint=/primary method=GET"], 1)
        self.assertEqual(samples[f"{requests} code=200 endpoint=/patroni method=GET"], 1)
        self.assertEqual(samples[f"{requests} code=501 endpoint=none method=other"], 2)

    def test_durations(self) -> None:
        """A histogram tells how long answers took."""
        for seconds in (0.0005, 0.002, 0.002, 60):
            self.metrics.answered(b"GET", 200, seconds)
        samples = self.samples()
        name = "twisted_patroni_http_request_duration_seconds"
        self.assertEqual(samples[f"{name}_bucket le=0.001"], 1)
        self.assertEqual(samples[f"{name}_bucket le=0.005"], 3)
        self.assertEqual(samples[f"{name}_bucket le=10.0"], 3)
        self.assertEqual(samples[f"{name}_bucket le=+Inf"], 4)
        self.assertEqual(samples[f"{name}_count"], 4)
        self.assertAlmostEqual(samples[f"{name}_sum"], 60.0045)

    def test_sources(self) -> None:
        """What is kept elsewhere is shown as it is at the scrape."""
        numbers = {"things": 1, "events": 2}
        self.metrics.gauge("twisted_patroni_things", "Things.", lambda: numbers["things"])
        self.metrics.counter("twisted_patroni_events_total", "Events.", lambda: numbers["events"])
        for things, events in ((1, 2), (0, 5)):
            numbers.update(things=things, events=events)
            samples = self.samples()
            self.assertEqual(samples["twisted_patroni_things"], things)
            self.assertEqual(samples["twisted_patroni_events_total"], events)
        self.assertIn("# TYPE twisted_patroni_things gauge\n", self.metrics.text())
        self.assertIn("# TYPE twisted_patroni_events_total counter\n", self.metrics.text())

    def test_labels(self) -> None:
        """A mapping has a sample for each of its keys, and for those known to be possible."""
        self.metrics.counter(
            "twisted_patroni_errors_total",
            "Errors.",
            lambda: Counter({400: 3}),
            "code",
            known=(400, 431),
        )
        self.metrics.gauge(
            "twisted_patroni_certificate_info",
            "It.",
            lambda: {("7f", 'CN="x"\n'): 1},
            "serial",
            "subject",
        )
        samples = self.samples()
        self.assertEqual(samples["twisted_patroni_errors_total code=400"], 3)
        self.assertEqual(samples["twisted_patroni_errors_total code=431"], 0)
        self.assertEqual(samples['twisted_patroni_certificate_info serial=7f subject=CN="x"\n'], 1)

    def test_unknown(self) -> None:
        """What is not known yet has no sample."""
        self.metrics.gauge("twisted_patroni_things", "Things.", lambda: None)
        self.assertNotIn("twisted_patroni_things", self.samples())

    def test_broken_source(self) -> None:
        """A source that fails costs no other metric, and is logged."""
        self.metrics.gauge("twisted_patroni_broken", "Broken.", lambda: 1 / 0)
        self.metrics.gauge("twisted_patroni_things", "Things.", lambda: 3)
        samples = self.samples()
        self.assertNotIn("twisted_patroni_broken", samples)
        self.assertEqual(samples["twisted_patroni_things"], 3)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cycles(self) -> None:
        """Two HA cycles have a period, one only a duration."""
        name = "twisted_patroni_ha_cycle"
        samples = self.samples()
        self.assertEqual(samples[f"{name}s_total"], 0)
        self.assertNotIn(f"{name}_duration_seconds", samples)
        self.metrics.cycled(Cycle(100, 100.5))
        samples = self.samples()
        self.assertEqual(samples[f"{name}_duration_seconds"], 0.5)
        self.assertNotIn(f"{name}_period_seconds", samples)
        self.metrics.cycled(Cycle(110, 110.25))
        samples = self.samples()
        self.assertEqual(samples[f"{name}_duration_seconds"], 0.25)
        self.assertEqual(samples[f"{name}_period_seconds"], 9.75)
        self.assertEqual(samples[f"{name}s_total"], 2)

    def test_version(self) -> None:
        """The version is a label."""
        self.assertEqual(self.samples()[f"twisted_patroni_build_info version={__version__}"], 1)

    def test_apart(self) -> None:
        """Two APIs in one process do not share their counts."""
        self.metrics.looks += 1
        self.assertEqual(self.samples()["twisted_patroni_dcs_looks_total"], 1)
        self.metrics = ApiMetrics()
        self.assertEqual(self.samples()["twisted_patroni_dcs_looks_total"], 0)

    def test_promtool(self) -> None:
        """Prometheus' own tool has nothing to complain about."""
        self.metrics.answered(b"GET", 200, 0.002, "/primary")
        self.metrics.cycled(Cycle(100, 100.5))
        self.metrics.cycled(Cycle(110, 110.5))
        self.metrics.counter("twisted_patroni_events_total", "Events.", lambda: {"a": 1}, "kind")
        check_with_promtool(self.metrics.text())
