"""A participant's own bounds, its log and the ops that it runs."""

import dataclasses
import json
import resource

import numpy as np
import pytest

from tff_tx.core.errors import UserError
from tff_tx.federation import audit_log, evaluation, operations
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.policy import Policy, Terms

TERMS = Terms(3, 10, False, None, None, ("loss", "num_examples"), True)
PRIVATE = dataclasses.replace(TERMS, mechanism="gaussian", epsilon=8.0)


@pytest.mark.parametrize(
    ("text", "terms", "sentence"),
    [
        ("least_participants = 4", TERMS, "least_participants = 4, and the plan has 3 participants"),
        ("most_rounds = 9", TERMS, "most_rounds = 9, and the plan has 10 rounds"),
        ("secure_sums_only = true", TERMS, "the plan adds up in the clear"),
        ('mechanisms = ["gaussian"]', TERMS, "the plan has the mechanism none"),
        ("most_epsilon = 4", TERMS, "the plan has epsilon infinity"),
        ("most_epsilon = 4.5", PRIVATE, "the plan has epsilon 8.0"),
        ('metrics = ["num_examples"]', TERMS, "the plan has loss leave"),
        ("label_names = false", TERMS, "the plan looks for the labels in the data"),
    ],
)
def test_a_plan_beyond_a_bound_is_refused(tmp_path, text, terms, sentence):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        Policy.load(str(path)).check(terms)
    Policy.load(None).check(terms)


def test_a_plan_within_all_bounds_is_accepted(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(
        'least_participants = 3\nmost_rounds = 10\nmechanisms = ["gaussian"]\nmost_epsilon = 8\n'
        'metrics = ["loss", "num_examples"]\nlabel_names = true\n'
    )
    Policy.load(str(path)).check(PRIVATE)
    assert Policy.load(str(path)).evaluation


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("most_round = 9", "there is no most_round in a policy"),
        ('most_rounds = "9"', "most_rounds = '9' must be of the type int"),
        ("most_rounds = true", "must be of the type int"),
        ("metrics = [1]", "must be of the type tuple"),
        ("most_rounds =", "cannot be read"),
    ],
)
def test_a_policy_that_means_nothing_is_rejected(tmp_path, text, sentence):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=sentence):
        Policy.load(str(path))


def test_the_log_shows_what_was_changed_removed_or_added(tmp_path):
    path = tmp_path / "audit.jsonl"
    for _ in range(2):  # a participant that starts again goes on with its log
        log = audit_log.AuditLog(str(path))
        log.append("train", (b"abc", b"d"), round=1)
        log.append("train", (b"xyz",), round=2)
    lines = path.read_text().splitlines()
    assert [(e["number"], e["bytes"]) for e in audit_log.read(str(path))] == [(1, 4), (2, 3), (3, 4), (4, 3)]
    changed = json.dumps({**json.loads(lines[1]), "bytes": 0})
    for broken in ([lines[0], changed, *lines[2:]], [lines[0], *lines[2:]], [*lines[:2], lines[1], *lines[2:]], ["{}"]):
        path.write_text("\n".join(broken) + "\n")
        with pytest.raises(UserError, match="keep it, and start another log"):
            audit_log.AuditLog(str(path))


def test_a_line_that_has_no_end_has_told_of_nothing_and_goes(tmp_path):
    """After a kill or a power cut in the middle of it, which a participant survives without its operator."""
    path = tmp_path / "audit.jsonl"
    audit_log.AuditLog(str(path)).append("train", (b"abc",))
    whole = path.read_bytes()
    for begun in (b"{", whole[:-1], b"\xc3"):
        path.write_bytes(whole + begun)
        audit_log.AuditLog(str(path)).append("train", (b"d",))
        assert [entry["number"] for entry in audit_log.read(str(path))] == [1, 2]
        assert path.read_bytes().startswith(whole)


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path):
    path = tmp_path / "audit.jsonl"
    log = audit_log.AuditLog(str(path))
    log.append("train", (b"abc",))
    whole, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
    try:
        with pytest.raises(UserError, match="File too large.*nothing leaves"):
            log.append("train", (b"d",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == whole
    log.append("train", (b"d",))
    assert [entry["number"] for entry in audit_log.read(str(path))] == [1, 2]


def test_nothing_leaves_that_is_not_in_the_log():
    with pytest.raises(UserError, match="/dev/full cannot be written .No space left on device.*nothing leaves"):
        audit_log.AuditLog.append(_full(), "train", (b"abc",))


def _full():
    log = audit_log.AuditLog("/nowhere")
    log._path = "/dev/full"
    return log


def test_ops_that_reach_out_are_none_of_the_known():
    operations.require_known({"MatMul", "Const"})
    for op in ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "TextLineDataset", "SaveV2", "RestoreV2", "PrintV2"):
        with pytest.raises(UserError, match=f"has the ops {op}, which are not among those"):
            operations.require_known({"MatMul", op})
    operations.require_known({"PrintV2"}, ["PrintV2"])


def test_weights_and_sums_of_evaluation_come_back_and_others_are_rejected():
    """Only what a round changed travels; fixed point is exact for counts, and adds up modulo 2^62."""
    initial = [np.zeros([2, 3], np.float32), np.ones([4], np.float32)]
    changed, arrays = evaluation.to_arrays([initial[0] + 1, initial[1]], initial)
    assert changed == [0]
    weights = evaluation.to_weights(changed, arrays, initial)
    np.testing.assert_array_equal(weights[0], 1)
    np.testing.assert_array_equal(weights[1], initial[1])
    for places, sent in (
        ([0, 0], arrays * 2),
        ([2], arrays),
        ([-1], arrays),
        ([1], arrays),
        (None, arrays),
        (["0"], arrays),
    ):
        with pytest.raises(EnvelopeError):
            evaluation.to_weights(places, sent, initial)
    sums = [[np.float32(-1.5), np.array([3, 2**20], np.int64)], [np.float32(0.25), np.array([4, 5], np.int64)]]
    total = [sum(leaves) % 2**62 for leaves in zip(*map(evaluation.to_fixed_point, sums))]
    loss, counts = evaluation.from_fixed_point(total, sums[0])
    assert (loss, loss.dtype) == (-1.25, np.float32)
    np.testing.assert_array_equal(counts, [7, 2**20 + 5])
    unfit = [[np.float32(1e10), np.array([3, 2**20], np.int64)], [np.float32(np.nan), np.array([4, 5], np.int64)]]
    for one in unfit:
        total = [sum(leaves) % 2**62 for leaves in zip(*map(evaluation.to_fixed_point, [one, sums[0]]))]
        loss, counts = evaluation.from_fixed_point(total, sums[0])
        assert np.isnan(loss)
        np.testing.assert_array_equal(counts, one[1] + sums[0][1])
    shapes = [vector.shape for vector in evaluation.to_fixed_point(sums[0])]
    assert list(evaluation.layout_of(sums[0]).shapes) == shapes
