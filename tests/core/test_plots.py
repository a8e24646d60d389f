"""Plots of a run do not take the notebook's away."""

import os
import subprocess
import sys

import matplotlib
import pytest

from tff_tx.core import plots

INLINE = "module://matplotlib_inline.backend_inline"


@pytest.mark.parametrize(("variables", "backend"), [({"MPLBACKEND": INLINE}, INLINE.lower()), ({}, "agg")])
def test_a_backend_in_use_stays(variables, backend):
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    program = "from tff_tx.core import plots; plots.pyplot(); import matplotlib as m; print(m.get_backend())"
    run = subprocess.run(
        [sys.executable, "-c", program], env={**environment, **variables}, capture_output=True, text=True
    )
    assert run.stdout.strip().lower() == backend, run.stderr


def test_settings_of_the_notebook_stay():
    before = {name: value for name, value in matplotlib.rcParams.items() if not name.startswith("backend")}
    plots.pyplot()
    assert {name: matplotlib.rcParams[name] for name in before} == before
