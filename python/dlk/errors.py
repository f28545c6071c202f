"""The errors of dlk in one place, and the text that a person gets to read.

``Error`` (a ``RuntimeError``) is what fails in the engine for reasons other than a wrong argument
(``ValueError``), something that is not supported (``NotImplementedError``) or too little memory
(``MemoryError``). ``CompileError`` and ``DeviceLostError`` are kinds of it.
"""

from __future__ import annotations

from dlk._core import CompileError, DeviceLostError, Error

__all__ = ["CompileError", "DeviceLostError", "Error", "describe"]

USER_ERRORS = (ValueError, RuntimeError, MemoryError, OSError, ImportError, KeyError)
"""What can be a user's mistake or a machine's limit; anything else is a bug in dlk."""


def describe(error: BaseException) -> str:
    """What went wrong on one line, without the type name where the message speaks for itself."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; try a smaller batch or --dtype float16"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines) if lines else type(error).__name__
