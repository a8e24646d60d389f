"""Shares of noise by the participants of a federation: their variance over the transport, and what is accounted."""

import math

import numpy as np
import pytest

from tests.federation import parties, players
from tests.federation.players import NAMES, THREAT
from tff_tx import privacy
from tff_tx.config import RunConfig
from tff_tx.federation import contents
from tff_tx.federation.layout import Layout
from tff_tx.federation.noised import Noised
from tff_tx.federation.secure_rounds import SecureRounds
from tff_tx.federation.secure_sums import SecureSumError
from tff_tx.federation.secure_sums.noise import Noise, Share
from tff_tx.run.assemble import secure

SIZE, MODULUS, VARIANCE = 4096, 2**20, 900.0
LAYOUT = Layout((2**62, MODULUS), ((), (SIZE,)), (np.dtype(np.int64), np.dtype(np.int32)))


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("kits") / "certs", NAMES)


def noised(path, kind="skellam", most=10):
    return Noised(Share(Noise(kind, VARIANCE), MODULUS), str(path), most)


class Sharing(players.Player):
    """A participant of zeros, which adds its share; one that `drops` is gone after its keys are shared."""

    def __init__(self, kits, name, path, kind, drops=False, least=0):
        super().__init__(kits, name, least=least)
        self.share, self.drops = noised(path / f"{name}.json", kind), drops

    def __call__(self, header, payload):
        if header.phase == "input" and self.drops:
            raise ConnectionResetError("gone")
        if header.phase != "keys":
            return super().__call__(header, payload)
        zeros = [np.zeros(shape, dtype) for shape, dtype in zip(LAYOUT.shapes, LAYOUT.dtypes)]
        leaves = self.share(LAYOUT, zeros, [f"{self.name}/p0"])
        return contents.pack({}, self.party.begin(header.round, b"m" * 32, LAYOUT, leaves))


def summed(kits, path, kind, gone=(), least=0):
    everybody = {name: Sharing(kits, name, path, kind, name in gone, least) for name in NAMES}
    with players.federation(kits, everybody) as hub:
        requests = {name: contents.pack({"to": name}) for name in NAMES}
        total, _ = SecureRounds(hub, LAYOUT, THREAT, players.RUN, 20.0).sum(1, b"m" * 32, requests)
        return total


@pytest.mark.parametrize("kind", ["skellam", "discrete_gaussian"])
@pytest.mark.parametrize("gone", [(), ("south",)])
def test_threat_28_the_coordinator_sees_sums_with_the_shares_of_all_that_are_left(kits, tmp_path, kind, gone):
    figures, values = summed(kits, tmp_path, kind, gone)
    noise = np.where(values >= MODULUS // 2, values - MODULUS, values).astype(float)
    stated = math.sqrt((len(NAMES) - len(gone)) * VARIANCE)
    assert noise.std() == pytest.approx(stated, rel=5 / math.sqrt(2 * SIZE))
    assert abs(noise.mean()) < 5 * stated / math.sqrt(SIZE)
    assert figures == 0


def test_threat_29_participants_refuse_sums_with_fewer_shares_than_are_accounted(kits, tmp_path):
    with pytest.raises(SecureSumError, match="at least 4"):
        summed(kits, tmp_path, "skellam", ("south",), least=4)


def test_threat_30_a_client_is_in_no_more_sums_than_are_accounted(tmp_path):
    """Whatever the coordinator asks for, and also after the participant was started again."""
    zeros = [np.zeros(shape, dtype) for shape, dtype in zip(LAYOUT.shapes, LAYOUT.dtypes)]
    path, drawn = tmp_path / "sums.json", []
    for clients in (["p0", "p1"], ["p0"]):
        drawn.append(noised(path, most=2)(LAYOUT, zeros, clients)[1])
    again = noised(path, most=2)
    with pytest.raises(SecureSumError, match="p0 may have been in 2 sums"):
        again(LAYOUT, zeros, ["p1", "p0"])
    drawn.append(again(LAYOUT, zeros, ["p1"])[1])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        centered = [np.where(drawn[i] >= MODULUS // 2, drawn[i] - MODULUS, drawn[i]) for i in (first, second)]
        assert abs(np.corrcoef(*centered)[0, 1]) < 5 / math.sqrt(SIZE)


def planned(clients, **values):
    paths = {
        "privacy.mechanism": "skellam",
        "privacy.target_epsilon": 4.0,
        "aggregation.secure": "masks",
        "cohort.clients_per_round": clients,
        "run.rounds": 5,
    }
    return privacy.build_plan(RunConfig.of({**paths, **values}), clients, 1000)


def test_shares_are_accounted_as_in_simulation_where_a_participant_is_a_client():
    names = tuple(f"n{i}" for i in range(10))
    federation = {"engine.name": "federation", "data.silos": names}
    one_each, simulated = planned(10, **federation), planned(10)
    assert one_each.ledger.epsilon(5) == simulated.ledger.epsilon(5)
    shares = [secure.share_of(plan.settings, plan) for plan in (one_each, simulated)]
    assert shares[0] == shares[1]
    assert "by shares of the participants" in one_each.statement()
    many = planned(20, **federation)  # ten shares, however many clients
    assert (many.ledger.mechanism.unknown, many.ledger.mechanism.shares) == (7, 10)
    assert secure.least_summed(many.settings) == 9
