"""What tests of several programs have in common."""

import pytest

from tests.processes import run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The directory that a module's runs share."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def cache(cache_dir):
    """The flag of the data sets' cache, which all tests share."""
    return f"--cache_dir={cache_dir}"


@pytest.fixture(scope="module")
def trained(place, flags, request):
    """The directory of a run in the module's `place`, with its `flags` and its TRAINING."""
    run("train", *flags, *request.module.TRAINING, "--run_dir=run", cwd=place)
    return place / "run"
