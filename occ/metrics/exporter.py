"""The metrics as Prometheus asks for them: read from the server at each scrape, kept nowhere."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

import redis
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from redis.backoff import NoBackoff
from redis.retry import Retry

from integrations.connections.causes import OutageKind
from integrations.deliveries.deliveries import ReceiverState, receiver_state
from integrations.messages.progress import Oldest, oldest_messages, seconds_since_a_tick
from integrations.messages.quarantine import INBOX
from integrations.server.client import client_of
from integrations.server.url import ServerUrl
from integrations.settings import KeylessSettings
from occ.metrics.figures import Figures, Messages, Reader, figures, messages
from tasks.queues import QUARANTINE, REQUESTS, STEPS
from tasks.worker import metric
from tasks.worker.counting import BEYOND, MICROSECONDS, TOTALS
from tasks.worker.metric import CALL_SECONDS_BUCKETS, METRICS, Kind, Metric

_Values = Mapping[tuple[str, ...], float]
_LONGEST_LABEL = 64


class Exporter(Collector):
    """All metrics, for any number of workers."""

    def __init__(self, settings: KeylessSettings) -> None:
        """Connects at the first scrape."""
        self._records = _client(settings.redis_url)
        one = settings.broker_url.is_database_of(settings.redis_url)
        self._broker = self._records if one else _client(settings.broker_url)

    def describe(self) -> Iterable[Family]:
        """Without asking the server, which need not be there yet."""
        return [_family(known) for known in METRICS.values()]

    def collect(self) -> Iterator[Family]:
        """Read everything; without the server with the records only that it is away."""
        try:
            now = figures(self._records)
            totals = cast("dict[str, str]", self._records.hgetall(TOTALS))
            deliveries = receiver_state(self._records)
            waiting = messages(self._records, self._broker)
            last_tick, oldest = seconds_since_a_tick(self._records), oldest_messages(self._records)
        except redis.RedisError:
            yield _with({(): 0.0}, metric.UP)
            return
        yield _with({(): 1.0}, metric.UP)
        yield from _of_figures(now)
        yield from _of_deliveries(deliveries)
        yield from _of_messages(waiting)
        yield from _of_progress(waiting, last_tick, oldest)
        yield from _of_totals(totals)

    def close(self) -> None:
        """Hang up."""
        self._records.close()
        self._broker.close()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the metrics are served."""

    url: str
    _server: object
    _thread: object

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()  # type: ignore[attr-defined]
        self._server.server_close()  # type: ignore[attr-defined]
        self._thread.join()  # type: ignore[attr-defined]


def serve(exporter: Exporter, host: str, port: int) -> Endpoint:
    """Serve the metrics over HTTP, in threads of their own. Raises OSError when the port is taken."""
    server, thread = start_http_server(port, addr=host, registry=registry_of(exporter))
    shown = f"[{host}]" if ":" in host else host
    return Endpoint(f"http://{shown}:{server.server_port}/metrics", server, thread)


def registry_of(exporter: Exporter) -> CollectorRegistry:
    """Ours alone: nothing about this process, which does no work."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    return registry


# --- From the server's figures ----------------------------------------------------------------------------------------


def _of_figures(now: Figures) -> Iterator[Family]:
    if now.connections is not None:
        yield _with({(status,): count for status, count in now.connections.items()}, metric.CONNECTIONS)
        yield _with({(): now.left}, metric.STORES_LEFT)
        yield _with({(): now.unreadable}, metric.UNREADABLE)
    yield _with({(): now.due}, metric.DUE)
    yield _with({(): now.overdue}, metric.OVERDUE)
    yield _with({(): now.oldest_overdue_age}, metric.OVERDUE_AGE)
    yield _with({(): now.held}, metric.HELD)
    yield _with({(): now.refused}, metric.REFUSED)
    yield _with({(): now.silent}, metric.SILENT)
    yield _with({(kind,): float(now.outage is kind) for kind in OutageKind}, metric.OUTAGE)
    yield _with({(): now.events}, metric.EVENTS)
    yield from _of_readers({name[:_LONGEST_LABEL]: reader for name, reader in now.readers.items()})


def _of_readers(readers: Mapping[str, Reader]) -> Iterator[Family]:
    lags: dict[tuple[str, ...], float] = {
        (name,): float(reader.lag) for name, reader in readers.items() if reader.lag is not None
    }
    yield _with(lags, metric.EVENTS_LAG)
    yield _with({(name,): reader.pending for name, reader in readers.items()}, metric.EVENTS_PENDING)
    yield _with({(name,): reader.oldest_unread_age for name, reader in readers.items()}, metric.EVENTS_UNREAD_AGE)


def _of_deliveries(now: ReceiverState) -> Iterator[Family]:
    yield _with({(): now.waiting}, metric.WAITING)
    yield _with({(): now.undelivered}, metric.UNDELIVERED)
    yield _with({(): now.failing_seconds}, metric.RECEIVER_FAILING)


def _of_messages(waiting: Messages) -> Iterator[Family]:
    yield _with({(queue,): length for queue, length in waiting.queues.items()}, metric.QUEUE)
    yield _with({(): waiting.unacknowledged}, metric.UNACKNOWLEDGED)
    yield _with({(): waiting.quarantined}, metric.QUARANTINED)
    yield _with({(): waiting.inbox}, metric.INBOX)
    yield _with({(): waiting.inbox_pending}, metric.INBOX_PENDING)


def _of_progress(waiting: Messages, last_tick: float | None, oldest: Mapping[str, Oldest]) -> Iterator[Family]:
    lengths = {REQUESTS: 0, STEPS: 0, QUARANTINE: 0, **waiting.queues, INBOX: waiting.inbox}
    doors = (INBOX, REQUESTS, STEPS, QUARANTINE)
    # Ticks that have stopped know nothing of what was taken since.
    ages = {queue: oldest[queue].seconds if queue in oldest and lengths[queue] else 0.0 for queue in doors}
    yield _with({} if last_tick is None else {(): last_tick}, metric.LAST_TICK)
    yield _with({(queue,): seconds for queue, seconds in ages.items()}, metric.OLDEST)
    unread = [one.messages for queue, one in oldest.items() if queue not in doors]
    yield _with({(): float(sum(unread))}, metric.UNREAD)


# --- From what workers counted ----------------------------------------------------------------------------------------


def _of_totals(totals: Mapping[str, str]) -> Iterator[Family]:
    by_metric: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    for field, total in totals.items():
        name, *labels = field.split("|")
        by_metric[name][tuple(labels)] = float(total)
    for known in METRICS.values():
        if known.kind is Kind.COUNTER:
            # From the beginning on: an increase from nothing to one would be seen by nobody.
            zeros = dict.fromkeys(product(*known.values), 0.0) if len(known.values) == len(known.labels) else {}
            counted = {labels: n for labels, n in by_metric[known.name].items() if len(labels) == len(known.labels)}
            yield _with(zeros | counted, known)
    yield _histogram(metric.CALL_SECONDS, by_metric[metric.CALL_SECONDS.name])


def _histogram(known: Metric, counted: _Values) -> Family:
    family = HistogramMetricFamily(known.name, known.meaning, labels=known.labels)
    for endpoint in sorted({labels[0] for labels in counted}):
        so_far, buckets = 0.0, []
        for bound in (*map(str, CALL_SECONDS_BUCKETS), BEYOND):
            so_far += counted.get((endpoint, bound), 0.0)
            buckets.append((bound, so_far))
        family.add_metric([endpoint], buckets, sum_value=counted.get((endpoint, MICROSECONDS), 0.0) / 1e6)
    return family


# --- As Prometheus wants it -------------------------------------------------------------------------------------------


_FAMILIES: Mapping[Kind, type[GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily]] = {
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


def _family(known: Metric) -> Any:
    return _FAMILIES[known.kind](known.name, known.meaning, labels=known.labels)


def _with(values: _Values, known: Metric) -> Family:
    family: Any = _family(known)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return cast("Family", family)


def _client(server: ServerUrl) -> redis.Redis:
    """For a scrape, which comes again: better none this time than a late one."""
    return client_of(
        server, decode_responses=True, socket_timeout=5, socket_connect_timeout=3, retry=Retry(NoBackoff(), 1)
    )
