"""The engine of a configuration."""

import pytest

from tests.runtime.test_form_store import linear_process
from tff_tx.config import RunConfig
from tff_tx.run.assemble import processes


@pytest.mark.parametrize(
    ("settings", "stored"),
    [
        ({}, 1),
        ({"privacy.mechanism": "gaussian"}, 0),
        ({"local_privacy.clip_norm": 1.0, "local_privacy.noise_multiplier": 1.0}, 0),
        ({"example_privacy.clip_norm": 1.0, "example_privacy.noise_multiplier": 1.0}, 0),
    ],
)
def test_compiled_rounds_are_stored_but_for_private_ones(settings, stored, tmp_path):
    config = RunConfig().replace({"data.cache_dir": str(tmp_path), **settings})
    processes.build_engine(config, linear_process(), {}).close()
    assert len(list(tmp_path.glob("forms/*.form"))) == stored
