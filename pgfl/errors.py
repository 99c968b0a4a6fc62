"""The one exception that users are meant to see."""


class UserError(Exception):
    """Something the user can mend: bad input, a missing file, an impossible setting.

    The message names the file, row or setting and says what to do; the command line prints it
    without a traceback and exits with status 1.
    """
