"""What can go wrong through no fault of the code: each message is one line for the user."""


class AuxgradError(Exception):
    """An error that its message explains in full; the command line shows it without a traceback."""


class ConfigError(AuxgradError):
    """A key or a value of the config that is not allowed."""


class DataError(AuxgradError):
    """Data that is missing or damaged, or that no network can be trained on."""


class TrackingError(AuxgradError):
    """A tracking store that cannot be reached or used."""


class ReportError(AuxgradError):
    """A report that cannot be made: nothing to report on, or a file that does not fit."""


class RunsElsewhere(AuxgradError):
    """A run of a sweep that another process has begun and not ended."""


class SweepFailed(AuxgradError):
    """A sweep of which not every run is finished."""
