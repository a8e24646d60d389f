"""Sums of ciphertexts over the transport: equal to arithmetic, what is refused, and a key holder that is killed."""

import contextlib
import dataclasses
import os
import threading

import numpy as np
import pytest

from tests.federation import parties, players
from tests.federation.players import LAYOUT, NAMES, THREAT, check_sum
from tff_tx.core import certificates
from tff_tx.federation import contents
from tff_tx.federation.envelopes import EnvelopeError
from tff_tx.federation.secure_sums import Authority, SecureSumError
from tff_tx.federation.wire import load_kit

pytest.importorskip("tenseal")

from tff_tx.federation import encrypted_rounds  # noqa: E402 -- needs tenseal
from tff_tx.federation.encrypted_rounds import DECRYPT, PUBLIC_KEY  # noqa: E402
from tff_tx.federation.secure_sums.encryption import load_vector  # noqa: E402
from tff_tx.federation.secure_sums.key_holder import KeyHolder  # noqa: E402

RUN, HOLDER = parties.RUN, "keyholder"


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    made = parties.make_kits(tmp_path_factory.mktemp("kits") / "certs", NAMES)
    certificates.make_node_certificate(str(made), HOLDER, role="keyholder")
    certificates.make_node_certificate(str(made), "second", role="keyholder")
    return made


def holders(kits, name=HOLDER):
    return Authority.load(str(kits / name), participants=[name], role="keyholder")


def new_holder(kits, name=HOLDER, run=RUN, least=3, **more):
    return KeyHolder(*load_kit(str(kits / name), "keyholder", NAMES), least, run, **more)


class Player:
    """A participant without a model."""

    def __init__(self, kits, name, least=0):
        self.name, identity = name, load_kit(os.path.join(kits, name), "participant")[0]
        self.party = encrypted_rounds.EncryptingParty(identity, holders(kits), THREAT, RUN, len(NAMES), least)

    def __call__(self, header, payload):
        said, _ = contents.unpack(payload)
        model = bytes.fromhex(said["model"])
        return contents.pack({}, self.party.begin(header.round, model, LAYOUT, players.leaves(self.name), said["key"]))


class Holding:
    """The key holder, whose `holder` a test may replace by one that was started again."""

    def __init__(self, holder):
        self.holder = holder

    def __call__(self, header, payload):
        if header.phase == PUBLIC_KEY:
            return contents.pack({"key": encrypted_rounds.to_json(self.holder.public)})
        return encrypted_rounds.answer_decrypt(self.holder, RUN, header.round, THREAT, len(NAMES), payload)


@contextlib.contextmanager
def federation(kits, held, present=NAMES, **changed):
    """A hub with participants, those of `changed` in place of others, and a key holder."""
    with parties.hub(kits, NAMES, others=[HOLDER]) as hub, contextlib.ExitStack() as stack:
        everybody = {name: changed.get(name) or Player(kits, name) for name in present}
        for name, handle in everybody.items():
            stack.enter_context(parties.serving(kits, name, hub.port, handle))
        stack.enter_context(parties.serving(kits, HOLDER, hub.port, held, role="keyholder"))
        hub.wait([*present, HOLDER])
        yield hub


def run(hub, kits, number=1, models=None, model=b"m" * 32, **more):
    """A round: the sum, and why participants are not in it."""
    key = encrypted_rounds.ask_public_key(hub, HOLDER)
    own = {"key": encrypted_rounds.to_json(key), "attempt": os.urandom(4).hex()}
    requests = {n: contents.pack({**own, "model": (models or {}).get(n, model).hex()}) for n in NAMES}
    rounds = encrypted_rounds.EncryptedRounds(hub, LAYOUT, THREAT, RUN, 100.0, key, HOLDER, holders(kits))
    return rounds.sum(number, model, requests, **more)


def refuses(header, payload):
    raise EnvelopeError("gone.")


def test_threat_22_the_coordinator_has_sums_of_enough_participants_alone(kits):
    """To the bit those of arithmetic; of all that it has received, no ciphertext opens without the key."""
    seen = []

    class Seen(Player):
        def __call__(self, header, payload):
            answer = super().__call__(header, payload)
            seen.append(contents.unpack(b"".join(answer))[1][1:])
            return answer

    held = Holding(new_holder(kits))
    with federation(kits, held, north=Seen(kits, "north"), south=refuses) as hub:
        found, missing = run(hub, kits)
        check_sum(found, ["east", "north", "west"])
        assert missing == {"south": "south: gone"}
    refused = pytest.raises(SecureSumError, match="it needs 3 to 4, each once.*north: gone")
    with federation(kits, held, north=refuses, south=refuses) as hub, refused:
        run(hub, kits, 2)
    context = held.holder.public.checked(RUN, holders(kits))
    for ciphertext in seen[0]:
        with pytest.raises(ValueError, match="secret_key"):
            load_vector(context, ciphertext.tobytes()).decrypt()


def test_threat_23_a_round_is_decrypted_once(kits):
    """Asked again, the key holder gives the same answer; for another model of the round, none."""
    held = Holding(new_holder(kits))
    with federation(kits, held) as hub:
        first, _ = run(hub, kits)
        again, missing = run(hub, kits)
        assert missing == {}
        for ours, theirs in zip(first, again):
            np.testing.assert_array_equal(ours, theirs)
        with pytest.raises(SecureSumError, match="round 1 of a plan has had its sum"):
            run(hub, kits, model=b"o" * 32)
        check_sum(run(hub, kits, 2, model=b"o" * 32)[0], NAMES)


def test_threat_24_participants_with_different_models_are_in_no_sum(kits):
    with federation(kits, Holding(new_holder(kits))) as hub:
        found, missing = run(hub, kits, models={"south": b"o" * 32})
        check_sum(found, ["east", "north", "west"])
        assert "is not valid for what it is to sign" in missing["south"]


def test_threat_25_a_key_of_another_run_or_another_holder_is_refused(kits):
    for wrong, sentence in (
        (new_holder(kits, run="another plan"), "is not valid for what it is to sign"),
        (new_holder(kits, name="second"), "is not of a keyholder of the plan"),
    ):
        mine = Player(kits, "north").party
        with pytest.raises(SecureSumError, match=sentence):
            mine.begin(1, b"m" * 32, LAYOUT, players.leaves("north"), encrypted_rounds.to_json(wrong.public))


def test_threat_26_who_is_no_key_holder_signs_no_sum(kits):
    """A participant's kit does not make one, and a sum that another has signed is refused."""
    held, second = Holding(new_holder(kits)), new_holder(kits, name="second")

    class Forging(Holding):
        def __call__(self, header, payload):
            answer = super().__call__(header, payload)
            if header.phase != DECRYPT:
                return answer
            found = encrypted_rounds.decode_decrypted(contents.unpack(b"".join(answer))[1])
            forged = dataclasses.replace(found, signature=second._identity.sign(found.signed))
            return contents.pack({}, encrypted_rounds.encode_decrypted(forged))

    with (
        federation(kits, Forging(held.holder)) as hub,
        pytest.raises(SecureSumError, match="signature .* is not valid"),
    ):
        run(hub, kits)
    identity = load_kit(str(kits / "north"), "participant")[0]
    posing = KeyHolder(identity, held.holder._authority, 3, RUN).public
    with pytest.raises(SecureSumError, match="is not of a keyholder of the plan"):
        posing.checked(RUN, holders(kits))


def test_threat_27_a_participants_policy_bounds_each_sum(kits):
    refused = pytest.raises(SecureSumError, match="it needs 4 to 4, each once")
    strict = Player(kits, "north", 4)
    with federation(kits, Holding(new_holder(kits)), north=strict, south=refuses) as hub, refused:
        run(hub, kits)


def test_a_round_of_too_few_clients_is_not_decrypted(kits):
    """The cohort is tried again then, and the round must still have its sum."""
    held, trained = Holding(new_holder(kits)), []

    def require(names):
        trained.extend(sorted(names))
        raise EnvelopeError("too few.")

    with federation(kits, held, south=refuses) as hub:
        with pytest.raises(EnvelopeError, match="too few"):
            run(hub, kits, require=require)
        assert trained == ["east", "north", "west"]
        check_sum(run(hub, kits)[0], trained)


def test_a_key_holder_that_is_started_again_within_a_round_answers_it(kits):
    """It is killed while it owes the sum; another process, with what was on its disk, is sent the same message."""
    answers, stored = {}, new_holder(kits).secret
    first, asked = Holding(new_holder(kits, secret=stored, answers=answers)), threading.Event()

    def killed(header, payload):
        if header.phase == DECRYPT:
            asked.set()
            threading.Event().wait(100)
        return first(header, payload)

    with parties.hub(kits, NAMES, others=[HOLDER]) as hub, contextlib.ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(parties.serving(kits, name, hub.port, Player(kits, name)))
        stack.enter_context(parties.serving(kits, HOLDER, hub.port, killed, role="keyholder"))
        hub.wait()

        def restart():
            asked.wait(100)
            again = Holding(new_holder(kits, secret=stored, answers=answers))
            stack.enter_context(parties.serving(kits, HOLDER, hub.port, again, role="keyholder"))

        parties.background(restart)
        found, missing = run(hub, kits)
        check_sum(found, NAMES)
        assert missing == {}
        assert len(answers) == 1


@pytest.mark.parametrize("noise", [b"", b"\0" * 30, b'{"model": 1}', bytes(range(200))])
def test_noise_to_the_key_holder_and_from_participants_ends_in_a_sentence(kits, noise):
    held = Holding(new_holder(kits))
    with pytest.raises((SecureSumError, EnvelopeError)):
        encrypted_rounds.answer_decrypt(held.holder, RUN, 1, THREAT, len(NAMES), noise)
    with pytest.raises(SecureSumError):
        encrypted_rounds.decode_decrypted(encrypted_rounds.to_arrays([noise]))
    with pytest.raises(SecureSumError, match="oucher"):
        encrypted_rounds._receive(None, b"", encrypted_rounds.to_arrays([noise]))
