"""The exceptions of luce; every message says what is wrong, where, and the mend.

::

    LuceError
    ├── InputError (ValueError)        data, labels or parameters that cannot be used
    │   └── DataFileError              a data file that cannot be read as asked
    ├── ModelFileError (ValueError)    a model file that is broken, foreign or too new
    ├── ClusterError (RuntimeError)    the machines that hold the data are lost
    └── MissingExtraError (ImportError)  an optional dependency is not installed
"""


class LuceError(Exception):
    """Base of all errors that luce raises on purpose."""


class InputError(LuceError, ValueError):
    """Data, labels or parameters cannot be used as given."""


class DataFileError(InputError):
    """A data file cannot be read as asked."""


class ModelFileError(LuceError, ValueError):
    """A model file is broken, is none of ours, or was written by a newer luce."""


class ClusterError(LuceError, RuntimeError):
    """The machines that hold the data are lost, or no longer answer."""


class MissingExtraError(LuceError, ImportError):
    """A feature needs an optional dependency; the message names the extra to install."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: pip install 'luce[{extra}]'")
