"""`/metrics` in Prometheus' text format: requests of this process, and how catalog, advisories and disk stand.

What stands in the home is read at most once in `_FRESH_SECONDS`, by one request, whoever asks how often. What could not
be read has no sample then, and `tidewaiter_source_up` says so: zero would be an answer.
"""

import datetime as dt
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from fastapi import APIRouter, Request, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import tidewaiter
from tidewaiter.advisories import mirror
from tidewaiter.advisories.advisory import family
from tidewaiter.advisories.database import Database
from tidewaiter.catalog import figures
from tidewaiter.core import clock
from tidewaiter.core.errors import TidewaiterError
from tidewaiter.core.settings import Settings
from tidewaiter.pipelines import bounding
from tidewaiter.web.source import Source

router = APIRouter(include_in_schema=False)
# Else each series has a second one: when it began.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library is only partly typed

_FRESH_SECONDS = 30.0
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ENVIRONMENTS = frozenset({"research", "staging", "production"})
_OTHER = "other"


class Metrics:
    """Of one application; it has a registry of its own, so that several may be in one process."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "tidewaiter_http_requests",
            "Requests that were answered, by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "tidewaiter_http_request_seconds",
            "Seconds from a request to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._in_progress = Gauge(
            "tidewaiter_http_requests_in_progress", "Requests that are being answered.", registry=self.registry
        )
        version = Gauge("tidewaiter_build_info", "1, with the program's version.", ("version",), registry=self.registry)
        version.labels(tidewaiter.__version__).set(1)
        ProcessCollector(registry=self.registry)
        self.registry.register(_Home(settings, source))

    def begin(self) -> None:
        """A request begins."""
        self._in_progress.inc()

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """It ended."""
        self._in_progress.dec()
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """Everything that is counted."""
    found: Metrics = request.app.state.metrics
    return Response(
        generate_latest(found.registry), media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"}
    )


class _Home(Collector):
    """What stands in the home."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._settings = settings
        self._source = source
        self._lock = threading.Lock()
        self._last: list[Metric] = []
        self._until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: a catalog need not be opened for that."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The figures, at most `_FRESH_SECONDS` old."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._last = list(self._read())
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._last

    def _read(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(
            "tidewaiter_source_up", "Whether this could be read; else it has no samples.", labels=("source",)
        )
        parts: dict[str, Callable[[], Iterable[Metric]]] = {
            "catalog": self._catalog,
            "advisories": self._advisories,
            "disk": self._disk,
        }
        for name, read in parts.items():
            try:
                found = list(read())
            except (TidewaiterError, OSError, ValueError):
                up.add_metric((name,), 0)
                continue
            up.add_metric((name,), 1)
            yield from found
        yield up

    def _catalog(self) -> Iterator[Metric]:
        with self._source.catalog.database.reading() as connection:
            found = figures.read(connection)
        yield _gauge("catalog_rows", "How many of each noun the catalog knows.", "noun", found.rows)
        yield _gauge("tags", "Tags by visibility.", "visibility", found.tags)
        yield _gauge(
            "cleared_tags", "Tags by the environment that they are cleared for.", "environment", _known(found.cleared)
        )
        verdicts = GaugeMetricFamily("tidewaiter_verdicts", "Recorded verdicts.", labels=("environment", "verdict"))
        for answer in ("allow", "deny"):
            of = {where: count for (where, what), count in found.verdicts.items() if what == answer}
            for where, count in _known(of).items():
                verdicts.add_metric((where, answer), count)
        yield verdicts
        yield GaugeMetricFamily(
            "tidewaiter_audit_entries", "Entries of the audit log with a position.", found.audit_entries
        )
        yield GaugeMetricFamily(
            "tidewaiter_audit_pending", "Changes that wait for their position in the audit log.", found.audit_pending
        )

    def _advisories(self) -> Iterator[Metric]:
        path = self._settings.home.advisories
        if not path.exists():  # looking makes none
            return
        with Database(path) as database:
            covered = database.coverage().values()
        now = clock.now()
        ages: dict[str, float] = {}
        entries: dict[str, int] = {}
        for one in covered:
            name = family(one.ecosystem)
            name = name if name in mirror.ECOSYSTEMS else _OTHER
            entries[name] = entries.get(name, 0) + one.entries
            if one.as_of:
                ages[name] = max(ages.get(name, 0.0), _seconds_since(one.as_of, now))
        yield _gauge("advisories_age_seconds", "Age of the advisory data, that of the oldest part.", "ecosystem", ages)
        yield _gauge("advisories", "Entries of the advisory data.", "ecosystem", entries)

    def _disk(self) -> Iterator[Metric]:
        home = self._settings.home
        found = os.statvfs(home.path)
        yield GaugeMetricFamily(
            "tidewaiter_disk_free_bytes", "Free on the disk of the home.", found.f_bavail * found.f_frsize
        )
        yield GaugeMetricFamily(
            "tidewaiter_disk_bytes", "Size of the disk of the home.", found.f_blocks * found.f_frsize
        )
        yield GaugeMetricFamily(
            "tidewaiter_cache_bound_bytes", "What `cache prune` leaves at most.", self._settings.cache_bytes
        )
        measured = bounding.measured(self._settings)
        if measured is not None:
            yield GaugeMetricFamily(
                "tidewaiter_cache_bytes", "Size of the cache, as a build or a pruning measured it last.", measured
            )


def _gauge(name: str, meaning: str, label: str, values: dict[str, int] | dict[str, float]) -> GaugeMetricFamily:
    made = GaugeMetricFamily(f"tidewaiter_{name}", meaning, labels=(label,))
    for key, value in sorted(values.items()):
        made.add_metric((key,), value)
    return made


def _known(values: dict[str, int]) -> dict[str, int]:
    """By environment; what somebody else called otherwise is counted together."""
    found: dict[str, int] = {}
    for name, count in values.items():
        where = name if name in _ENVIRONMENTS else _OTHER
        found[where] = found.get(where, 0) + count
    return found


def _seconds_since(moment: str, now: dt.datetime) -> float:
    return max(0.0, (now - clock.parse_rfc3339(moment)).total_seconds())
