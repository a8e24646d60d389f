"""Sums of ciphertexts over the transport: participants encrypt, the coordinator adds up, the key holder decrypts.

A round has two messages: the model to participants, each of whom answers with its voucher and ciphertexts, and their
sum to the key holder, who answers with numbers that it signs.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable

import numpy as np

from tff_tx.federation import contents
from tff_tx.federation.answers import ask
from tff_tx.federation.envelopes import EnvelopeError, Payload
from tff_tx.federation.hub import Hub
from tff_tx.federation.layout import Layout
from tff_tx.federation.secure_sums import Authority, Identity, SecureSumError, Terms, Threat, Vector
from tff_tx.federation.secure_sums.encryption import Aggregator, PublicKey, Voucher, encrypt
from tff_tx.federation.secure_sums.identities import fingerprint, require_distinct
from tff_tx.federation.secure_sums.key_holder import Decrypted, KeyHolder, check_sums

ENCRYPT, PUBLIC_KEY, DECRYPT = "encrypt", "public_key", "decrypt"
"""Phases: of participants, and of the key holder, whose key is asked for before the first round."""
_MARK_BYTES = 32


def to_json(record: Any) -> dict[str, Any]:
    """A record of bytes and numbers as JSON has it."""
    return {
        field.name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for field in dataclasses.fields(record)
        for value in [getattr(record, field.name)]
    }


def from_json(kind: type, told: Any) -> Any:
    """The record of `to_json`.

    Raises:
      SecureSumError: If it is not of this kind.
    """
    try:
        values = {
            field.name: int(told[field.name]) if field.type == "int" else base64.b64decode(told[field.name], None, True)
            for field in dataclasses.fields(kind)
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SecureSumError(f"what came is no {kind.__name__}.") from error
    return kind(**values)


def to_arrays(pieces: Sequence[bytes]) -> list[np.ndarray]:
    """Bytes as arrays of uint8."""
    return [np.frombuffer(piece, np.uint8) for piece in pieces]


def encode_decrypted(found: Decrypted) -> bytes:
    """The key holder's answer, or what it stores of it."""
    return contents.encode([*to_arrays([found.terms, b"".join(found.clients), found.signature]), *found.sums])


def decode_decrypted(arrays: Sequence[np.ndarray]) -> Decrypted:
    """The inverse of `encode_decrypted`, of decoded arrays.

    Raises:
      SecureSumError: If it is no such answer.
    """
    if len(arrays) < 3 or not all(
        a.ndim == 1 and a.dtype == (np.uint8, np.uint64)[i > 2] for i, a in enumerate(arrays)
    ):
        raise SecureSumError("the key holder's answer is none.")
    terms, clients, signature = (array.tobytes() for array in arrays[:3])
    marks = tuple(clients[i : i + _MARK_BYTES] for i in range(0, len(clients), _MARK_BYTES))
    return Decrypted(terms, marks, tuple(arrays[3:]), signature)


class EncryptedRounds:
    """The end of the coordinator, which adds up and has no key.

    Args:
      hub: Where participants and the key holder join.
      layout: Of what is summed.
      threat: Of the plan, which says how many participants are summed at least.
      run: Digest of the plan.
      seconds: Time limit of the key holder's answer.
      public: The key holder's key.
      holder: Its name.
      authority: Certifies the key holder.
    """

    training_phase = ENCRYPT

    def __init__(
        self,
        hub: Hub,
        layout: Layout,
        threat: Threat,
        run: str,
        seconds: float,
        public: PublicKey,
        holder: str,
        authority: Authority,
    ):
        self._hub, self._layout, self._threat, self._run, self._seconds = hub, layout, threat, run, seconds
        self._public, self._holder, self._authority = public, holder, authority
        self._context = public.checked(run, authority)

    def sum(
        self,
        round_num: int,
        model: bytes,
        requests: Mapping[str, Payload],
        on_phase: Callable[[str], None] = lambda phase: None,
        layout: Layout | None = None,
        require: Callable[[Collection[str]], None] = lambda names: None,
    ) -> tuple[list[np.ndarray], dict[str, str]]:
        """The sum over participants; see `SecureRounds.sum`."""
        layout = layout or self._layout
        terms = Terms(self._run, round_num, model, layout.vectors(), self._threat, len(self._hub.names))
        aggregator = Aggregator(terms, self._context, self._hub.authority)
        marks = self._hub.fingerprints(requests)
        answers, failures = ask(self._hub, round_num, ENCRYPT, requests)
        received = []
        for name, (_, arrays) in answers.items():
            try:
                _receive(aggregator, marks[name], arrays)
                received.append(name)
            except SecureSumError as error:
                failures[name] = f"{name}: {error}"
        on_phase(ENCRYPT)
        require(received)
        found = self._decrypted(terms, aggregator, [marks[name] for name in requests if name in received], failures)
        check_sums(terms, list(marks.values()), found, self._public, self._authority)
        on_phase(DECRYPT)
        missing = {n: failures.get(n, f"{n} is not in the sum") for n, m in marks.items() if m not in found.clients}
        return layout.split(found.sums), missing

    def _decrypted(self, terms, aggregator, marks, failures):
        """The key holder's answer to the sum over the participants of these certificates."""
        told = f" ({'; '.join(failures.values())})" if failures else ""
        if not marks:
            raise SecureSumError(f"no participant sent ciphertexts{told}")
        vouchers, ciphertexts = aggregator.add(marks)
        said = {
            "model": terms.model.hex(),
            "vectors": [dataclasses.astuple(vector) for vector in terms.vectors],
            "vouchers": list(map(to_json, vouchers)),
        }
        payload = contents.pack(said, contents.encode(to_arrays(ciphertexts)))
        answers, refusals = ask(self._hub, terms.round_num, DECRYPT, {self._holder: payload}, self._seconds)
        if refusals:
            raise SecureSumError(f"{refusals[self._holder]}{told}")
        return decode_decrypted(answers[self._holder][1])


def _receive(aggregator: Aggregator, mark: bytes, arrays: Sequence[np.ndarray]) -> None:
    """Takes the answer of the participant with this fingerprint; SecureSumError: it is none."""
    told, *ciphertexts = [array.tobytes() for array in arrays] or [b""]
    try:
        voucher = from_json(Voucher, json.loads(told))
    except (ValueError, RecursionError) as error:
        raise SecureSumError("an answer has no voucher.") from error
    if fingerprint(voucher.certificate) != mark:
        raise SecureSumError("the voucher is another's.")
    aggregator.receive(voucher, tuple(ciphertexts))


def ask_public_key(hub: Hub, holder: str) -> PublicKey:
    """The key of the key holder, which has yet to be checked.

    Raises:
      SecureSumError: If it gives none.
    """
    answers, failures = ask(hub, 0, PUBLIC_KEY, {holder: contents.pack({})})
    if failures:
        raise SecureSumError(failures[holder])
    return from_json(PublicKey, answers[holder][0].get("key"))


class EncryptingParty:
    """A participant's end.

    Args:
      identity: Its key and certificate.
      authority: Who certifies the key holder.
      threat: What a round is to withstand, by the plan.
      run: Digest of the plan.
      participants: Number of participants of the plan.
      least: Fewest participants over which it agrees to be summed.
    """

    phases = (ENCRYPT,)

    def __init__(
        self, identity: Identity, authority: Authority, threat: Threat, run: str, participants: int, least: int
    ):
        self._identity, self._authority, self._threat = identity, authority, threat
        self._run, self._participants, self._least = run, participants, least

    def begin(self, round_num: int, model: bytes, layout: Layout, leaves: Sequence[Any], key: Any) -> bytes:
        """The answer to the first message; arguments as of `SecureParty.begin`, and the key holder's key as it came."""
        terms = Terms(self._run, round_num, model, layout.vectors(), self._threat, self._participants)
        public = from_json(PublicKey, key)
        voucher, ciphertexts = encrypt(
            terms, self._identity, public, self._authority, layout.join(leaves), max(2, self._least)
        )
        return contents.encode(to_arrays([json.dumps(to_json(voucher)).encode(), *ciphertexts]))


def answer_decrypt(
    holder: KeyHolder, run: str, round_num: int, threat: Threat, participants: int, payload: bytes
) -> Payload:
    """The key holder's answer to a coordinator that asks for a sum.

    Args:
      holder: The key holder.
      run: Digest of the plan.
      round_num: The round.
      threat: Of the plan.
      participants: Number of participants of the plan.
      payload: The message.

    Raises:
      EnvelopeError: If it is none.
      SecureSumError: If it is refused.
    """
    said, arrays = contents.unpack(payload)
    try:
        vectors = tuple(Vector(str(name), int(length), int(modulus)) for name, length, modulus in said["vectors"])
        model, told = bytes.fromhex(said["model"]), list(said["vouchers"])
        if not all(0 < v.length < 2**31 and 1 < v.modulus <= 2**62 for v in vectors):
            raise ValueError
        terms = Terms(run, round_num, model, vectors, threat, participants)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise EnvelopeError("a request does not say what is summed.") from error
    vouchers = [from_json(Voucher, each) for each in told]
    require_distinct(voucher.certificate for voucher in vouchers)
    return contents.pack({}, encode_decrypted(holder.decrypt(terms, vouchers, [array.tobytes() for array in arrays])))
