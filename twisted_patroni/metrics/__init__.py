"""Metrics: the engine's, under the names dashboards know, and the API's own."""

from __future__ import annotations

from twisted_patroni.metrics.api import UNROUTED, ApiMetrics, endpoint_label
from twisted_patroni.metrics.engine import engine_metrics

__all__ = ["UNROUTED", "ApiMetrics", "endpoint_label", "engine_metrics"]
