"""Conversations of which a model learns the answers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import jinja2
import numpy as np
import pandas as pd

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.encoders.encoder import IGNORED_LABEL, NUMBERS, Encoder, Stream
from tff_tx.datasets.encoders.texts import SequenceToSequenceEncoder
from tff_tx.datasets.encoders.tokenizing import Tokenize, tokenizer_fingerprint

_ANSWER = "assistant"


class _PackStream(Stream):
    """Joins the examples of an owner, in their order, as long as they fit."""

    def add(self, owners, rows):
        for owner, example in super().add(owners, rows):
            pack = self._rest.get(owner, {})
            if pack and len(pack["labels"]) + len(example["labels"]) > self._encoder.max_length:
                yield owner, pack
                pack = {}
            joined = {name: np.concatenate([pack[name], example[name]]) for name in pack}
            self._rest[owner] = joined or example

    def finish(self):
        yield from self._rest.items()


class ConversationEncoder(Encoder):
    """Messages with roles in a record, one example each, or packed.

    Examples: `input_ids` int32 [None]; `labels` int32 [None], the same tokens where they are of an answer, with the end
    that the tokenizer's chat template or its eos token marks, and -100 elsewhere. A conversation is cut to
    `max_length`. Without a chat template messages are lines, and an answer ends with the eos token; with one, a
    greeting that nothing comes before is no answer. An example that is packed has several conversations of a client,
    and also `position_ids` int32 [None], which begin at 0 with each.

    Args:
      tokenizer: A Hugging Face tokenizer.
      max_length: The longest example, in tokens.
      packed: Whether conversations are packed into examples.
    """

    kind = "instruction_tuning"
    columns = ("messages",)

    def __init__(self, tokenizer, max_length: int, packed: bool = False):
        settings = [tokenizer_fingerprint(tokenizer), max_length, str(tokenizer.chat_template)]
        features = {"position_ids": NUMBERS} if packed else {}
        super().__init__((), [*settings, *features], input_ids=NUMBERS, labels=NUMBERS, **features)
        self._tokenizer, self._tokenize, self.max_length = tokenizer, Tokenize(tokenizer), max_length
        self._packed = packed
        self.stream_class = _PackStream if packed else Stream
        self._end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The tokens that an answer to messages follows."""
        return self._ids(messages, True)

    def _ids(self, messages, answer_follows: bool) -> list[int]:
        if self._tokenizer.chat_template is not None:
            return list(from_template(self._tokenizer, messages, add_generation_prompt=answer_follows))
        found: list[int] = []
        for message, ids in zip(messages, self._tokenize.plain([f"{m['content']}\n" for m in messages])):
            if message["role"] == _ANSWER:
                (ids,) = self._tokenize.plain([message["content"]])
            found += [*ids.tolist(), *(self._end if message["role"] == _ANSWER else [])]
        return found

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        for messages, where in zip(rows["messages"], rows["where"]):
            ids = self._ids(messages, False)
            labels = np.full(len(ids), IGNORED_LABEL, np.int32)
            for number in _answers(self._tokenizer, messages, where):
                before, after = self._ids(messages[:number], True), self._ids(messages[: number + 1], False)
                if after[: len(before)] != before or ids[: len(after)] != after:
                    raise UserError(
                        f"{where}: the chat template of {setting('model.tokenizer')} writes a conversation otherwise "
                        "once it goes on, so that its answers cannot be told apart: use a template that appends only."
                    )
                labels[len(before) : len(after)] = after[len(before) :]
            labels = labels[: self.max_length]
            labels[:1] = IGNORED_LABEL  # which nothing comes before; blanks may give no token at all
            if not (labels[1:] != IGNORED_LABEL).any():
                raise UserError(
                    f"{where}: nothing of the answer is within {setting('task.max_length')}={self.max_length - 1} "
                    "tokens: raise it, or remove the row."
                )
            example = {"input_ids": np.asarray(ids[: self.max_length], np.int32), "labels": labels}
            positions = {"position_ids": np.arange(len(labels), dtype=np.int32)} if self._packed else {}
            yield [{**example, **positions}]


class AnswerEncoder(SequenceToSequenceEncoder):
    """Messages with roles in a record, for models with a decoder of its own: an example an answer.

    Examples are as of `SequenceToSequenceEncoder`: the text is what was said before, as the tokenizer's chat template
    writes it or in lines, cut at its beginning; the target is the answer.

    Args:
      tokenizer: See `SequenceToSequenceEncoder`, likewise `max_length` and `max_target_length`.
      max_length: Likewise.
      max_target_length: Likewise.

    Attributes:
      tokenizer: A copy that cuts texts at their beginning.
    """

    kind = "instruction_tuning"
    columns = ("messages",)

    def __init__(self, tokenizer, max_length: int, max_target_length: int):
        self.tokenizer = copy.deepcopy(tokenizer)
        self.tokenizer.truncation_side = "left"
        super().__init__(self.tokenizer, max_length, max_target_length)
        self._settings.append(str(tokenizer.chat_template))

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """The text that an answer to messages is made of."""
        if self.tokenizer.chat_template is None:
            return "\n".join(message["content"] for message in messages)
        return from_template(self.tokenizer, messages, add_generation_prompt=True, tokenize=False)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        pairs, counts = [], []
        for messages, where in zip(rows["messages"], rows["where"]):
            answers = _answers(self.tokenizer, messages, where)
            pairs += [(self.prompt(messages[:number]), messages[number]["content"], where) for number in answers]
            counts.append(len(answers))
        examples = super()._encode_rows(pd.DataFrame(pairs, columns=["text", "target", "where"]))
        for count in counts:
            yield [example for (example,) in itertools.islice(examples, count)]


def _answers(tokenizer, messages: Sequence[dict[str, str]], where: str) -> list[int]:
    """Numbers of the messages that are learned.

    With a chat template these are not a greeting that a conversation begins with: templates write no prompt of nothing.

    Raises:
      UserError: If there is none.
    """
    found = [number for number, message in enumerate(messages) if message["role"] == _ANSWER]
    if tokenizer.chat_template is not None and found == [0]:
        raise UserError(
            f"{where}: the only answer is the first message, before which the chat template of "
            f"{setting('model.tokenizer')} writes nothing: give the message that it answers, or remove the row."
        )
    return found if tokenizer.chat_template is None else [number for number in found if number]


def from_template(tokenizer, messages: Sequence[dict[str, str]], tokenize: bool = True, **options):
    """What a tokenizer's chat template makes of messages; of none, nothing.

    Raises:
      UserError: If it rejects them, as one that wants roles to alternate.
    """
    if not messages:  # which transformers looks at the first of
        return [] if tokenize else ""
    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=tokenize, **options)
    except jinja2.TemplateError as error:
        raise UserError(
            f"the chat template of {setting('model.tokenizer')} rejects messages ({error}): correct these, "
            "or choose another tokenizer."
        ) from error
