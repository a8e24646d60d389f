"""What tests of several tasks have in common."""

import pytest

from tests.processes import run


@pytest.fixture(scope="module")
def trained(place, flags, request):
    """The directory of a run in the module's `place`, with its `flags` and its TRAINING."""
    run("train", *flags, *request.module.TRAINING, "--run_dir=run", cwd=place)
    return place / "run"
