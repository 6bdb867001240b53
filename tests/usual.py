"""What the tests that read no settings work with: the settings' defaults."""

from integrations.connections.schedule import Pace
from integrations.outages.outage import Rules
from integrations.settings import KeylessSettings
from tasks.retry import RetryPolicy

_DEFAULTS = {name: field.default for name, field in KeylessSettings.model_fields.items()}

PACE = Pace(
    **{name: _DEFAULTS[name] for name in Pace.__dataclass_fields__ if name != "patience"},
    patience=_DEFAULTS["recheck_degraded"],
)
OUTAGE_RULES = Rules(_DEFAULTS["outage_share"], _DEFAULTS["outage_merchants"], _DEFAULTS["outage_window"])
RETRY = RetryPolicy(_DEFAULTS["retry_first"], _DEFAULTS["retry_max"])
