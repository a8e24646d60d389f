"""IPython extension: cells that begin with `%%tff` run on the Python that TensorFlow Federated needs.

On Python 3.9 to 3.11 with the packages installed they run in place. On any other Python they run in a second kernel, of
an environment that loading the extension makes. Needs IPython and jupyter_client only, on Python 3.9 or newer.
"""


def load_ipython_extension(shell):
    """Makes the environment where there is none yet, and offers `%%tff`."""
    from tff_cells import extension

    extension.load(shell)


def unload_ipython_extension(shell):
    """Ends the second kernel."""
    from tff_cells import extension

    extension.unload(shell)
