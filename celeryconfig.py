"""Celery's settings, each with its reason. The measured figures behind them are in docs/adr.

Order of times: call deadline < lease < visibility timeout. The record decides what is done; these settings only keep
messages moving.
"""

import sys
from contextlib import suppress

from kombu import Exchange, Queue

from integrations.errors import SettingsError
from integrations.settings import load_keyless_settings, load_settings
from tasks.queues import QUARANTINE, QUEUES, REQUESTS, STEPS, TICKS, only_quarantine

_load = load_settings if "worker" in sys.argv else load_keyless_settings  # beat and Flower open no application key

try:
    _settings = _load()
except SettingsError as error:
    sys.exit(str(error))  # an operator reads this; a traceback would hide it

# --- Broker -----------------------------------------------------------------------------------------------------------
_broker = _settings.broker_url.celery_settings()
broker_url, broker_use_ssl = _broker["broker_url"], _broker["broker_use_ssl"]
broker_connection_retry_on_startup = True  # a worker may start before the server
broker_connection_max_retries = None  # the default gives up after 100
broker_channel_error_retry = True  # a full server is waited for; without this it ends the worker
# An attempt ends 2 s before its lease does. What still comes twice finds the work taken or done; what a lost worker had
# in hand is back within two leases, the record there or not.
_visibility_timeout = _settings.lease + 2
broker_transport_options = {
    "visibility_timeout": _visibility_timeout,
    "unacked_restore_interval": min(5, _settings.lease / 6),  # look for the messages of lost workers that often ...
    "unacked_restore_throttle": 1,  # ... and each time, not every tenth
    "socket_timeout": 10,  # a dead connection fails instead of hanging
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 10,  # a half-open connection is noticed
    "priority_steps": [0],  # we use no priorities: one list per queue, not four
    "queue_order_strategy": "tasks.worker.broker.turns:Turns",  # a flood of requests holds up no runs under way
    **_broker["broker_transport_options"],  # what the URL says comes first
}
visibility_timeout = _visibility_timeout

# --- Results: the record is the result --------------------------------------------------------------------------------
result_backend = None
task_ignore_result = True
result_extended = False  # would store arguments
task_store_errors_even_if_ignored = False

# --- Delivery ---------------------------------------------------------------------------------------------------------
task_acks_late = True  # a killed worker's message comes back sooner than its lease ends
task_reject_on_worker_lost = True  # safe only because the record counts claims and bounds them
task_acks_on_failure = True  # a failure is recorded, not redelivered
task_acks_on_timeout = True
worker_prefetch_multiplier = 1  # nothing waits behind a slow store
worker_deduplicate_successful_tasks = False  # the record deduplicates
worker_cancel_long_running_tasks_on_connection_loss = False  # made repeats more frequent
worker_eta_task_limit = 1000  # a fuse: nothing of ours uses ETA or countdown
task_publish_retry_policy = {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1}

# --- Processes --------------------------------------------------------------------------------------------------------
worker_pool = _settings.pool  # threads: the work is waiting for stores, and a hung store holds a cheap thread
worker_concurrency = 1 if only_quarantine(sys.argv) else _settings.concurrency
worker_consumer = "tasks.worker.broker.consumer:TolerantConsumer"  # sets aside what is no task we can run
worker_soft_shutdown_timeout = 0  # warm shutdown: tasks are shorter than any sensible grace period
worker_disable_rate_limits = True

# --- Tick -------------------------------------------------------------------------------------------------------------
beat_schedule = {
    "tick": {"task": "occ.tick", "schedule": 1.0},  # those that pile up while no worker runs end at once
}
beat_max_loop_interval = 1
beat_scheduler = "tasks.worker.beat:SteadyScheduler"  # Celery's own stands still when the clock is set back
beat_schedule_filename = str(_settings.data_dir / "beat-schedule")  # its folder is all that counts: no file is written
if "beat" in sys.argv:
    with suppress(OSError):  # where it cannot be made, beat says so
        _settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)

# --- Queues -----------------------------------------------------------------------------------------------------------
task_default_queue = REQUESTS
task_queues = [Queue(name, Exchange(name), routing_key=name) for name in (*QUEUES, QUARANTINE)]
task_create_missing_queues = False  # a typo must not make a queue nobody reads
task_routes = {
    "occ.connect": {"queue": REQUESTS},
    "occ.revalidate": {"queue": REQUESTS},
    "occ.disconnect": {"queue": REQUESTS},
    "occ.heard": {"queue": REQUESTS},
    "occ.validate_key": {"queue": STEPS},
    "occ.revalidate_key": {"queue": STEPS},
    "occ.check_shipping_methods": {"queue": STEPS},
    "occ.register_slot": {"queue": STEPS},
    "occ.disconnect_slot": {"queue": STEPS},
    "occ.deliver": {"queue": STEPS},
    "occ.tick": {"queue": TICKS},
}

# --- Safety -----------------------------------------------------------------------------------------------------------
task_serializer = result_serializer = "json"
accept_content = result_accept_content = ["json"]
task_remote_tracebacks = False
timezone = "UTC"

# --- Monitoring -------------------------------------------------------------------------------------------------------
worker_send_task_events = True  # for Flower; arguments hold ids only
task_send_sent_event = False
task_track_started = False
worker_hijack_root_logger = False  # structlog owns the logs
worker_redirect_stdouts = False

imports = ("tasks.tasks",)
