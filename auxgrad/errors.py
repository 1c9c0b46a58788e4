"""What can go wrong through no fault of the code: each message is one line for the user."""


class AuxgradError(Exception):
    """An error that its message explains in full; the command line shows it without a traceback."""


class ConfigError(AuxgradError):
    """A key or a value of the config that is not allowed."""


class DataError(AuxgradError):
    """Data that is missing, damaged or cannot be cached."""


class TrackingError(AuxgradError):
    """A tracking store that cannot be reached or used."""
