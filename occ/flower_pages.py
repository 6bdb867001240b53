"""How a task reads in Flower: whose it was, what came of it, and why, in words instead of Python's.

For display only: Flower's search goes on looking at what the worker sent (`kwargs:merchant_id=m-1`).

And how Flower's list of tasks fits on a screen: long cells wrap, and ids are as short as Flower makes them on a phone.
Flower has no setting for it. Its pages are Tornado templates, and Tornado lets an application choose what loads them
(`template_loader`, https://www.tornadoweb.org/en/stable/web.html#tornado.web.Application.settings).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tornado.template import Loader, Template

from integrations.connections.causes import CAUSES
from occ.actors import MUST_ACT
from tasks.worker.message_view import IDS, ROOT
from tasks.worker.task_ends import FAILED, RETRIED, SUCCEEDED, end_of, summary_in

_STATES = {SUCCEEDED: "SUCCESS", FAILED: "FAILURE", RETRIED: "RETRY"}


def in_words(task: Any) -> Any:
    """Flower's hook: gets a copy of the task, and returns it as it is to be shown. What is not ours stays as it is."""
    if str(getattr(task, "name", "")).startswith("occ."):
        ids, outcome = summary_in(task.kwargs), summary_in(task.result)
        if ids is not None and ids.keys() & set(IDS):
            task.kwargs = _about(ids)
            task.args = _where_to_look(task.args, ids.get("merchant_id"))
            # Beside their ids, which are links, Flower shows the tasks themselves as Python does.
            task.root = task.parent = None
            task.children = sorted(getattr(task, "children", ()), key=lambda child: child.received or 0)
        if outcome is not None and "outcome" in outcome:
            task.result = "\n".join(_lines(outcome))
            task.exception = None  # the first line of the result says it
            if task.state == "SUCCESS":  # as a worker of a former release, or what was kept of one, tells it
                task.state = _STATES[end_of(outcome)[0]]
    return task


def with_children(task: Any) -> Any:
    """A copy of a task as Flower keeps it. Celery's own way of copying, which Flower uses, leaves the children out."""
    copied = type(task)()
    vars(copied).update(vars(task))
    return copied


def _where_to_look(args: object, merchant_id: object) -> object:
    """Instead of arguments, which tasks of ours do not take by place: how to find all that belongs together.

    Words, as Flower has no way to make a link of a value.
    """
    if not isinstance(args, str) or not args.startswith(ROOT):
        return "none" if args == "()" else args
    hint = f"none. Search the list for {args}: the whole run, oldest first after a click on Received."
    return f"{hint}\nIts timeline: occ timeline {merchant_id} --svg timeline.svg" if merchant_id else hint


def _about(ids: Mapping[str, object]) -> str:
    """What distinguishes tasks comes first: a list shows only the beginning."""
    parts = [str(ids[name]) for name in ("merchant_id", "slot") if name in ids]
    parts += [f"{name} {ids[name]}" for name in ("attempt", "run") if name in ids]
    parts += [f"{name}: {value}" for name, value in ids.items() if name not in IDS]
    return " · ".join(parts)


def _lines(outcome: Mapping[str, object]) -> Iterator[str]:
    """First the line that a list has room for, then what people should know beyond it."""
    words, cause = str(outcome["outcome"]).replace("_", " "), outcome.get("cause")
    because = cause or outcome.get("reason") or outcome.get("code")
    first = f"{words}: {because}" if because else words
    if "events" in outcome:
        first += f", {outcome['events']} delivered" if because else f": {outcome['events']}"
    if "connection" in outcome:
        first += f", connection {outcome['connection']}"
    if "next_attempt_at" in outcome:
        first += f", next {_clock(str(outcome['next_attempt_at']))}"
    if cause in CAUSES:
        explanation = CAUSES[str(cause)]
        yield f"{first}."  # a list shows all on one line
        yield explanation.sentence
        yield MUST_ACT[explanation.actor]
    elif "remedy" in outcome:
        yield f"{first}."
        yield f"{outcome.get('field')}: {outcome['remedy']}"
    else:
        yield first


def _clock(iso: str) -> str:
    """Without fractions of a second, as 2026-11-23 15:02:09Z."""
    day, _, rest = iso.partition("T")
    return f"{day} {rest[:8]}Z" if rest else iso


# --- Its style -------------------------------------------------------------------------------------------------------


_BASE, _END_OF_HEAD = "base.html", "</head>"
_STYLE = """<style>
.tasks-page .dataTables_scrollHeadInner, .tasks-page .dataTables_scroll table { width: 100% !important; }
.tasks-page .dataTables_scroll table { table-layout: fixed; font-size: 0.875rem; }
.tasks-table > :not(caption) > * > * { padding: 0.625rem 0.75rem; }
.tasks-table th[data-column] { width: auto !important; }
.tasks-table th[data-column=received] { width: 10.75rem !important; }
.tasks-table th[data-column=name] { width: 13.5rem !important; }
.tasks-table th[data-column=state] { width: 5rem !important; }
.tasks-table th[data-column=runtime] { width: 4.25rem !important; }
.tasks-table th[data-column=uuid] { width: 4.75rem !important; }
.tasks-table td { overflow-wrap: anywhere; }
.tasks-table td.overflow-auto { white-space: normal !important; }
.tasks-table .task-uuid-full { display: none; }
.tasks-table .task-uuid-short { display: inline; }
</style>"""


class StyledPages(Loader):
    """Flower's templates, with our style at the end of the head. A page that has no such place stays as it is."""

    def _create_template(self, name: str) -> Template:
        template = super()._create_template(name)
        if name != _BASE:
            return template
        text = (Path(self.root) / name).read_text(encoding="utf-8")
        return Template(text.replace(_END_OF_HEAD, _STYLE + _END_OF_HEAD, 1), name=name, loader=self)
