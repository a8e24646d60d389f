"""Conversations in any form: the loss is on the answers alone, and what is generated follows the same prompt."""

import json

import numpy as np
import pytest
import tensorflow_federated as tff

from tff_tx import datasets, inference, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError

EXPECTED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
ROWS = {
    "chat": {"messages": EXPECTED},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Ho"},
    "columns": {"text": "Hi", "target": "Ho"},
    "names": {"prompt": "Hi", "completion": "Ho"},
}
TEMPLATE = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }};{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


def spec(tmp_path, *rows):
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return datasets.DataSpec(
        "file", files=(str(tmp_path / "x.jsonl"),), num_clients=1, test_fraction=0.0, cache_dir=str(tmp_path)
    )


@pytest.mark.parametrize("form", ROWS)
def test_conversations_are_read_in_any_form(form, tmp_path):
    (chunk,) = datasets.read_records(spec(tmp_path, ROWS[form]), "messages")
    assert chunk["messages"].tolist() == [EXPECTED]


@pytest.mark.parametrize(
    "row", [{"messages": EXPECTED[:1]}, {"messages": ["Hi", "Ho"]}, {"a": 1}, {"prompt": "x", "answer": ""}]
)
def test_what_is_no_conversation_is_refused(row, tmp_path):
    with pytest.raises(UserError, match=r"x.jsonl, line 2: the row is no conversation whose last message is an answer"):
        list(datasets.read_records(spec(tmp_path, ROWS["chat"], row), "messages"))


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_labels_are_the_tokens_of_answers_with_their_end(template, tmp_path):
    tokenizer = models.load_tokenizer("bytes")
    tokenizer.chat_template = template
    encoder = datasets.ConversationEncoder(tokenizer, 100)
    rows = spec(tmp_path, {"messages": [*EXPECTED, {"role": "user", "content": "?"}, EXPECTED[1]]})
    (chunk,) = datasets.read_records(rows, "messages")
    (example,) = encoder.encode(chunk)
    answered = example["labels"] != models.IGNORED
    np.testing.assert_array_equal(example["labels"][answered], example["input_ids"][answered])
    end = ";" if template else tokenizer.eos_token
    assert tokenizer.decode(example["labels"][answered]) == f"Ho{end}" * 2
    prompt = encoder.prompt(chunk["messages"][0][:-1])
    assert example["input_ids"][: len(prompt)].tolist() == prompt
    assert answered[len(prompt) :].all()
    with pytest.raises(UserError, match="x.jsonl, line 1: nothing of the answer is within task.max_length=2"):
        datasets.ConversationEncoder(tokenizer, 3).encode(chunk)


@pytest.mark.slow
def test_the_loss_is_on_answers_and_evaluation_generates_them(tmp_path):
    data = spec(tmp_path, *[{"prompt": "aaaaaaaaaaaa", "answer": "b" * n} for n in (1, 4)])
    config = {"n_embd": 8, "n_layer": 1, "n_head": 2}
    model = tasks.ModelSpec(architecture="gpt2", config=config, tokenizer="bytes", max_length=24)
    task = tasks.create_task("instruction_tuning", data, model, ClientConfig(), progress=False)
    weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
    ((x, y),) = task.eval_batches_fn(task.train)(task.train.client_ids[0])
    assert int(np.sum(y != models.IGNORED)) == 2 + 5, "each answer has an end"
    losses = -np.log(np.take_along_axis(_softmax(task.model, weights, x), np.maximum(y, 0)[..., None], -1))[..., 0]
    found = task.model.objective.loss_fn(task.model.predict_on_batch(weights, x, training=False), y)
    assert float(found) == pytest.approx(float(losses[y != models.IGNORED].mean()), rel=1e-4)
    predictor = inference.build_predictor(
        "instruction_tuning", task.model.keras_model, model, data=data, tokenizer=task.tokenizer, max_new_tokens=3
    )
    scores = predictor.score_split("train")
    assert {"client", *(metric.name for metric in task.definition.score_metrics)} == set(scores.columns)
    assert len(list(predictor.predict(["aaaa"]))) == 1


def _softmax(model, weights, x):
    logits = model.predict_on_batch(weights, x, training=False).numpy().astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_messages_that_a_chat_template_rejects_are_a_sentence():
    tokenizer = models.load_tokenizer("bytes")
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match=r"rejects messages \(roles must alternate\): correct these"):
        datasets.ConversationEncoder(tokenizer, 100).prompt([{"role": "user", "content": "?"}])
