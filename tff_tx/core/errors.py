"""The one exception that means: the user, not the program, can put this right."""


class UserError(ValueError):
    """A mistake in a flag or in the data, told in one sentence.

    The message says what is wrong, where (flag, file and line), the value found and the remedy. Programs print it
    without a traceback and exit with code 2, leaving nothing half-written.
    """
