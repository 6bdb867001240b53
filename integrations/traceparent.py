"""The trace context of whoever asks for something, as W3C Trace Context writes it in `traceparent`. Pure.

It only says where our spans hang in a trace. So what is malformed counts as not sent: it is never a reason to refuse a
request, and nothing of it is kept or repeated.
"""

import re
from collections.abc import Mapping

FIELD = "traceparent"
"""Its name in a request, and among the headers of a Celery message."""

# https://www.w3.org/TR/trace-context/#traceparent-header: later versions may append fields behind another dash.
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,200})?", re.ASCII)
_SAMPLED = 0x01


def parse_traceparent(value: object) -> str:
    """A trace context in version 00, with no other flag than whether it is sampled; "" if it is none."""
    match = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ""
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
        return ""
    return f"00-{trace_id}-{span_id}-{int(flags, 16) & _SAMPLED:02x}"


def traceparent_of(request: object) -> str:
    """The trace context that came with a request; "" if none did."""
    return parse_traceparent(request.get(FIELD)) if isinstance(request, Mapping) else ""
