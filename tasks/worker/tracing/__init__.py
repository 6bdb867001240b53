"""Traces: what a request came to, from its producer over every step to each call to the store.

Off unless OCC_TRACES says otherwise; then nothing of OpenTelemetry is needed or imported.
"""
