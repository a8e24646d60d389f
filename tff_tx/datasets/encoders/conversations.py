"""Conversations of which a model learns the answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jinja2
import numpy as np
import pandas as pd

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.encoders.encoder import IGNORED_LABEL, NUMBERS, Encoder
from tff_tx.datasets.encoders.tokenizing import Tokenize, tokenizer_fingerprint

_ANSWER = "assistant"


class ConversationEncoder(Encoder):
    """Messages with roles in a record, one example each.

    Examples: `input_ids` int32 [None]; `labels` int32 [None], the same tokens where they are of an answer, with the end
    that the tokenizer's chat template or its eos token marks, and -100 elsewhere. A conversation is cut to
    `max_length`. Without a chat template messages are lines, and an answer ends with the eos token.

    Args:
      tokenizer: A Hugging Face tokenizer.
      max_length: The longest conversation, in tokens.
    """

    kind = "instruction_tuning"
    columns = ("messages",)

    def __init__(self, tokenizer, max_length: int):
        settings = [tokenizer_fingerprint(tokenizer), max_length, str(tokenizer.chat_template)]
        super().__init__((), settings, input_ids=NUMBERS, labels=NUMBERS)
        self._tokenizer, self._tokenize, self._max_length = tokenizer, Tokenize(tokenizer), max_length
        self._end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """The tokens that an answer to messages follows."""
        return self._ids(messages, True)

    def _ids(self, messages, answer_follows: bool) -> list[int]:
        if self._tokenizer.chat_template is not None:
            try:
                return list(self._tokenizer.apply_chat_template(list(messages), add_generation_prompt=answer_follows))
            except jinja2.TemplateError as error:  # as of a template that wants roles to alternate
                raise UserError(
                    f"the chat template of {setting('model.tokenizer')} rejects messages ({error}): correct these, "
                    "or choose another tokenizer."
                ) from error
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
            for number in (i for i, message in enumerate(messages) if message["role"] == _ANSWER):
                before, after = self._ids(messages[:number], True), self._ids(messages[: number + 1], False)
                if after[: len(before)] != before or ids[: len(after)] != after:
                    raise UserError(
                        f"{where}: the chat template of {setting('model.tokenizer')} writes a conversation otherwise "
                        "once it goes on, so that its answers cannot be told apart: use a template that appends only."
                    )
                labels[len(before) : len(after)] = after[len(before) :]
            labels = labels[: self._max_length]
            if not (labels[1:] != IGNORED_LABEL).any():
                raise UserError(
                    f"{where}: nothing of the answer is within {setting('task.max_length')}={self._max_length - 1} "
                    "tokens: raise it, or remove the row."
                )
            yield [{"input_ids": np.asarray(ids[: self._max_length], np.int32), "labels": labels}]
