"""A run's directory: its lock, its configuration and what a resume depends on."""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from tff_tx.config import RunConfig, resolve
from tff_tx.core import files
from tff_tx.core.errors import UserError, setting
from tff_tx.run import directory as run_directory
from tff_tx.run.trainer import Trainer


def test_json_is_valid_whatever_the_numbers(tmp_path):
    files.write_json(
        str(tmp_path / "x.json"), {"test": {"loss": np.float32("nan"), "bound": -np.inf, "n": np.int64(3)}}
    )
    found = json.loads((tmp_path / "x.json").read_text(), parse_constant=pytest.fail)
    assert found == {"test": {"loss": None, "bound": "-Infinity", "n": 3}}
    config = resolve(RunConfig.of({"aggregation.attention_temperature": float("inf")}))
    run_directory.write_config(str(tmp_path), config, {})
    run_directory.write_config(str(tmp_path), config, {})
    assert run_directory.read_run(str(tmp_path)).config == config


class TestRunDirectory:
    """`config.json` and refusals."""

    def test_other_settings_are_rejected_and_named(self, tmp_path):
        config = resolve(RunConfig.of({"engine.threads": 1, "data.num_clients": 3}))
        run_directory.write_config(str(tmp_path), config, {"clients": {"train": 3}})
        run_directory.write_config(str(tmp_path), config.replace({"engine.threads": 2}), {})
        with pytest.raises(UserError, match="data.num_clients was 3, is 4"):
            run_directory.write_config(str(tmp_path), config.replace({"data.num_clients": 4}), {})
        stored = run_directory.read_run(str(tmp_path))
        assert stored.config == config.replace({"engine.threads": 2})
        assert "tensorflow" in stored.facts["versions"]

    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("train data", "other contents of the train data"),
            ("TF_ENABLE_ONEDNN_OPTS", "TF_ENABLE_ONEDNN_OPTS was '1', is '0'"),
            ("tensorflow", "tensorflow was '.*', is '9'"),
        ],
    )
    def test_a_resume_depends_on_more_than_settings(self, tmp_path, monkeypatch, name, sentence):
        config = resolve(RunConfig())
        run_directory.write_config(str(tmp_path), config, {"fingerprints": {"train data": "a", "model": "b"}})
        before = (tmp_path / "config.json").read_bytes()
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0" if name.startswith("TF_") else "1")
        found = {"tensorflow": "9"} if name == "tensorflow" else {}
        monkeypatch.setattr(run_directory, "versions", lambda versions=run_directory.versions: versions() | found)
        facts = {"fingerprints": {"train data": "c" if name == "train data" else "a", "model": "b"}}
        with pytest.raises(UserError, match=sentence):
            run_directory.write_config(str(tmp_path), config, facts)
        assert (tmp_path / "config.json").read_bytes() == before

    @pytest.mark.parametrize(
        "content",
        [b"", b"[]", b"3", b"\xff", b"[" * 100_000, b"{}", b'{"version": 2}', b'{"version": 2, "task": 5}', None]
        + [b'{"flags": {}, "task": 5}', b'{"flags": {"dataset": "digits"}, "facts": [1]}'],
    )
    def test_a_configuration_that_is_none_is_told(self, tmp_path, content):
        (tmp_path / "checkpoints").mkdir()
        if content is not None:
            (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(UserError, match=r"config.json|stored configuration"):
            run_directory.write_config(str(tmp_path), resolve(RunConfig()), {})

    @pytest.mark.slow
    def test_a_run_directory_has_one_writer_and_a_dead_one_hinders_nobody(self, tmp_path):
        with run_directory.writing(str(tmp_path)):
            own = f"is being written by process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-')}"
            with pytest.raises(UserError, match=own), run_directory.writing(str(tmp_path)):
                pass
        code = f"with d.writing({str(tmp_path)!r}): os.kill(os.getpid(), 9)"
        ended = subprocess.run([sys.executable, "-c", f"import os, tff_tx.run.directory as d\n{code}"])
        assert ended.returncode == -9
        assert "process" in (tmp_path / ".lock").read_text()
        with run_directory.writing(str(tmp_path)):
            pass

    def test_a_new_directory_in_which_nothing_is_written_is_removed_again(self, tmp_path):
        with run_directory.writing(str(tmp_path / "runs" / "a")):
            assert (tmp_path / "runs" / "a" / ".lock").exists()
        assert list(tmp_path.iterdir()) == []
        with run_directory.writing(str(tmp_path / "b")):
            (tmp_path / "b" / "x").touch()
        with run_directory.writing(str(tmp_path / "b")):
            pass
        assert sorted(os.listdir(tmp_path / "b")) == [".lock", "x"]

    def test_it_is_taken_before_data_and_model_are_loaded(self, tmp_path):
        config = RunConfig.of({"run.directory": str(tmp_path), "data.dataset": "file", "data.files": ("nowhere.csv",)})
        config = config.replace({"task.kind": "causal_lm", "model.architecture": "gpt2", "model.tokenizer": "bytes"})
        with run_directory.writing(str(tmp_path)), pytest.raises(UserError, match="is being written by process"):
            Trainer.run(config)
        with pytest.raises(UserError, match=r"there is no file 'nowhere\.csv'|nowhere"):
            Trainer.run(config)

    def test_no_run_is_told(self, tmp_path):
        with pytest.raises(UserError, match="has no config.json"):
            run_directory.read_run(str(tmp_path))

    def test_a_full_disk_is_told(self, tmp_path):
        with pytest.raises(UserError, match="MB left, and the run needs about 1000000000000 MB"):
            files.check_space(str(tmp_path), 10**18)

    def test_a_directory_that_cannot_be_made_is_told(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match=r"run.directory=.*file/run cannot be written"):
            files.make_directory(str(tmp_path / "file" / "run"), setting("run.directory"))

    @pytest.mark.parametrize("content", [None, "[]"])
    def test_a_private_run_does_not_go_on_without_its_fingerprints(self, tmp_path, content):
        config = resolve(RunConfig.of({"privacy.mechanism": "gaussian", "privacy.noise_multiplier": 1}))
        run_directory.write_config(str(tmp_path), config, {"fingerprints": {"train data": "a"}})
        (tmp_path / "checkpoints" / "round_1").mkdir()
        run_directory.write_config(str(tmp_path), config, {"fingerprints": {"train data": "a"}})
        path = tmp_path / "checkpoints" / "fingerprints.json"
        path.unlink() if content is None else path.write_text(content)
        with pytest.raises(UserError, match=r"fingerprints\.json is (missing|damaged)"):
            run_directory.write_config(str(tmp_path), config, {"fingerprints": {"train data": "b"}})
