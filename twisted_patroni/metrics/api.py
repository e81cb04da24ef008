"""What the API counts about itself, by prometheus-client."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from twisted.logger import Logger

from twisted_patroni import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from twisted_patroni.engine.interface import Cycle

_log = Logger()

#: Returns a number, ``None`` while it is not known, or for a metric with labels a mapping from
#: their values, a tuple if there are several, to numbers.
Read = Callable[[], float | Mapping[Any, float] | None]

#: Methods that have a label of their own; a client cannot make more.
_KNOWN_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"POST", b"PUT", b"PATCH", b"DELETE"})
#: Health checks that have a label of their own, as far as their exact paths are asked for.
_KNOWN_CHECKS = frozenset(
    {
        "/",
        "/async",
        "/asynchronous",
        "/health",
        "/leader",
        "/master",
        "/primary",
        "/quorum",
        "/read-only",
        "/read-only-quorum",
        "/read-only-sync",
        "/read-only-synchronous",
        "/read-write",
        "/replica",
        "/standby-leader",
        "/standby_leader",
        "/sync",
        "/synchronous",
    }
)
#: The label of requests that were refused before an endpoint was found for them.
UNROUTED = "none"
#: Upper bounds of the histogram of answer times, in seconds.
_BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 3.0, 10.0)
_LABELS = (*_BOUNDS, "+Inf")


@cache
def _literal(declared: str) -> str:
    return declared.partition("/:")[0] or "/"


def endpoint_label(declared: str | None, target: str) -> str:
    """Return the label of a request's endpoint, one of a few whatever clients ask for.

    :param declared: the declared path of the endpoint, ``None`` if none was found.
    :param target: the path asked for.
    """
    if declared is None:
        return UNROUTED
    label = _literal(declared)
    if label != "/":
        return label
    return target if target in _KNOWN_CHECKS else "other"


@frozen
class _Source:
    """Figures that are kept elsewhere, read at each scrape."""

    family: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    summary: str
    read: Read
    labels: tuple[str, ...]
    known: Collection[Any]

    def collect(self) -> Metric:
        family = self.family(self.name, self.summary, labels=self.labels)
        told = self.read()
        if told is None:
            told = {}
        elif not isinstance(told, Mapping):
            told = {(): told}
        for key, number in {**dict.fromkeys(self.known, 0), **told}.items():
            values = key if isinstance(key, tuple) else (key,)
            family.add_metric([str(value) for value in values], number)
        return family


@define(eq=False)
class ApiMetrics(Collector):
    """What the API counts about itself: plain numbers, made into metrics when they are asked for.

    :ivar requests: requests answered, by endpoint, method and status.
    :ivar looks: looks at the DCS.
    :ivar cycles: HA cycles.
    """

    requests: dict[tuple[str, bytes, int], int] = field(factory=dict, init=False)
    looks: int = field(default=0, init=False)
    cycles: int = field(default=0, init=False)
    _cycle_ended: float | None = field(default=None, init=False)
    _cycle_period: float | None = field(default=None, init=False)
    _cycle_duration: float | None = field(default=None, init=False)
    _buckets: list[int] = field(factory=lambda: [0] * (len(_BOUNDS) + 1), init=False)
    _seconds: float = field(default=0.0, init=False)
    _sources: list[_Source] = field(factory=list, init=False)
    _registry: CollectorRegistry = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.gauge(
            "twisted_patroni_build_info", "The version.", lambda: {__version__: 1}, "version"
        )
        self.counter("twisted_patroni_dcs_looks_total", "Looks at the DCS.", lambda: self.looks)
        self.counter("twisted_patroni_ha_cycles_total", "HA cycles.", lambda: self.cycles)
        self.gauge(
            "twisted_patroni_ha_cycle_period_seconds",
            "Time between the ends of the last two HA cycles.",
            lambda: self._cycle_period,
        )
        self.gauge(
            "twisted_patroni_ha_cycle_duration_seconds",
            "Time that the last HA cycle took, without the wait for the next one.",
            lambda: self._cycle_duration,
        )

    def answered(self, method: bytes, code: int, seconds: float, endpoint: str = UNROUTED) -> None:
        """Count an answered request.

        :param method: its method.
        :param code: the answer's status.
        :param seconds: how long the answer took.
        :param endpoint: what :func:`endpoint_label` returns.
        """
        key = (endpoint, method if method in _KNOWN_METHODS else b"other", code)
        self.requests[key] = self.requests.get(key, 0) + 1
        self._buckets[bisect_left(_BOUNDS, seconds)] += 1
        self._seconds += seconds

    def cycled(self, cycle: Cycle) -> None:
        """Count an HA cycle.

        :param cycle: when it began and ended.
        """
        if self._cycle_ended is not None:
            self._cycle_period = cycle.ended - self._cycle_ended
        self._cycle_ended = cycle.ended
        self._cycle_duration = cycle.ended - cycle.began
        self.cycles += 1

    def gauge(
        self,
        name: str,
        summary: str,
        read: Read,
        *labels: str,
        known: Collection[Any] = (),
    ) -> None:
        """Show numbers that are kept elsewhere and may fall.

        :param name: the metric's name.
        :param summary: what it tells.
        :param read: called at each scrape; returns the number, ``None`` if it is not known, or
            with labels a mapping from their values (a tuple if there are several) to numbers.
        :param labels: the labels' names.
        :param known: keys of that mapping which are shown with 0 where they are missing.
        """
        self._sources.append(_Source(GaugeMetricFamily, name, summary, read, labels, known))

    def counter(
        self,
        name: str,
        summary: str,
        read: Read,
        *labels: str,
        known: Collection[Any] = (),
    ) -> None:
        """Show numbers that are kept elsewhere and only rise; see :meth:`gauge`.

        :param name: the metric's name, which ends in ``_total``.
        :param summary: what it tells.
        :param read: called at each scrape.
        :param labels: the labels' names.
        :param known: keys that are shown in any case.
        """
        self._sources.append(_Source(CounterMetricFamily, name, summary, read, labels, known))

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        requests = CounterMetricFamily(
            "twisted_patroni_http_requests_total",
            "Requests answered.",
            labels=("endpoint", "method", "code"),
        )
        for (endpoint, method, code), count in self.requests.items():
            requests.add_metric((endpoint, method.decode(), str(code)), count)
        yield requests
        totals = accumulate(self._buckets)
        yield HistogramMetricFamily(
            "twisted_patroni_http_request_duration_seconds",
            "Time from a complete request to its answer.",
            buckets=[(str(bound), total) for bound, total in zip(_LABELS, totals, strict=True)],
            sum_value=self._seconds,
        )
        for source in self._sources:
            try:
                yield source.collect()
            except Exception:  # the other metrics are worth as much without this one
                _log.failure("The metric {name} cannot be told", name=source.name)

    def text(self) -> str:
        """Return these metrics in Prometheus' text format."""
        return generate_latest(self._registry).decode("utf-8")
