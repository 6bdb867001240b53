"""Flower's settings. Flower reads a file of this name in its working directory by itself: `celery -A tasks flower`.

It reads the environment (FLOWER_...) and the command line first, so both are known here. The command line wins.
"""

import sys

from celery.events.state import Task
from flower import urls  # type: ignore[import-untyped]
from tornado.options import options

from occ import flower_pages
from occ.flower_pages import StyledPages
from tasks.start_up import await_server_of_settings

if not (options.basic_auth or options.auth):
    sys.exit("Flower shows the work of every merchant: give it a login, as USER:PASSWORD in FLOWER_BASIC_AUTH.")

await_server_of_settings(wait=False)

# --- Who gets to see it -----------------------------------------------------------------------------------------------
address = options.address or "127.0.0.1"  # /metrics and /healthcheck ask for no login
read_only = True  # a window: with it, whoever guesses the login can neither stop workers nor send tasks

# --- What it shows: time, who, what, why; then what only some look for ------------------------------------------------
tasks_columns = "received,name,kwargs,state,result,runtime,uuid"
format_task = flower_pages.in_words
Task.__copy__ = flower_pages.with_children  # type: ignore[attr-defined]  # else a formatted task has no children
urls.settings["template_loader"] = StyledPages(urls.settings["template_path"])  # Flower hands its settings to Tornado

# --- What it keeps ----------------------------------------------------------------------------------------------------
persistent = True
state_save_interval = 60_000  # milliseconds
max_tasks = 20_000
