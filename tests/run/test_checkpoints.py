"""Checkpoints: damage of any kind is noticed, and the one before is read."""

import shutil
import stat

import numpy as np
import pytest

from tff_tx.core.errors import UserError
from tff_tx.run.checkpoints import Checkpoints


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "graph gone": lambda d: (d / "saved_model.pb").unlink(),
    "graph emptied": lambda d: (d / "saved_model.pb").write_bytes(b""),
    "graph changed": lambda d: flip(d / "saved_model.pb"),
    "values cut": lambda d: (d / "variables" / "variables.data-00000-of-00001").write_bytes(b"cut"),
    "value changed": lambda d: flip(d / "variables" / "variables.data-00000-of-00001"),
    "values gone": lambda d: shutil.rmtree(d / "variables"),
    "all gone": lambda d: [shutil.rmtree(d), d.mkdir()],
    "checksums gone": lambda d: (d / "checksums.json").unlink(),
    "checksums of another shape": lambda d: (d / "checksums.json").write_text("[3]"),
    "a file for the directory": lambda d: [shutil.rmtree(d), d.touch()],
}


def state_of(round_num):
    return [np.full([3], round_num, np.float32), np.int32(round_num)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    for round_num in (2, 4, 6):
        Checkpoints(str(directory)).save(state_of(round_num), round_num)
    return directory


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_read_and_goes_on(saved, tmp_path, damage, caplog):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    DAMAGES[damage](tmp_path / "round_6")
    checkpoints = Checkpoints(str(tmp_path))
    state, round_num = checkpoints.load_latest(state_of(0))
    assert round_num == 4
    assert state[0].tolist() == [4.0] * 3
    assert "round_6 is damaged" in caplog.text
    checkpoints.save(state_of(6), 6)
    assert Checkpoints(str(tmp_path)).load_latest(state_of(0))[1] == 6


def test_without_a_whole_checkpoint_nothing_is_begun_anew(saved, tmp_path):
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for round_num in (4, 6):
        flip(tmp_path / f"round_{round_num}" / "saved_model.pb")
    with pytest.raises(UserError, match=r"round_6 is damaged; .*round_4 is damaged: restore it, or start anew"):
        Checkpoints(str(tmp_path)).load_latest(state_of(0))


def test_the_last_two_stay_where_only_their_owner_reads_them(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["round_4", "round_6"]
    assert stat.S_IMODE(saved.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in saved.rglob("*")} == {0o700, 0o600}
