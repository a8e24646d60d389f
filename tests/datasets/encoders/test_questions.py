"""Questions and contexts as windows, against the characters they came from."""

import numpy as np
import pandas as pd
import pytest

from tff_tx import datasets
from tff_tx.core.errors import UserError

QUESTION = "Which disease is named?"
CONTEXT = "Mutations of APC cause adenomatous polyposis coli (APC), a disease of the colon; naïve café."
ANSWER = "adenomatous polyposis coli"


def rows(answers, context=CONTEXT, question=QUESTION):
    return pd.DataFrame(
        {"question": [question], "context": [context], "answers": [answers], "where": ["f.csv, line 2"]}
    )


def at(text, context=CONTEXT):
    return [(text, context.index(text))]


def chosen(example):
    return int(np.flatnonzero(example["starts"] == 1)[0]), int(np.flatnonzero(example["ends"] == 1)[0])


@pytest.mark.parametrize("answer", [ANSWER, "Mutations", "café.", "APC)", "naïve", "disease of the"])
def test_the_span_reads_as_the_answer(minilm, answer):
    (found,) = datasets.QuestionAnsweringEncoder(minilm, 64, 8).encode(rows(at(answer)))
    expected = minilm(QUESTION, CONTEXT)
    assert found["input_ids"].tolist() == expected["input_ids"]
    assert found["token_type_ids"].tolist() == expected["token_type_ids"]
    first, last = chosen(found)
    pieces = minilm.convert_ids_to_tokens(found["input_ids"][first : last + 1])
    assert pieces == minilm.tokenize(answer)
    for name in ("starts", "ends"):
        possible = found[name] != datasets.IGNORED_LABEL
        of_context = np.array([part == 1 for part in expected.sequence_ids()])
        of_context[0] = True  # [CLS]
        np.testing.assert_array_equal(possible, of_context)
        assert found[name][possible].sum() == 1


def test_blanks_around_an_answer_do_not_count(minilm):
    (found,) = datasets.QuestionAnsweringEncoder(minilm, 64, 8).encode(rows(at(f" {ANSWER} ")))
    first, last = chosen(found)
    assert minilm.decode(found["input_ids"][first : last + 1]) == ANSWER


def test_without_an_answer_both_are_at_cls(minilm):
    (found,) = datasets.QuestionAnsweringEncoder(minilm, 64, 8).encode(rows([]))
    assert chosen(found) == (0, 0)


def test_of_several_answers_the_first_counts(minilm):
    (found,) = datasets.QuestionAnsweringEncoder(minilm, 64, 8).encode(rows([*at("colon"), *at(ANSWER)]))
    assert minilm.decode(found["input_ids"][chosen(found)[0]]) == "colon"


def test_a_long_context_comes_in_windows_that_overlap(minilm):
    words = [f"{a}{b}" for a in "bcdfghjklm" for b in "aeiou"]
    context = " ".join(words)
    answer = at("fa fe", context)
    windows = list(datasets.ContextWindows(minilm, 30, 10)([QUESTION], [context]))
    found = datasets.QuestionAnsweringEncoder(minilm, 30, 10).encode(rows(answer, context))
    assert len(windows) == len(found) > 2
    # All characters but blanks are in some window, and neighbours share ten tokens.
    seen = np.zeros(len(context), bool)
    for window in windows:
        assert len(window.input_ids) <= 30
        for first, behind in window.offsets[window.offsets[:, 0] >= 0]:
            seen[first:behind] = True
    assert "".join(c for c, is_seen in zip(context, seen) if not is_seen).strip() == ""
    for before, after in zip(windows, windows[1:]):
        of_context = [w.offsets[w.offsets[:, 0] >= 0] for w in (before, after)]
        assert of_context[0][-10:].tolist() == of_context[1][:10].tolist()
    # The label is the answer where the window has all of it, and [CLS] elsewhere.
    labelled = 0
    for window, example in zip(windows, found):
        first, last = chosen(example)
        text = context[window.offsets[first, 0] : window.offsets[last, 1]]
        start = answer[0][1]
        characters = window.offsets[window.offsets[:, 0] >= 0]
        if characters[0, 0] <= start and start + len(answer[0][0]) <= characters[-1, 1]:
            labelled += 1
            assert text == answer[0][0]
        else:
            assert (first, last) == (0, 0)
    assert 1 <= labelled < len(windows)


def test_a_long_question_is_cut_to_half_of_the_room(minilm):
    (window, *_) = datasets.ContextWindows(minilm, 23, 4)(["why " * 50], [CONTEXT])
    assert (window.input_ids == minilm.convert_tokens_to_ids("why")).sum() == 10
    assert len(window.input_ids) == 23


def test_an_empty_context_is_one_window(minilm):
    (window,) = datasets.ContextWindows(minilm, 23, 4)(["why"], [""])
    assert (window.offsets == -1).all()


def test_many_pairs_at_once_are_as_each_alone(minilm):
    make = datasets.ContextWindows(minilm, 32, 8)
    questions, contexts = [QUESTION, "why?"], [CONTEXT, "because"]
    together = list(make(questions, contexts))
    alone = [w for q, c in zip(questions, contexts) for w in make([q], [c])]
    assert [w.pair for w in together] == [0] * (len(together) - 1) + [1]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a.input_ids, b.input_ids)
        np.testing.assert_array_equal(a.offsets, b.offsets)
        assert a.covers == b.covers


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([("colon", 3)], r"f\.csv, line 2: the answer 'colon' does not stand at character 3 .* where 'ation' does"),
        ([("  ", CONTEXT.index(" "))], "the answer '  ' does not stand"),
    ],
)
def test_an_answer_that_is_not_there_is_refused(minilm, answers, told):
    with pytest.raises(UserError, match=told):
        datasets.QuestionAnsweringEncoder(minilm, 64, 8).encode(rows(answers))


def test_what_windows_cannot_be_made_with_is_refused(minilm, byte_tokenizer):
    with pytest.raises(UserError, match=r"model\.tokenizer: ByT5Tokenizer does not tell where its tokens stand"):
        datasets.QuestionAnsweringEncoder(byte_tokenizer, 64, 8)
    with pytest.raises(
        UserError, match=r"task\.context_overlap=31 must be less than the 31 tokens .* task\.max_length=64"
    ):
        datasets.QuestionAnsweringEncoder(minilm, 64, 31)
    datasets.QuestionAnsweringEncoder(minilm, 64, 30)
