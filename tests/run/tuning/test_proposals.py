"""Configurations that a study tries."""

import numpy as np
import pytest

from tff_tx.config import RunConfig
from tff_tx.config.space import Space
from tff_tx.core.errors import UserError
from tff_tx.run.tuning.proposals import Proposals

SPACE = Space.of(
    {
        "client_learning_rate": {"low": 1e-4, "high": 1.0},
        "server_learning_rate": {"low": 0.1, "high": 1.0},
        "client_optimizer": ["sgd", "adam"],
        "client_momentum": True,
    }
)


def quarters(values, low, high):
    """How many values are in each quarter of a logarithmic range."""
    shares = np.log(np.array(values) / low) / np.log(high / low)
    return np.histogram(shares, bins=4, range=(0, 1))[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_the_first_arms_cover_the_ranges_evenly(seed, sampler, tmp_path):
    proposals = Proposals(str(tmp_path), SPACE, RunConfig.of({"run.seed": seed}), sampler)
    found = proposals.propose(9, first=0, with_current=False)
    assert quarters([values["client.learning_rate"] for values in found], 1e-4, 1.0).min() >= 2
    assert quarters([values["server.learning_rate"] for values in found], 0.1, 1.0).min() >= 2
    assert {values["client.optimizer"] for values in found} == {"sgd", "adam"}
    assert len({values["client.learning_rate"] for values in found}) == 9
    assert all(("client.momentum" in values) == (values["client.optimizer"] == "sgd") for values in found)


def test_tpe_learns_from_the_arms_that_have_ended(tmp_path):
    """Where losses fall towards a rate of 0.01."""
    proposals = Proposals(str(tmp_path), SPACE, RunConfig(), "tpe")

    def distances(values):
        return [abs(np.log10(arm["client.learning_rate"] / 0.01)) for arm in values]

    first = proposals.propose(30, first=0, with_current=False)
    for arm, (values, distance) in enumerate(zip(first, distances(first))):
        proposals.end(arm, values, {3: distance}, is_whole=True)
    later = proposals.propose(30, first=30, with_current=False)
    assert np.median(distances(later)) < 0.75 * np.median(distances(first))


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_each_setting_of_a_small_space_is_tried_once(sampler, tmp_path):
    """Here sgd and adam, which is the default, with two batch sizes; runs of private selection may come again."""
    space = Space.of({"client_optimizer": ["sgd", "adam"], "batch_size": [8, 16]})
    proposals = Proposals(str(tmp_path), space, RunConfig.of({"client.batch_size": 16}), sampler)
    first = proposals.propose(3, first=0, with_current=True)
    rest = proposals.propose(3, first=3, with_current=False, others_than=first)
    chosen = [(v.get("client.optimizer", "adam"), v.get("client.batch_size", 16)) for v in (*first, *rest)]
    assert sorted(chosen) == [("adam", 8), ("adam", 16), ("sgd", 8), ("sgd", 16)]
    assert proposals.propose(3, first=4, with_current=False, others_than=[*first, *rest]) == []
    assert len(proposals.propose(9, first=0, with_current=False, others_than=None)) == 9


def test_values_of_private_selection_do_not_follow_from_the_seed(tmp_path):
    """Its guarantee is for runs whose values are drawn at random, of which the seed in a report says nothing."""
    proposals = Proposals(str(tmp_path), SPACE, RunConfig(), "random")
    one, other = (proposals.propose(3, first=0, with_current=False, others_than=None) for _ in range(2))
    assert one != other
    again = [proposals.propose(3, first=0, with_current=False) for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe"])
def test_studies_of_other_seeds_try_other_values(sampler, tmp_path):
    """Brackets of one arm each: the arms of a study are not those of the study with the next seed, one later."""
    tried = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        proposals = Proposals(str(tmp_path / str(seed)), SPACE, RunConfig.of({"run.seed": seed}), sampler)
        arms = [proposals.propose(1, first=first, with_current=False)[0] for first in range(6)]
        tried.append({arm["client.learning_rate"] for arm in arms})
    assert len(tried[0]) == len(tried[1]) == 6
    assert not tried[0] & tried[1]


def test_the_same_seed_proposes_the_same(tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found.append(Proposals(str(tmp_path / name), SPACE, RunConfig(), "tpe").propose(5, 0, with_current=True))
    assert found[0] == found[1]
    assert found[0][0] == {}


def test_trials_are_stored_in_the_study_whatever_its_name(tmp_path):
    """Studies whose names are the same up to a sign of URLs have no trials in common."""
    names = ["what?1", "what?2", "what#3", "50%25", "ü 'q'"]
    for arm, name in enumerate(names):
        (tmp_path / name).mkdir()
        _stored(tmp_path / name).end(arm, {"client.learning_rate": 0.1}, {1: 0.5}, True)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    for arm, name in enumerate(names):
        assert [t.user_attrs["arm"] for t in _stored(tmp_path / name)._study.trials] == [arm]


def test_a_damaged_storage_is_a_sentence(tmp_path):
    (tmp_path / "optuna.db").write_bytes(b"no database " * 100)
    with pytest.raises(UserError, match=r"optuna\.db is damaged \(.*\): remove it, and the study makes it again"):
        _stored(tmp_path)


def _stored(directory):
    return Proposals(str(directory), SPACE, RunConfig(), "tpe")
