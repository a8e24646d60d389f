"""Errors of a notebook: a sentence, or the traceback of the second kernel."""


class Problem(Exception):
    """One sentence, shown without a traceback."""

    def _render_traceback_(self):
        return [str(self)]


class CellError(Exception):
    """An exception in the second kernel, shown with the traceback that it has there."""

    def _render_traceback_(self):
        return self.traceback


def cell_error(name, value, traceback):
    """The `CellError` under the name that the exception has in the second kernel."""
    error = type(name, (CellError,), {})(value)
    error.traceback = traceback
    return error
