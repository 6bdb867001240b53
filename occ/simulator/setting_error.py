"""The one error of everything that is set on the simulator."""


class SettingError(ValueError):
    """A setting, fault or rival that does not exist or does not fit; says what would."""
