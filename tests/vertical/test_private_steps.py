"""Rows that are trained on have differential privacy: their part of a step is bounded, and accounted for."""

import dataclasses
import math
import types

import dp_accounting
import numpy as np
import pytest
import tensorflow as tf
from dp_accounting import pld

from tests.vertical import small
from tff_tx.core.errors import UserError
from tff_tx.privacy import accounting
from tff_tx.run.vertical_federation import Federation
from tff_tx.vertical import epsilons
from tff_tx.vertical.crossing import Guard, Wire
from tff_tx.vertical.feature_party import FeatureParty
from tff_tx.vertical.schedule import Schedule
from tff_tx.vertical.training import received, train_epoch

PUBLIC = {"means": [14.0, 19.0], "deviations": [4.0, 4.0]}, {"means": [650.0] * 2 + [0.2], "deviations": [400.0] * 3}
PARTIES = {name: {**party, "config": facts} for (name, party), facts in zip(small.TUMOURS.items(), PUBLIC, strict=True)}
SGD = {"optimizer": "sgd", "learning_rate": 1.0, "layers": 0, "parties": PARTIES}


@pytest.mark.parametrize(("cut", "weight", "epochs"), [(8.0, 10.0, 3), (30.0, 20.0, 40)])
def test_epsilon_is_that_of_privacy_loss_distributions_composed_one_by_one(cut, weight, epochs):
    """Any other row in the place of one moves each sum by two clips: noise multipliers of half."""
    settings = small.settings(
        cut_clip=1.0, cut_noise=cut, weight_clip=2.0, weight_noise=weight, gradient_defence="noise", gradient_noise=cut
    )
    found, rows = epsilons(settings, epochs, 2, 5000), 5000
    for name, times in (("epsilon_features", 1), ("epsilon_label_party", 2)):
        accountant = pld.PLDAccountant()
        for noise, count in ((cut, times * epochs), (weight, epochs)):
            accountant.compose(dp_accounting.GaussianDpEvent(noise / 2), count)
        delta = accounting.default_delta(rows, "example")
        assert found[name] == pytest.approx(accountant.get_epsilon(delta), rel=1e-3)


def test_no_figure_is_given_where_there_is_no_guarantee():
    noised = small.settings(cut_clip=1.0, cut_noise=1.0, gradient_defence="noise")
    assert epsilons(noised, 1, 1, 500) == {}
    with_weights = dataclasses.replace(noised, weight_clip=1.0, weight_noise=1.0)
    assert set(epsilons(with_weights, 1, 1, 500)) == {"epsilon_features", "epsilon_label_party"}
    assert set(epsilons(dataclasses.replace(with_weights, cut_noise=0.0), 1, 1, 500)) == {"epsilon_label_party"}
    with pytest.raises(UserError, match="clinic would find out means and deviations of its columns from its rows"):
        small.federation("", with_weights)
    with pytest.raises(UserError, match="vertical.weight_clip excludes vertical.local_updates, which uses a row in"):
        small.federation("", dataclasses.replace(with_weights, local_updates=2, parties=PARTIES))
    with pytest.raises(UserError, match="vertical.weight_noise needs vertical.weight_clip"):
        small.federation("", small.settings(weight_noise=1.0))


@pytest.mark.slow
def test_the_noise_of_parties_that_are_processes_is_their_own_secret(tmp_path):
    """Not of the seed that all share, by which others would take it off; the same when a run resumes."""
    settings = small.settings(layers=0, top="concatenation", label_epsilon=1.0, gradient_defence="noise")
    here = small.federation(tmp_path / "simulated", settings)
    labels = [here.label.labels]
    for _ in range(2):
        other = Federation(small.config(), settings, str(tmp_path / "process"), remote=here._ask_here)
        labels.append(other.label.labels)
    assert other.label._noise_key not in (here.label._noise_key, small.config().run.seed)
    np.testing.assert_array_equal(labels[1], labels[2])
    assert 0.1 < np.mean(labels[0] != labels[1]) < 0.6
    names, keys = ("laboratory", "imaging"), []
    for name in names:  # in simulation of one seed, and yet of noise of its own
        here._here["laboratory"]._party.name = name
        keys.append(here._here["laboratory"]._party._noise("train", 1, 0).numpy().tolist())
    assert keys[0] != keys[1]


def one_step(federation, rate=1.0):
    """What is sent in a step both ways, and all weights after it."""
    answers = federation.ask("step", {"laboratory": ({"split": "train", "epoch": 1, "batch": 0}, ())})
    cuts = received(answers, federation.label, 64)
    _, sent = federation.label.step(1, 0, cuts)
    federation.ask("end", {"laboratory": ({"epoch": 1}, [rate * sent["laboratory"]])})
    return cuts["laboratory"], sent["laboratory"], small.weights(federation)


@pytest.mark.slow
def test_a_clip_that_reaches_no_row_leaves_the_joint_step(tmp_path):
    settings = small.settings(**{**SGD, "layers": 1, "dropout": 0.3, "weight_clip": 1e9})
    federation = small.federation(tmp_path, settings)
    federation.restore()
    before, (_, gradients) = small.weights(federation), small.joint_step(federation)
    small.assert_moved_by(before, one_step(federation)[2], gradients)


@pytest.mark.slow
def test_another_row_in_the_place_of_one_moves_each_party_by_two_clips_at_most(tmp_path):
    """Without noise; of other rows of the batch nothing is sent that is otherwise."""
    clip, found = 0.3, []
    settings = small.settings(**SGD, weight_clip=clip, cut_clip=0.5, gradient_defence="noise", gradient_noise=0.0)
    federation = small.federation(tmp_path, settings)
    federation.restore()
    half, place = federation._here["laboratory"]._party.half, federation.label.schedule.batches("train", 1)[0][5]
    start = federation.label.state, half.state
    for changed in (False, True):
        federation.label.state, half.state = start
        if changed:
            federation._here["laboratory"].inputs["numbers"][place] *= -50.0
            federation.label._inputs["numbers"][place] *= 40.0
            federation.label.labels[place] = 1 - federation.label.labels[place]
        found.append(one_step(federation, 1e3))
    (cuts, sent, weights), (other_cuts, other_sent, other_weights) = found
    others = np.arange(64) != 5
    np.testing.assert_array_equal(cuts[others], other_cuts[others])
    np.testing.assert_allclose(sent[others], other_sent[others], atol=1e-6)
    assert 0.1 < np.linalg.norm(cuts[5] - other_cuts[5]) <= 2 * 0.5 + 1e-5
    assert np.linalg.norm(sent[5] - other_sent[5]) <= 2 * 1.0 + 1e-5
    parts = [["laboratory"], ["top", "clinic"]]  # weights of a party are clipped together
    for names in parts:
        moved = math.sqrt(
            sum(float(tf.nn.l2_loss(a - b)) * 2 for n in names for a, b in zip(weights[n], other_weights[n]))
        )
        assert 0.0 < moved <= 2 * clip / 64 + 1e-5


@pytest.mark.slow
def test_who_sends_gradients_cannot_tell_by_other_rows_which_row_was_trained_on(tmp_path):
    """A malicious label party draws the weights by one row, and looks at held-out rows: without noise on weights it
    sees which of two rows that was, whatever the noise on activations; with it no better than the Gaussian mechanism.
    """
    aucs, trials = {}, 150
    for weight_noise in (0.0, 2.0):
        noise = {"cut_clip": 1.0, "cut_noise": 2.0, "weight_clip": 1.0, "weight_noise": weight_noise}
        federation = small.federation(tmp_path, small.settings(**{**SGD, "learning_rate": 1e4}, **noise))
        federation.restore()
        party, scores = federation._here["laboratory"]._party, ([], [])
        place, start = federation.label.schedule.batches("train", 1)[0][5], party.half.state
        pushed = np.zeros((64, *party.half.model.objective.output_spec.shape[1:]), np.float32)
        pushed[5] = 1e3
        for trial in range(2 * trials):
            party.half.state, party._noise_key, is_other = start, trial, trial % 2
            party.inputs["numbers"][place] = [[1500.0, 2500.0, 0.4], [150.0, 200.0, 0.1]][is_other]
            party.answer("step", {"split": "train", "epoch": 1, "batch": 0})
            party.answer("end", {}, [pushed])
            _, (seen,) = party.answer("predict", {"split": "test", "epoch": 1, "batch": 0})
            scores[is_other].append(seen.mean(0).ravel())
        mean = [np.mean(np.array(found)[: trials // 2], 0) for found in scores]  # known by shadow runs
        one, two = (np.array(found)[trials // 2 :] @ (mean[0] - mean[1]) for found in scores)
        aucs[weight_noise] = float(np.mean(one[:, None] > two[None]))
    most = 0.5 * (1.0 + math.erf(2.0 / 2.0 / 2.0))  # Phi(mu / sqrt(2)) with mu = 2 / noise
    assert aucs[0.0] > 0.95
    assert aucs[2.0] < most + 0.1


@pytest.mark.slow
def test_a_private_epoch_trains(tmp_path):
    """The loss falls where there is little noise."""
    noise = {"weight_clip": 1.0, "weight_noise": 0.1, "cut_clip": 5.0, "cut_noise": 0.01, "gradient_defence": "noise"}
    settings = small.settings(parties=PARTIES, layers=0, top="concatenation", gradient_noise=0.01, **noise)
    federation = small.federation(tmp_path, settings)
    federation.restore()
    losses = [train_epoch(federation.label, federation.ask, settings, i)["train/loss"] for i in (1, 2, 3)]
    assert losses[2] < 0.9 * losses[0]


@pytest.mark.slow
def test_noise_is_another_where_a_batch_is_trained_on_again_with_other_messages(tmp_path):
    """As when an epoch begins anew since a party lost what it had: who has both messages cannot subtract the noise."""
    noise = {"cut_clip": 1.0, "cut_noise": 2.0, "weight_clip": 1.0, "weight_noise": 3.0, "gradient_defence": "noise"}
    federation = small.federation(tmp_path, small.settings(**SGD, **noise, gradient_clip=1e-3, gradient_noise=1e3))
    federation.restore()
    party, label = federation._here["laboratory"]._party, federation.label
    start = label.state, party.half.state
    pushed = np.random.default_rng(0).normal(size=(64, *party.half.model.objective.output_spec.shape[1:]))

    def answers(scale):
        """What both parties send after a message that is scaled, and the weights after it."""
        label.state, party.half.state = start
        party.answer("step", {"split": "train", "epoch": 1, "batch": 0})
        _, (cut,) = party.answer("step", {"split": "train", "epoch": 1, "batch": 1}, [np.float32(scale * pushed)])
        moved = np.concatenate([np.ravel(after - before) for after, before in zip(party.half.trainable, start[1][0])])
        _, sent = label.step(1, 0, {"laboratory": np.float32(scale * pushed)})
        return cut, 64 * moved, sent["laboratory"]

    first, again, other = answers(1e-6), answers(1e-6), answers(-1e-6)
    for one, same in zip(first, again):
        np.testing.assert_array_equal(one, same)  # a run resumes bit for bit
    for one, another, stddev in zip(first, other, (2.0, 3.0, 1.0)):
        assert np.std(one - another) == pytest.approx(2**0.5 * stddev, rel=0.3)


def test_noise_on_predictions_is_another_for_another_table():
    """Who has predictions of two tables cannot subtract the noise; the same table again tells nothing new."""
    party = FeatureParty.__new__(FeatureParty)
    party.name, party._noise_key, party._settings = "shop", 7, small.settings(cut_clip=1.0, cut_noise=1.0)
    party.half, party._masks, party._wire = types.SimpleNamespace(trainable=()), None, Wire(party._settings)
    party._schedule = Schedule(1, 96, 64, 0.2)
    # A bottom that sends nothing but noise.
    party._forwards = {False: lambda _, batch, key: Guard(1.0, 1.0)(tf.zeros([len(batch["numbers"]), 1, 8]), key)}

    def noise(table, **at):
        party.inputs = {"numbers": table}
        return party.answer("predict", {"split": "all", "epoch": 3, "batch": 0, **at})[1][0][:32]

    table = np.arange(192, dtype=np.float32).reshape(96, 2)
    first = noise(table)
    np.testing.assert_array_equal(first, noise(table.copy()))
    for other in (noise(table + 1.0), noise(table[::-1]), noise(table, batch=1), noise(table, epoch=4)):
        assert np.std(first - other) == pytest.approx(2**0.5, abs=0.2)
