"""The key holder of a federation: it has no data and no model, and decrypts sums of what participants encrypted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Callable

from tff_tx.config import RunConfig
from tff_tx.config.tools import KeyHolderConfig
from tff_tx.core import codec, files
from tff_tx.core.errors import UserError, setting
from tff_tx.federation import contents, encrypted_rounds, wire
from tff_tx.federation.envelopes import EnvelopeError, Payload
from tff_tx.federation.messages_pb2 import Header
from tff_tx.federation.secure_sums import SecureSumError
from tff_tx.federation.secure_sums.key_holder import Decrypted, KeyHolder
from tff_tx.run.assemble import plans, secure
from tff_tx.run.member import Member

_KEY, _ANSWERS = "key", "answers"


class Answers(MutableMapping[str, Decrypted]):
    """Answers in files, each there as a whole before it leaves.

    Those of the last rounds are kept, for a coordinator that resumes; of others there is that they were given.

    Args:
      directory: Made if need be.
      most: Number of answers that are kept.
    """

    def __init__(self, directory: str, most: int):
        self._directory, self._most = directory, most
        files.make_private(directory)
        given = sorted(name for name in os.listdir(directory) if not name.endswith(files.SCRATCH))
        self._names = {name.rpartition("-")[2]: name for name in given}

    def __getitem__(self, question: str) -> Decrypted:
        path = os.path.join(self._directory, self._names[question])
        try:
            with open(path, "rb") as file:
                return encrypted_rounds.decode_decrypted(codec.decode(file.read(), None))
        except (OSError, codec.CodecError, SecureSumError) as error:
            raise UserError(f"{path} is damaged ({error}): restore it.") from error

    def __setitem__(self, question: str, answer: Decrypted) -> None:
        name = f"{len(self._names):09d}-{question}"  # by which they are in order
        self._write(name, answer)
        self._names[question] = name
        if len(self._names) > self._most:
            old = list(self._names)[-1 - self._most]
            self._write(self._names[old], Decrypted(self[old].terms, (), ()))

    def __delitem__(self, question: str) -> None:
        raise TypeError("what was answered stays answered.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _write(self, name, answer):
        with files.atomic(os.path.join(self._directory, name), "wb", private=True) as file:
            file.write(encrypted_rounds.encode_decrypted(answer))


class KeyHoldingMember(Member):
    """Holds the key of each plan that its operator approved of.

    Args:
      settings: Where the coordinator, the kit and its own files are, and its bound.
      approve: As of `Member`.

    Raises:
      UserError: If the kit cannot be read.
    """

    def __init__(self, settings: KeyHolderConfig, approve: Callable[[str, str], bool]):
        super().__init__(settings, approve, "keyholder")
        self._config: RunConfig | None = None
        self._holder: KeyHolder | None = None

    def _take_plan(self, plan: Mapping[str, Any]) -> None:
        # Files are at the participants.
        config = plans.config_of(plan, {"data.files": ("{silo}",)})
        if config.aggregation.secure != "bfv" or config.aggregation.key_holder != self.name:
            raise UserError(f"the plan has no sums of ciphertexts with the key holder {self.name}.")
        if len(config.data.silos) < self._settings.least_participants:
            raise UserError(
                f"{setting('keyholder.least_participants')}={self._settings.least_participants}: the plan has "
                f"{len(config.data.silos)} participants."
            )
        self._config = config
        self._ask_once(config)
        self._holder = self._load(config)

    def _load(self, config: RunConfig) -> KeyHolder:
        """The holder of the plan's key, which is made at the first time."""
        run = plans.digest(self._plan)
        directory = os.path.join(self._settings.state_dir, run)
        files.make_private(directory)
        # An evaluation is a sum, too; a coordinator resumes from the last checkpoint but one.
        answers = Answers(os.path.join(directory, _ANSWERS), 2 * (2 * config.run.rounds_per_checkpoint + 1))
        identity, authority = wire.load_kit(self._settings.certificate, "keyholder", config.data.silos)
        least, path = max(self._settings.least_participants, secure.least_summed(config)), os.path.join(directory, _KEY)
        secret = None
        if os.path.exists(path):
            with open(path, "rb") as file:
                secret = file.read()
        elif answers:
            raise UserError(f"{path} is missing, and {directory} has answers: restore it.")
        holder = KeyHolder(identity, authority, least, run, secret, answers)
        if secret is None:
            with files.atomic(path, "wb", private=True) as file:
                file.write(holder.secret)
        return holder

    def _answer(self, header: Header, payload: bytes) -> Payload:
        if header.phase == encrypted_rounds.PUBLIC_KEY:
            return contents.pack({"key": encrypted_rounds.to_json(self._holder.public)})
        if header.phase != encrypted_rounds.DECRYPT:
            raise EnvelopeError(f"a key holder has no phase {header.phase!r}.")
        if not 1 <= header.round <= self._config.run.rounds:
            raise EnvelopeError(f"round {header.round} is not in the plan, which has {self._config.run.rounds}.")
        threat, number = secure.threat_of(self._config), len(self._config.data.silos)
        return encrypted_rounds.answer_decrypt(
            self._holder, plans.digest(self._plan), header.round, threat, number, payload
        )
