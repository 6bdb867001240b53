"""A store that behaves like Oracle Commerce Cloud, for tests, the demo and people without a tenant. Loopback only.

START
    with Simulator() as simulator:                      # in a thread of this process; stops cleanly
        store = simulator.add("m-1", token_lifetime=5)  # store.url, store.application_key
    with SimulatorProcess(["--tenants", "12"]) as process:  # a process of its own, ends with ours
        process.client.add("m-1")                       # {"store_url": ..., "application_key": ...}
    python -m occ.simulator --port 8800 --control-port 8801 --tenants 12 --latency 0.05 [--json]
    store = SimulatedStore("m-1", clocks=StoppedClock().clocks)        # no sockets at all
    client = DirectCommerceCloud(store)                 # occ/simulator/direct.py: our real client, same errors
    OCC_DEV_STORES is `simulator.dev_stores` (127.0.0.0/8:PORT). HTTPS beside HTTP: Simulator(tls=TlsFiles(cert, key)),
    then store.https_url; addresses run from 127.1.0.1 on (runner.address_of(n) for certificates).

CHANGE, at any time: the same names in Python (`store.change(...)`, `simulator.add(name, ...)`) and in JSON
(`SimulatorClient.change(name, ...)`, PATCH /tenants/NAME); the table of paths is in control.py.
    faults={target: script}  None: heal    application_key="..."  accept_keys=[...]  revoke_keys=True | [...]
    kill_tokens=True                       reachable=False   refuses connections, drops the open ones
    token_lifetime=300 (announced)         token_dies_after=2 (kept to)   token_uses=1 (dies between two calls)
    expires_in="number"|"string"|"missing" login_rejection, token_refusal="errorCode"|"plain"|"error"|"empty"|"html"
    enforce_key_expiry=True                shipping_methods=2 | [{"enabled": "false"}, {"missing": ["enabled"]}] | []
    shipping_wrapper="items"|"array"       filters_enabled=True (enabledOnly)   shipping_path="/ccadmin/v1/..."
    offers=[ids] (four plain and ten real) slots={id: {"urls": [...], "headers": {...}, "missing": [fields]}, id: None}
    own_urls_start_with="https://hooks."   unknown_slot_status=404   quoted_numbers=True   body_style="urls"|"url"
    slot_list_wrapper="array"|"items"      masked_credentials=False  allows_http=False
    signs_with="both"|"sha1"|"sha512"      resend_delay=None (as the slot says)   disables_target_after=3   order_step=0
    enable_targets=True                    sends again to targets that were disabled for failing
    shows_secrets=False (store.reset_secret(id): somebody else resets one)
    spells_stored=["slash"], spells_shown=["http"]: slash http lower_path reencode no_query port entities truncate:N
    keeps_last=5 (URLs of a slot)   shows_urls_twice=True   shows_ids="upper"   shows_writes_after=2 (seconds)
    drops_url_after=15, drops_times=1      latency=0.05, jitter=0.02 (None: the simulator's)   clock_ahead=0
    rivals=[{"url": ..., "when": "between_read_and_write"|"after_write", "how": "merge"|"replace"|"undo",
             "slot": id|None, "times": 1|"always", "delay": 0, "seen_in_answer": False}]

FAULTS
    Targets: login shipping_methods read_slot write_slot list_slots write_slots verify refresh logout registry
        failed_messages resend reset_secret other, "*" (any call), "read_slot:ID", "write_slot:ID", "slot:ID" (both),
        "connection" (each new one, before a byte is read). The most particular script that has something to say wins.
    A script is a list, used up from the front, healthy afterwards; an entry is a kind ("hang"), a status (503) or
        {"fault": kind, "times": n | "always" (1), "seconds": T (from the first call; "starts": "now" for at once),
         "delay": s, "processed": whether the call takes effect, ...options}.
    Errors, not processed, options status shape error_code message body retry_after (number, or text as it is)
        retry_after_date (seconds from now): status unauthorized forbidden_role guard_60012 forbidden_page not_found
        bad_request method_not_allowed throttled server_error bad_gateway unavailable gateway_timeout
        error_in_200 (body_status) html_in_200. A plain number is the same: 401 403 404 400 405 429 500 502 503 504 ...
    Nothing arrives, not processed: reset hang not_http redirect(status, location). With "processed": true the write
        took effect and only its answer is lost.
    The real answer, processed: slow(delay=3) drip_head drip_body(every=.5, chunk=1) truncated broken_json
        huge(size) huge_head(size) gzip_bomb(size) close (without announcing it) empty no_content bare_array items
        early_hints(every=.05: a 103 so long before it)
        endless(of="interim"|"interim_headers"|"headers"|"header"|"chunks"|"trailers"|"gzip"|"body").
    write_ignored(answers="stored"|"as_asked"): answered well, not carried out. healthy: a pause within a script.
    Connections: reset hang drip (every byte of ours, TLS handshake included).
        store.fail("write_slot:order-update", 503, {"fault": "throttled", "retry_after": 7, "times": 2}); store.heal()

DELIVERIES: `store.place_order()`, `client.place_orders(name, count)`, --orders RATE (a minute): signed events go to the
    callback URLs in order-submit (and its real names), order-update, shipment-create, shipment-update; tried again as
    the slot says, then in the log; a target that keeps failing is disabled. Only callback URLs on loopback are called.
COUNTS: `store.summary()`, `client.counts(name)`: calls, endpoints {"login": 1}, slots {"write_slot:order-submit": 1},
    statuses {"login 200": 1}, faults, in_flight, max_in_flight, connections, repeated_writes, retry_after_undercut,
    tokens_issued, tokens_living, foreign_urls_lost, foreign_settings_lost, secret_resets, messages_resent,
    orders, delivered, delivery_failures, given_up.
    Every call with its times: `store.calls.entries`, `client.calls(name)`. Slots: `store.urls(id)`, `client.urls(...)`.
"""

from occ.simulator.application_keys import make_application_key
from occ.simulator.client import SimulatorClient
from occ.simulator.clocks import Clocks, StoppedClock
from occ.simulator.process import SimulatorProcess
from occ.simulator.runner import Simulator, TlsFiles
from occ.simulator.setting_error import SettingError
from occ.simulator.store import SimulatedStore

__all__ = [
    "Clocks",
    "SettingError",
    "SimulatedStore",
    "Simulator",
    "SimulatorClient",
    "SimulatorProcess",
    "StoppedClock",
    "TlsFiles",
    "make_application_key",
]
