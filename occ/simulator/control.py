"""The control port: make stores, change them and read their counts over HTTP while everything runs.

    GET    /                         address, latency, number of stores
    PATCH  /                         latency and jitter of all stores that set none themselves; orders a minute
    GET    /tenants                  name, URL and key of each
    POST   /tenants                  one object, a list of them, or {"count": 500, "name": "m-{n}", ...}
    PATCH  /tenants                  {"names": [...], ...changes} for some, without names for all
    GET    /tenants/NAME             slots, faults to come, counts
    PATCH  /tenants/NAME             settings, faults, keys, reachable
    DELETE /tenants/NAME             the address refuses connections from then on
    GET    /tenants/NAME/calls       every call with its times
    POST   /tenants/NAME/slots/SLOT  {"url": ..., "how": "merge"}: a rival writes now
    POST   /tenants/NAME/failed-messages  {"slot": ..., "urls": [...]}: a delivery is given up
    POST   /tenants/NAME/orders      {"count": 1}: shoppers order something; its slots' callback URLs hear of it
    GET    /tenants/NAME/slots/SLOT/secret  what its deliveries are signed with, base64
    GET    /calls                    totals and a summary per store; ?detail=true: every call of every store
    POST   /reset-counts             {"names": [...]} or {} for all

Mistakes are answered with 400 and a sentence in `error`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from occ.simulator.message import Reply, Request, json_reply
from occ.simulator.setting_error import SettingError
from occ.simulator.store import DELIVERY_COUNTS, SimulatedStore
from occ.simulator.webhooks import UnknownSlotError

if TYPE_CHECKING:
    from occ.simulator.runner import Simulator

Json = dict[str, object]
SUMMED = (
    *("calls", "repeated_writes", "connections", "tokens_issued", "secret_resets", "messages_resent"),
    *DELIVERY_COUNTS,
)
COUNTED = ("endpoints", "statuses", "faults")
LISTED = ("foreign_urls_lost", "foreign_settings_lost", "retry_after_undercut")


class Control:
    """Answers requests to the control port; runs in the simulator's thread."""

    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator

    def answer(self, request: Request) -> Reply:
        """One request."""
        parts = [part for part in request.path.split("/") if part]
        fitting = [handler for method, path, handler in ROUTES if method == request.method and _matches(path, parts)]
        if not fitting:
            return json_reply(404, {"error": f"no {request.method} {request.path}"})
        try:
            return json_reply(200, fitting[0](self, request, parts))
        except UnknownSlotError as problem:
            return json_reply(404, {"error": f"no slot {problem}"})
        except KeyError as problem:
            return json_reply(404, {"error": f"no store {problem}"})
        except (SettingError, TypeError) as problem:
            return json_reply(400, {"error": str(problem)})
        except OSError as problem:
            return json_reply(503, {"error": str(problem)})

    def _stores(self) -> Iterable[SimulatedStore]:
        return self._simulator.stores.values()

    def about(self, _request: Request, _parts: list[str]) -> Json:
        """What a newcomer needs to know."""
        simulator = self._simulator
        return {
            "port": None if simulator.one_address else simulator.port,
            "tls_port": simulator.tls_port or None,
            "control_url": simulator.control_url,
            "dev_stores": simulator.dev_stores,
            "latency": simulator.latency,
            "jitter": simulator.jitter,
            "orders": simulator.courier.orders_per_minute,
            "tenants": len(simulator.stores),
        }

    def change_all_latency(self, request: Request, parts: list[str]) -> Json:
        """Latency and jitter of all stores that set none themselves."""
        body = _object(request)
        for name, value in body.items():
            if name not in ("latency", "jitter", "orders") or not isinstance(value, (int, float)) or value < 0:
                raise SettingError("the simulator has 'latency' and 'jitter', in seconds, and 'orders' a minute")
            if name == "orders":
                self._simulator.courier.set_orders(float(value))
            else:
                setattr(self._simulator, name, float(value))
        return self.about(request, parts)

    def add(self, request: Request, _parts: list[str]) -> Json:
        """New stores."""
        body = request.json()
        if isinstance(body, Mapping) and "tenants" in body:
            body = body["tenants"]
        entries = body if isinstance(body, list) else [body]
        added: list[SimulatedStore] = []
        for entry in entries:
            if not isinstance(entry, Mapping):
                raise SettingError("a store is an object")
            fields = dict(entry)
            count = fields.pop("count", None)
            name = fields.pop("name", None)
            if isinstance(count, int):
                added += self._simulator.add_many(count, str(name or "m-{n}"), **fields)
            else:
                added.append(self._simulator.add(None if name is None else str(name), **fields))
        return {"tenants": [store.address() for store in added]}

    def change_one(self, request: Request, parts: list[str]) -> Json:
        """Change one store."""
        store = self._simulator.store(parts[1])
        store.change(**_object(request))
        return store.described()

    def change_some(self, request: Request, _parts: list[str]) -> Json:
        """Change several stores."""
        changes = _object(request)
        names = changes.pop("names", None)
        stores = list(self._stores()) if names is None else [self._simulator.store(str(name)) for name in _list(names)]
        for store in stores:
            store.change(**changes)
        return {"changed": len(stores)}

    def addresses(self, _request: Request, _parts: list[str]) -> Json:
        """Names, addresses and keys."""
        return {"tenants": [store.address() for store in self._stores()]}

    def describe(self, _request: Request, parts: list[str]) -> Json:
        """One store."""
        return self._simulator.store(parts[1]).described()

    def calls_of_one(self, _request: Request, parts: list[str]) -> Json:
        """Every call of one store."""
        return {"calls": self._simulator.store(parts[1]).calls_described()}

    def remove(self, _request: Request, parts: list[str]) -> Json:
        """One store is gone."""
        self._simulator.remove(parts[1])
        return {"removed": parts[1]}

    def rival_writes(self, request: Request, parts: list[str]) -> Json:
        """A rival writes now."""
        body = _object(request)
        store = self._simulator.store(parts[1])
        url = str(body.get("url", "https://rival.example.net/hook"))
        store.rival_writes(parts[3], url, how=str(body.get("how", "merge")))
        return {"urls": store.urls(parts[3])}

    def give_up_delivery(self, request: Request, parts: list[str]) -> Json:
        """A delivery is given up."""
        body = _object(request)
        urls = body.get("urls")
        store = self._simulator.store(parts[1])
        return {
            "id": store.give_up_delivery(str(body.get("slot")), [str(url) for url in _list(urls)] if urls else None)
        }

    def place_orders(self, request: Request, parts: list[str]) -> Json:
        """Shoppers order something."""
        count = _object(request).get("count", 1) if request.body else 1
        if not isinstance(count, int) or isinstance(count, bool) or not 0 < count <= 10_000:
            raise SettingError("'count' is a number from 1 to 10000")
        store = self._simulator.store(parts[1])
        return {"orders": [store.place_order() for _ in range(count)]}

    def secret(self, _request: Request, parts: list[str]) -> Json:
        """What the deliveries of a slot are signed with."""
        return {"secret": self._simulator.store(parts[1]).secret(parts[3])}

    def reset_counts(self, request: Request, _parts: list[str]) -> Json:
        """Count from zero."""
        names = _object(request).get("names") if request.body else None
        self._simulator.reset_counts([str(name) for name in _list(names)] if names is not None else None)
        return {"reset": True}

    def calls(self, request: Request, _parts: list[str]) -> Json:
        """Totals and summaries, or every call."""
        if request.query.get("detail") == "true":
            calls = [{"tenant": store.name, **call} for store in self._stores() for call in store.calls_described()]
            return {"calls": sorted(calls, key=lambda call: float(str(call["arrived"])))}
        summaries = {store.name: store.summary() for store in self._stores()}
        totals = total(summaries.values())
        totals["max_in_flight"] = self._simulator.everywhere.most
        return {"totals": totals, "tenants": summaries}


ROUTES: tuple[tuple[str, str, Callable[[Control, Request, list[str]], object]], ...] = (
    ("GET", "", Control.about),
    ("PATCH", "", Control.change_all_latency),
    ("GET", "tenants", Control.addresses),
    ("POST", "tenants", Control.add),
    ("PATCH", "tenants", Control.change_some),
    ("GET", "tenants/*", Control.describe),
    ("PATCH", "tenants/*", Control.change_one),
    ("DELETE", "tenants/*", Control.remove),
    ("GET", "tenants/*/calls", Control.calls_of_one),
    ("POST", "tenants/*/slots/*", Control.rival_writes),
    ("POST", "tenants/*/failed-messages", Control.give_up_delivery),
    ("POST", "tenants/*/orders", Control.place_orders),
    ("GET", "tenants/*/slots/*/secret", Control.secret),
    ("GET", "calls", Control.calls),
    ("POST", "reset-counts", Control.reset_counts),
)


def _matches(pattern: str, parts: list[str]) -> bool:
    wanted = pattern.split("/") if pattern else []
    return len(wanted) == len(parts) and all(want in ("*", part) for want, part in zip(wanted, parts, strict=True))


def total(summaries: Iterable[Mapping[str, object]]) -> Json:
    """Summaries of several stores added up."""
    sums: Counter[str] = Counter(dict.fromkeys(SUMMED, 0))
    counters: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    lists: dict[str, list[object]] = {name: [] for name in LISTED}
    for summary in summaries:
        for name in SUMMED:
            sums[name] += int(str(summary[name]))
        for name in COUNTED:
            counted = summary[name]
            if isinstance(counted, dict):
                counters[name].update(counted)
        for name in LISTED:
            lists[name] += _list(summary[name])
    return {**sums, **{name: dict(counter) for name, counter in counters.items()}, **lists}


def _object(request: Request) -> Json:
    body = request.json()
    if not isinstance(body, dict):
        raise SettingError("the body is a JSON object")
    return body


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise SettingError("this is a list")
    return value
