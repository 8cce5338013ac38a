"""The one exception that is a message to the user."""


class UserError(Exception):
    """Something the user gave cannot be used. The text says what is wrong and what to do.

    The command line prints it on one line and exits with status 2; the page shows it as it is.
    """
