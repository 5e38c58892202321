"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Something the user can mend, told in one sentence: what is wrong, where, and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
