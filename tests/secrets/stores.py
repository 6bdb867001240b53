"""Stores that do every wrong thing the simulator knows, and stores that repeat what they were sent wherever it fits."""

import json
from collections.abc import Callable, Iterator, Mapping

from occ.simulator.faults import CONNECTION_KINDS, KINDS
from occ.simulator.message import Reply, Request
from occ.simulator.runner import Simulator
from occ.simulator.store import SimulatedStore
from tests.secrets.canaries import CanaryTokens, application_key

STEP_ENDPOINTS = ("shipping_methods", "read_slot", "write_slot")
ENDS_A_STEP = frozenset(
    {
        *("unauthorized", "forbidden_role", "forbidden_page", "not_found", "bad_request", "method_not_allowed"),
        *("redirect", "html_in_200", "write_ignored"),
    }
)
LEAVES_NO_TIME = {"drip_head": {"every": 0.3}, "drip_body": {"every": 0.3}, "slow": {"delay": 2.5}}


def faulty_stores(simulator: Simulator) -> Iterator[SimulatedStore]:
    """A store for each fault; one that ends a step is met at each step by a store of its own."""
    yield add(simulator, "healthy")
    yield add(simulator, "rejected", revoke_keys=True)
    yield add(simulator, "no-shipping", shipping_methods=[])
    yield add(simulator, "short-tokens", token_uses=1)
    yield add(simulator, "busy", faults={"*": [{"fault": "throttled", "retry_after": 1, "times": 2}]})
    yield add(simulator, "down", faults={"*": [{"fault": "unavailable", "times": "always"}]})
    for kind in CONNECTION_KINDS:
        yield add(simulator, f"connection-{kind}", faults={"connection": [kind]})
    for kind in KINDS.keys() - {"drip", "healthy", "status"}:
        fault = {"fault": kind, **LEAVES_NO_TIME.get(kind, {})}
        everywhere = {endpoint: [fault] for endpoint in ("login", *STEP_ENDPOINTS)}
        yield add(simulator, f"all-{kind}".replace("_", "-"), faults=everywhere)
        for endpoint in STEP_ENDPOINTS if kind in ENDS_A_STEP else ():
            name = f"{endpoint}-{kind}".replace("_", "-")
            yield add(simulator, name, faults={endpoint: [{**fault, "times": "always"}]})


def echoing_stores(simulator: Simulator) -> Iterator[SimulatedStore]:
    """For each way of repeating a secret, a store that repeats the key, and two that repeat the token."""
    for number, shape in enumerate(ECHOES.values()):
        for endpoints in (("login",), ("shipping_methods",), ("read_slot", "write_slot")):
            store = add(simulator, f"echo-{number}-{endpoints[0].replace('_', '-')}")
            for endpoint in endpoints:
                echo(store, endpoint, shape)
            yield store


def add(simulator: Simulator, name: str, **changes: object) -> SimulatedStore:
    """A store with a recognisable key that issues recognisable tokens."""
    store = simulator.add(name, application_key=application_key(name), **changes)
    store._endpoints.tokens = CanaryTokens()
    return store


Shape = Callable[[str], bytes]


def echo(store: SimulatedStore, endpoint: str, shape: Shape, times: int = 2) -> None:
    """Let the first calls of an endpoint be answered with the secret they brought."""
    answer, left = store._endpoints.answer, times

    def answer_with_echo(called: str, request: Request) -> Reply:
        nonlocal left
        if called != endpoint or not left:
            return answer(called, request)
        left -= 1
        return Reply(200, shape(request.bearer()), manner="raw")

    store._endpoints.answer = answer_with_echo  # type: ignore[method-assign,assignment]


def _http(status: str, headers: str = "", body: str = "", *, length: int | str | None = None) -> bytes:
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(data) if length is None else length}\r\n\r\n"
    return head.encode("latin-1") + data


def _json(status: str, value: object, headers: str = "") -> bytes:
    return _http(status, f"Content-Type: application/json\r\n{headers}", json.dumps(value))


ECHOES: Mapping[str, Shape] = {
    "reason": lambda secret: _http(f"401 {secret}"),
    "reason of a success": lambda secret: _http(f"200 {secret}"),
    "status": _http,
    "protocol": lambda secret: f"{secret} 200 OK\r\n\r\n".encode(),
    "no HTTP at all": lambda secret: f"{secret}\r\n{secret}\r\n\r\n".encode(),
    "headers": lambda secret: _http(
        "403 no", f"X-Echo: {secret}\r\nWWW-Authenticate: Bearer {secret}\r\nSet-Cookie: a={secret}; Path=/\r\n"
    ),
    "name of a header": lambda secret: _http("200 OK", f"{secret}: 1\r\n"),
    "header without a colon": lambda secret: _http("200 OK", f"{secret}\r\n", "{}"),
    "header in two lines": lambda secret: _http("500 no", f"X-Echo: a\r\n {secret}\r\n"),
    "wait": lambda secret: _http("429 wait", f"Retry-After: {secret}\r\n"),
    "dates": lambda secret: _http("503 wait", f"Retry-After: Mon, {secret}\r\nDate: {secret}\r\n"),
    "content type": lambda secret: _http("200 OK", f"Content-Type: {secret}\r\n", secret),
    "charset": lambda secret: _http("200 OK", f"Content-Type: text/html; charset={secret}\r\n", secret),
    "compression": lambda secret: _http("200 OK", f"Content-Encoding: {secret}\r\n", secret),
    "broken compression": lambda secret: _http("200 OK", "Content-Encoding: gzip\r\n", secret),
    "length": lambda secret: _http("200 OK", body=secret, length=secret),
    "chunks": lambda secret: f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{secret}\r\n{secret}".encode(),
    "place to go": lambda secret: _http("302 go", f"Location: https://elsewhere.example/{secret}?token={secret}\r\n"),
    "place of another form": lambda secret: _http("302 go", f"Location: {secret}\r\n"),
    "user of a place": lambda secret: _http("302 go", f"Location: https://{secret}@elsewhere.example/\r\n"),
    "host of a place": lambda secret: _http(
        "302 go", f"Location: https://{secret.rpartition('.')[2].rstrip('=')}.elsewhere.example/\r\n"
    ),
    "error": lambda secret: _json("400 no", {"message": secret, "errorCode": secret, "status": secret}),
    "errors": lambda secret: _json("422 no", {"errors": [{"errorCode": secret, "message": secret, secret: secret}]}),
    "error as a success": lambda secret: _json("200 OK", {"message": secret, "errorCode": secret, "status": secret}),
    "OAuth's error": lambda secret: _json("401 no", {"error": secret, "error_description": secret}),
    "page": lambda secret: _http("403 no", "Content-Type: text/html\r\n", f"<html><h1>{secret}</h1>"),
    "text": lambda secret: _http("500 no", "Content-Type: text/plain\r\n", secret),
    "JSON text": lambda secret: _json("200 OK", secret),
    "cut off JSON": lambda secret: _http("200 OK", body=f'{{"access_token": "{secret}'),
    "not UTF-8": lambda secret: b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n\xff\xfe" + secret.encode(),
    "login": lambda secret: _json(
        "200 OK", {"access_token": f"{secret}\n", "expires_in": secret, "token_type": secret, secret: secret}
    ),
    "list": lambda secret: _json("200 OK", {"items": [{"id": secret, "repositoryId": secret, "enabled": secret}]}),
    "slot": lambda secret: _json(
        "200 OK",
        {"id": secret, "name": secret, "urls": [f"https://{secret[-20:]}.example/{secret}", secret], secret: secret},
    ),
    "deep JSON": lambda secret: _http("200 OK", body=f'{"[" * 50_000}"{secret}"'),
}
