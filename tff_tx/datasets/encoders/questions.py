"""From a question and the text that has its answer to examples: windows of tokens, and the span that answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tff_tx.core.errors import UserError, setting
from tff_tx.datasets.encoders.encoder import IGNORED_LABEL, NUMBERS, Encoder
from tff_tx.datasets.encoders.tokenizing import tokenizer_fingerprint


@dataclasses.dataclass(frozen=True)
class Window:
    """A question with a part of its context, in tokens.

    Attributes:
      pair: Which question, by its number.
      input_ids: int32 [length], special tokens included.
      token_type_ids: int32 [length], as the tokenizer tells question and context apart; zeros where it does not.
      offsets: int32 [length, 2], of a token of the context its first character there and the one behind its last;
        of all others -1.
      null: The position that stands for no answer, that of the token [CLS].
      covers: The characters of the context whose tokens are all here, the first and the one behind the last.
    """

    pair: int
    input_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    null: int
    covers: tuple[int, int]

    def span(self, first: int, behind: int) -> tuple[int, int] | None:
        """The first and the last token of characters of the context; None if they are not all here, or have none."""
        if first < self.covers[0] or behind > self.covers[1]:
            return None
        inside = np.flatnonzero(
            (self.offsets[:, 1] > first) & (self.offsets[:, 0] < behind) & (self.offsets[:, 0] >= 0)
        )
        return (int(inside[0]), int(inside[-1])) if len(inside) else None


class ContextWindows:
    """Cuts pairs of question and context into windows, as the program of Devlin et al. 2019 for SQuAD does.

    A context longer than fits beside its question comes in several windows that overlap. A question is cut to half of
    the room.

    Args:
      tokenizer: A fast Hugging Face tokenizer with a token [CLS], or another for `cls_token`.
      max_length: The longest window, in tokens, special tokens included.
      overlap: Tokens that two windows of a context share.

    Raises:
      UserError: If the tokenizer does not tell where its tokens stand in the text, or windows could not go on.
    """

    def __init__(self, tokenizer, max_length: int, overlap: int):
        name = type(tokenizer).__name__
        if not tokenizer.is_fast:
            raise UserError(
                f"{setting('model.tokenizer')}: {name} does not tell where its tokens stand in a text, which "
                "answers are found by; choose one with a tokenizer.json."
            )
        if tokenizer.cls_token_id is None:
            raise UserError(
                f"{setting('model.tokenizer')}: {name} has no token [CLS], which stands for no answer; choose that "
                "of a BERT-like model."
            )
        room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
        self._most_of_question = room // 2
        least = max(room - self._most_of_question, 0)
        if not 0 <= overlap < least:
            raise UserError(
                f"{setting('task.context_overlap')}={overlap} must be less than the {least} tokens of a context that "
                f"{setting('task.max_length')}={max_length} has room for beside a question; lower the one or raise "
                "the other."
            )
        self._tokenizer, self._max_length, self._overlap = tokenizer, max_length, overlap

    def __call__(self, questions: Sequence[str], contexts: Sequence[str]) -> Iterator[Window]:
        """The windows of all pairs in order."""
        encoded = self._tokenizer(
            [self._cut(question) for question in questions],
            list(contexts),
            truncation="only_second",
            max_length=self._max_length,
            stride=self._overlap,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
            verbose=False,
        )
        pairs = encoded["overflow_to_sample_mapping"]
        for number, pair in enumerate(pairs):
            ids = np.asarray(encoded["input_ids"][number], np.int32)
            of_context = np.array([part == 1 for part in encoded.sequence_ids(number)])
            offsets = np.asarray(encoded["offset_mapping"][number], np.int32)
            offsets = np.where(of_context[:, np.newaxis], offsets, -1)
            is_first, is_last = (not 0 <= n < len(pairs) or pairs[n] != pair for n in (number - 1, number + 1))
            there = offsets[of_context]
            yield Window(
                pair,
                ids,
                np.asarray(encoded["token_type_ids"][number], np.int32),
                offsets,
                int(np.flatnonzero(ids == self._tokenizer.cls_token_id)[0]),
                (0 if is_first else int(there[0, 0]), len(contexts[pair]) if is_last else int(there[-1, 1])),
            )

    def _cut(self, question: str) -> str:
        offsets = self._tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
            "offset_mapping"
        ]
        most = self._most_of_question
        return question if len(offsets) <= most else question[: offsets[most - 1][1]]


class QuestionAnsweringEncoder(Encoder):
    """A question, its context and its answers in a record: an example a window, see `ContextWindows`.

    Examples: `input_ids` and `token_type_ids` int32 [None], and of the same length `starts` and `ends`: 1 where the
    answer starts (ends), 0 where else it might, at the tokens of the context and at [CLS], and -100 elsewhere. A window
    that does not have the whole answer, and all of a question without an answer, has both at [CLS], as Devlin et al.
    2019 have it (section 4.3). Of several answers the first counts.

    Args:
      tokenizer: See `ContextWindows`.
      max_length: Likewise.
      overlap: Likewise.
    """

    kind = "question_answering"
    columns = ("question", "context", "answers")

    def __init__(self, tokenizer, max_length: int, overlap: int):
        features = dict.fromkeys(("input_ids", "token_type_ids", "starts", "ends"), NUMBERS)
        super().__init__((), [tokenizer_fingerprint(tokenizer), max_length, overlap], **features)
        self._windows = ContextWindows(tokenizer, max_length, overlap)

    def _encode_rows(self, rows: pd.DataFrame) -> Iterator[list[dict]]:
        spans = [self._characters(row) for row in rows.itertuples()]
        examples: list[list] = [[] for _ in spans]
        for window in self._windows(rows["question"].tolist(), rows["context"].tolist()):
            examples[window.pair].append(self._example(window, spans[window.pair]))
        return iter(examples)

    @staticmethod
    def _characters(row) -> tuple[int, int] | None:
        """The characters of the answer, the first and the one behind the last; None if there is none."""
        if not row.answers:
            return None
        text, start = row.answers[0]
        found = row.context[start : start + len(text)]
        if found != text or not text.strip():
            raise UserError(
                f"{row.where}: the answer {text!r} does not stand at character {start} of the context, where "
                f"{found!r} does; correct {setting('data.answer_start_column')} (counted from 0) or remove the row."
            )
        return start + len(text) - len(text.lstrip()), start + len(text.rstrip())

    @staticmethod
    def _example(window: Window, characters: tuple[int, int] | None) -> dict:
        span = None if characters is None else window.span(*characters)
        example = {"input_ids": window.input_ids, "token_type_ids": window.token_type_ids}
        for name, position in zip(("starts", "ends"), span or (window.null, window.null)):
            labels = np.where(window.offsets[:, 0] >= 0, 0, IGNORED_LABEL).astype(np.int32)
            labels[window.null], labels[position] = 0, 1
            example[name] = labels
        return example
