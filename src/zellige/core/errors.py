"""The errors that a user can meet. Each message is one line: what, expected, actual, where."""


class InputError(ValueError):
    """Data given to zellige is not usable: an image, a mask, a folder, a set of samples."""


class ConfigError(ValueError):
    """A setting is missing, misspelt, of the wrong type, or contradicts another one."""


class BundleError(RuntimeError):
    """A bundle is damaged, incomplete, hostile, of an unknown schema, or does not replay its golden frames."""


class StationError(RuntimeError):
    """The station cannot do its work: no place to write, no camera, a frame that does not fit the bundle."""


USER_ERRORS = (InputError, ConfigError, BundleError, StationError)
"""What a program turns into one line and an exit code instead of a traceback."""
