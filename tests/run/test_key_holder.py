"""The key holder's program: what it takes part in, and what is on its disk."""

import dataclasses
import os
import stat

import numpy as np
import pytest

from tests.federation import parties
from tff_tx.config import RunConfig, resolve
from tff_tx.config.tools import KeyHolderConfig
from tff_tx.core import certificates
from tff_tx.core.errors import UserError
from tff_tx.run.assemble import plans

pytest.importorskip("tenseal")

from tff_tx.federation.secure_sums.key_holder import Decrypted  # noqa: E402 -- needs tenseal
from tff_tx.run.key_holder import Answers, KeyHoldingMember  # noqa: E402

BFV = {
    "engine.name": "federation",
    "data.dataset": "file",
    "data.files": ("{silo}",),
    "data.silos": ("north", "south", "west"),
    "task.kind": "sequence_classification",
    "model.architecture": "bert",
    "model.tokenizer": "bytes",
    "aggregation.secure": "bfv",
}


@pytest.fixture
def member(tmp_path):
    kits = parties.make_kits(tmp_path / "certs", ())
    certificates.make_node_certificate(str(kits), "keyholder", role="keyholder")
    own = KeyHolderConfig(
        coordinator="localhost:1", certificate=str(kits / "keyholder"), state_dir=str(tmp_path / "state")
    )
    os.makedirs(own.state_dir)
    return KeyHoldingMember(own, lambda words, digest: "the key holder keyholder decrypts sums of at least 3" in words)


def plan(**values):
    return plans.plan_of(resolve(RunConfig.of({**BFV, **{k.replace("__", "."): v for k, v in values.items()}})))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"aggregation__secure": "masks"}, "no sums of ciphertexts with the key holder keyholder"),
        ({"aggregation__key_holder": "another"}, "no sums of ciphertexts with the key holder keyholder"),
        ({"data__silos": ("north", "south")}, "least_participants=3: the plan has 2 participants"),
        ({"aggregation__secure_dropping": 0.4}, "the operator of keyholder has not approved"),
    ],
)
def test_a_plan_without_it_or_of_too_few_or_not_approved_is_refused(member, values, sentence):
    with pytest.raises(UserError, match=sentence):
        member._take_new_plan(plan(**values))
    assert member._holder is None


def test_a_key_is_of_one_plan_and_outlives_the_program(member, tmp_path):
    member._take_new_plan(plan())
    first = member._holder.public.context
    member._take_new_plan(plan(run__rounds=7))
    assert member._holder.public.context != first
    again = KeyHoldingMember(member._settings, lambda words, digest: False)  # it was approved of before
    again._take_new_plan(plan())
    assert again._holder.public.context == first
    for path in (tmp_path / "state").glob("*/key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again._holder._answers["q"] = Decrypted(bytes(32), (bytes(32),), (np.ones(3, np.uint64),), b"s")
    os.remove(tmp_path / "state" / plans.digest(plan()) / "key")
    with pytest.raises(UserError, match="key is missing, and .* has answers"):
        KeyHoldingMember(member._settings, lambda words, digest: False)._take_new_plan(plan())


def test_old_answers_are_known_as_given_and_new_ones_are_there_after_a_restart(tmp_path):
    def answer(number):
        return Decrypted(bytes([number]) * 32, (bytes(32),), (np.full(3, number, np.uint64),), b"s")

    answers = Answers(str(tmp_path), 2)
    for number in range(4):
        answers[str(number)] = answer(number)
    for path in tmp_path.iterdir():  # as a copy of the directory has them
        os.utime(path, (0, 0))
    for found in (answers, Answers(str(tmp_path), 2)):
        assert list(found) == list("0123")
        assert [len(found[each].sums) for each in "0123"] == [0, 0, 1, 1]
        assert found["0"].terms == bytes(32)
        assert dataclasses.astuple(found["3"])[:2] == dataclasses.astuple(answer(3))[:2]
    # What a process that was killed had begun to write.
    (tmp_path / "5.tmp").write_bytes(b"half")
    again = Answers(str(tmp_path), 2)
    for number in range(4, 8):
        again[str(number)] = answer(number)
    assert list(again) == list("01234567")
    assert [len(again[each].sums) for each in again] == [0] * 6 + [1, 1]
    next(tmp_path.glob("*-3")).write_bytes(b"noise")
    with pytest.raises(UserError, match="is damaged"):
        found["3"]
