"""Exceptions, sorted by what the reader of the message must do next.

Each class carries the exit code of the command line. Messages say what was wrong, where,
the value found, what was expected and what to do.
"""


class CpxtError(Exception):
    """Base of every error that a command reports as one message without a traceback."""

    exit_code = 1


class ConfigError(CpxtError):
    """Edit ``cluster.ini`` or the command line."""

    exit_code = 2


class MissingInput(CpxtError):
    """Bring the file, or run the earlier stage."""

    exit_code = 3


class DataError(CpxtError):
    """Look at the file: it is there, but its content cannot be used."""

    exit_code = 3


class ToolError(CpxtError):
    """Look at the tool: an external program or library failed or is not installed."""

    exit_code = 3


class ActionNeeded(CpxtError):
    """Draw the region file that the message describes."""

    exit_code = 4


class OutputError(CpxtError):
    """Make room or get permission: a file cannot be written."""

    exit_code = 6


class CheckpointHeld(CpxtError):
    """Another job writes this checkpoint: wait for it, or stop it."""

    exit_code = 7


class CheckpointMismatch(CpxtError):
    """Restore the settings, choose another label, or start afresh."""

    exit_code = 7
