"""A client for the control port, for tests, the demo and benchmarks in other processes. Standard library only."""

import http.client
import json
from collections.abc import Iterable, Mapping
from typing import Any, Self
from urllib.parse import quote, urlsplit

from occ.simulator.setting_error import SettingError

Json = dict[str, Any]


class SimulatorClient:
    """Speaks to one simulator; keeps one connection, so use one client per thread and close it.

    Raises SettingError for what the simulator refuses, KeyError for a store it does not have, OSError if it is gone.
    """

    def __init__(self, control_url: str, *, timeout: float = 60.0) -> None:
        parts = urlsplit(control_url)
        self._connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def about(self) -> Json:
        """Port, control URL, OCC_DEV_STORES, latency, number of stores."""
        return self._ask("GET", "/")

    def set_latency(self, latency: float, jitter: float = 0.0) -> None:
        """For all stores that set none themselves, in seconds."""
        self._ask("PATCH", "/", {"latency": latency, "jitter": jitter})

    def add(self, name: str | None = None, **changes: object) -> Json:
        """A new store: `store_url`, `https_url`, `application_key`, `name`."""
        added: Json = self._ask("POST", "/tenants", {"name": name, **changes})["tenants"][0]
        return added

    def add_many(self, count: int, name: str = "m-{n}", **changes: object) -> list[Json]:
        """Several alike."""
        return self._tenants("POST", {"count": count, "name": name, **changes})

    def add_all(self, stores: Iterable[Mapping[str, object]]) -> list[Json]:
        """Several, each as it says."""
        return self._tenants("POST", [dict(store) for store in stores])

    def tenants(self) -> list[Json]:
        """Names, addresses and keys of all stores."""
        return self._tenants("GET", None)

    def tenant(self, name: str) -> Json:
        """One store with its slots, the faults to come and its counts."""
        return self._ask("GET", f"/tenants/{quote(name)}")

    def change(self, name: str, **changes: object) -> Json:
        """Settings, faults, keys, `reachable` of one store, as in SimulatedStore.change."""
        return self._ask("PATCH", f"/tenants/{quote(name)}", changes)

    def change_all(self, names: Iterable[str] | None = None, **changes: object) -> int:
        """The same for several, or all; returns how many."""
        body = changes if names is None else {"names": list(names), **changes}
        return int(self._ask("PATCH", "/tenants", body)["changed"])

    def fail(self, name: str, target: str, *script: object) -> None:
        """Give one target of one store a fault script."""
        self.change(name, faults={target: list(script)})

    def heal(self, name: str) -> None:
        """Take all faults of a store away."""
        self.change(name, faults=None)

    def remove(self, name: str) -> None:
        """The store is gone."""
        self._ask("DELETE", f"/tenants/{quote(name)}")

    def rival_writes(self, name: str, slot: str, url: str, how: str = "merge") -> list[str]:
        """Somebody else writes into a slot now; returns what it carries then."""
        urls: list[str] = self._ask("POST", f"/tenants/{quote(name)}/slots/{slot}", {"url": url, "how": how})["urls"]
        return urls

    def give_up_delivery(self, name: str, slot: str, urls: list[str] | None = None) -> str:
        """A delivery goes to the store's failed-message log; returns its id."""
        body = {"slot": slot, "urls": urls}
        return str(self._ask("POST", f"/tenants/{quote(name)}/failed-messages", body)["id"])

    def place_orders(self, name: str, count: int = 1) -> list[str]:
        """Shoppers order something; returns the ids of the orders."""
        orders: list[str] = self._ask("POST", f"/tenants/{quote(name)}/orders", {"count": count})["orders"]
        return orders

    def set_orders(self, per_minute: float) -> None:
        """So many orders a minute, at one store or another; 0: none by itself."""
        self._ask("PATCH", "/", {"orders": per_minute})

    def secret(self, name: str, slot: str) -> str:
        """What the deliveries of a slot are signed with, base64."""
        return str(self._ask("GET", f"/tenants/{quote(name)}/slots/{slot}/secret")["secret"])

    def urls(self, name: str, slot: str) -> list[str]:
        """What a slot sends to at this moment."""
        urls: list[str] = self.tenant(name)["slots"][slot]["urls"] or []
        return urls

    def calls(self, name: str) -> list[Json]:
        """Every call one store has received."""
        calls: list[Json] = self._ask("GET", f"/tenants/{quote(name)}/calls")["calls"]
        return calls

    def all_calls(self) -> list[Json]:
        """Every call of every store, with its `tenant`, in order of arrival."""
        calls: list[Json] = self._ask("GET", "/calls?detail=true")["calls"]
        return calls

    def counts(self, name: str | None = None) -> Json:
        """The counts of one store, or the totals of all."""
        if name is not None:
            counts: Json = self.tenant(name)["counts"]
            return counts
        totals: Json = self.summary()["totals"]
        return totals

    def summary(self) -> Json:
        """`totals` and, by name, `tenants`."""
        return self._ask("GET", "/calls")

    def reset_counts(self, names: Iterable[str] | None = None) -> None:
        """Count from zero."""
        self._ask("POST", "/reset-counts", {} if names is None else {"names": list(names)})

    def _tenants(self, method: str, body: object) -> list[Json]:
        tenants: list[Json] = self._ask(method, "/tenants", body)["tenants"]
        return tenants

    def _ask(self, method: str, path: str, body: object = None) -> Json:
        data = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            value: Json = json.loads(answer.read())
        except BaseException:
            self._connection.close()  # half an exchange would spoil the next one
            raise
        if answer.status == 404:
            raise KeyError(value["error"])
        if answer.status >= 400:
            raise SettingError(value["error"])
        return value
