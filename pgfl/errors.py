"""The one exception that users are meant to see, and how it ends a program."""

import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible setting.

    The message names the file, row or setting and says what to do; the command line prints it
    without a traceback and exits with status 1.
    """


RAISED = "pgfl.errors.UserError: "


def of_another_process(error: Exception) -> UserError | None:
    """The UserError of another process whose traceback torch has made the message of an exception.

    Returns:
        None where the other process failed otherwise.
    """
    traceback = str(error).strip()
    return UserError(traceback.rpartition(RAISED)[2]) if RAISED in traceback else None


def fail(error: UserError) -> NoReturn:
    """End the program: each line of the message on stderr, status 1."""
    sys.exit("\n".join(f"error: {line}" for line in str(error).splitlines()))


def or_exit(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """What a function returns; its UserError ends the program.

    For the Snakefile: Snakemake puts file names and line numbers of its own around an exception.
    """
    try:
        return function(*args, **kwargs)
    except UserError as error:
        fail(error)
