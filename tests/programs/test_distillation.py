"""FedGKD, as users say it."""

import pandas as pd
import pytest

from tests.complaints import complaint
from tests.processes import run
from tests.programs.test_trainable import DIGITS


@pytest.mark.slow
def test_a_run_with_a_teacher_sends_two_models(tmp_path, cache_dir):
    sent = {}
    for flags in (["--client_schedule=cosine"], ["--distillation_weight=0.2", "--distillation_models=2"]):
        run("train", *DIGITS, *flags, "--run_dir=run", f"--cache_dir={cache_dir}", cwd=tmp_path)
        rows = pd.read_csv(tmp_path / "run" / "metrics.csv")
        sent[len(sent)] = rows["comm/download_bytes_per_client"][1] - 4  # the rate
        (tmp_path / "run").rename(tmp_path / f"run{len(sent)}")
    assert sent[1] == 2 * sent[0]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--distillation_weight=-1"], "--distillation_weight=-1.0: must be at least 0"),
        (["--distillation_models=2"], "--distillation_models=2 has no effect without --distillation_weight"),
        (
            ["--distillation_weight=0.2", "--algorithm=fed_sgd"],
            "--distillation_weight=0.2 cannot be combined with --algorithm=fed_sgd",
        ),
        (
            ["--distillation_weight=0.2", "--distillation_temperature=0"],
            "--distillation_temperature=0.0: must be above 0",
        ),
    ],
)
def test_mistakes(flags, sentence):
    assert sentence in complaint(*DIGITS, *flags)
