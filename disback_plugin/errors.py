"""What a user can cause: each error is a ValueError that says what was seen and what to do.

`count` puts numbers into such sentences.
"""


class DisBackError(ValueError):
    """Base of all errors that a user of the plugin can cause."""


class ConfigError(DisBackError):
    """A setting is unknown, out of range or contradicts another one."""


class PathError(DisBackError):
    """A degradation path on disk is missing, damaged or belongs to another teacher."""


class InstallError(DisBackError):
    """A node cannot become the real score, or its installation had no effect."""


class AdapterError(DisBackError):
    """An adapter is unknown, registered twice, or does not provide a role."""


class SessionError(DisBackError):
    """The host called the session in an order or a state that cannot work."""


class RunError(DisBackError):
    """A run folder is missing, incomplete or cannot be resumed."""


class CheckpointError(DisBackError):
    """A model's checkpoint is damaged, holds what must not be loaded, or is of another format."""


class DataError(DisBackError):
    """A data set is missing, damaged, of another format, or must not be overwritten."""


def count(num: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `2 seeds`, `1,234 nodes`; `plural` where it is not the noun with an s."""
    return f"{num:,} {noun if num == 1 else plural or noun + 's'}"
