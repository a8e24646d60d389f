"""The secure sum of activations: the sum, and nothing else of what each party sends."""

import numpy as np
import pytest

from tests.federation import parties
from tff_tx.core.errors import UserError
from tff_tx.federation import wire
from tff_tx.vertical.masking import PartyMasks, unmasked_sum

NAMES = ("bank", "shop", "tax")


def agreed(masks):
    offers = {name: party.offer() for name, party in masks.items()}
    for party in masks.values():
        party.agree(offers)
    return offers


@pytest.fixture
def masks():
    found = {name: PartyMasks(name, NAMES) for name in NAMES}
    agreed(found)
    return found


def test_the_sum_is_exact_to_its_grid_and_messages_look_random(masks, rng):
    values = {name: rng.normal(size=(64, 1, 8)).astype(np.float32) for name in NAMES}
    sent = [[party(values[name]) for _ in range(2)] for name, party in masks.items()]
    for message in range(2):
        total = unmasked_sum([by[message] for by in sent])
        np.testing.assert_allclose(total, sum(values.values()), atol=2e-6)
    # The same values, masked twice, have nothing in common; and no message is near the values.
    assert np.mean(sent[0][0] == sent[0][1]) < 0.01
    assert abs(np.corrcoef(sent[0][0].view(np.int32).ravel(), values["bank"].ravel())[0, 1]) < 0.2
    # Without one party's message nothing is unmasked.
    assert np.abs(unmasked_sum([by[0] for by in sent[:2]])).mean() > 100


def test_new_keys_begin_anew(masks):
    first = masks["bank"](np.zeros(4, np.float32))
    agreed(masks)
    assert not np.array_equal(first, masks["bank"](np.zeros(4, np.float32)))


def test_what_does_not_fit_the_sum_is_said(masks):
    with pytest.raises(UserError, match="activations are above 682.667, for a secure sum: clip them"):
        masks["bank"](np.array([700.0], np.float32))
    with pytest.raises(UserError, match="activations are above"):
        masks["bank"](np.array([np.nan], np.float32))
    with pytest.raises(UserError, match="no keys of the secure sum were agreed on"):
        PartyMasks("bank", NAMES)(np.zeros(1, np.float32))
    with pytest.raises(UserError, match="are not those of bank, shop, tax"):
        masks["bank"].agree({"bank": {"public": "00" * 32}})


def test_who_relays_keys_can_put_none_of_its_own_in(tmp_path):
    kits = parties.make_kits(tmp_path / "certs", list(NAMES))
    masks = {name: PartyMasks(name, NAMES, *wire.load_kit(str(kits / name), "participant", NAMES)) for name in NAMES}
    offers = agreed(masks)
    coordinator = PartyMasks("shop", NAMES, *wire.load_kit(str(kits / "coordinator"), "coordinator"))
    for forged in (coordinator.offer(), offers["tax"], PartyMasks("shop", NAMES).offer()):
        with pytest.raises(UserError, match="the keys of the secure sum are rejected"):
            masks["bank"].agree({**offers, "shop": forged})
