"""Conversations in any form: the loss is on the answers alone, and what is generated follows the same prompt."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import transformers

from tff_tx import datasets, inference, models, tasks
from tff_tx.config.algorithm import ClientConfig
from tff_tx.core.errors import UserError
from tff_tx.inference.predictor import stacked
from tff_tx.models.tracing.keras_function import KerasFunction

EXPECTED = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
ROWS = {
    "chat": {"messages": EXPECTED},
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
    "sharegpt of another": {"conversations": [{"from": "user", "value": "Hi"}, {"from": "bing", "value": "Ho"}]},
    "alpaca": {"instruction": "Hi", "input": "", "output": "Ho"},
    "dolly": {"instruction": "Hi", "context": "", "response": "Ho", "category": "open_qa"},
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
    ("row", "num_messages"),
    [
        *((row, 2) for row in ROWS.values()),
        ({"messages": EXPECTED[:1]}, 1),
        ({"instruction": "Hi", "input": "", "text": "Below is an instruction: Hi"}, 1),
        ({"instruction": "Hi", "context": ""}, 1),
        ({"prompt": "Hi", "completion": ""}, 1),
        ({"text": "Hi"}, 1),
    ],
)
def test_prompts_are_read_with_and_without_their_answers(row, num_messages, tmp_path):
    (chunk,) = datasets.read_records(spec(tmp_path, row), "prompt")
    assert chunk["prompt"].tolist() == [EXPECTED[:num_messages]]
    named = dataclasses.replace(spec(tmp_path, {"ask": "Hi", "prompt": "Hello"}), text_column=("ask",))
    assert next(datasets.read_records(named, "prompt"))["prompt"].tolist() == [EXPECTED[:1]]
    with pytest.raises(UserError, match=r"x.jsonl, line 1: the row has no message: give it `messages`"):
        list(datasets.read_records(spec(tmp_path, {"a": 1}), "prompt"))


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


@pytest.mark.parametrize("kind", [datasets.ConversationEncoder, datasets.AnswerEncoder])
def test_a_greeting_before_all_questions_is_no_answer(kind, tmp_path):
    """As many conversations of assistants begin: chat templates write no prompt of no messages."""
    tokenizer = models.load_tokenizer("bytes")
    tokenizer.chat_template = TEMPLATE
    greeting = {"from": "gpt", "value": "Hello"}
    rows = spec(tmp_path, {"conversations": [greeting, *ROWS["sharegpt"]["conversations"]]})
    (chunk,) = datasets.read_records(rows, "messages")
    encoder = kind(tokenizer, 100, *([100] if kind is datasets.AnswerEncoder else []))
    (example,) = encoder.encode(chunk)
    learned = example["labels"][example["labels"] != models.IGNORED]
    assert tokenizer.decode(learned, skip_special_tokens=True).strip(";") == "Ho"
    assert tokenizer.decode(example["input_ids"]).startswith("<a>Hello;<u>Hi;<a>")
    assert len(encoder.prompt([])) == 0, "in evaluation, of which the answer to nothing is empty"
    (chunk,) = datasets.read_records(spec(tmp_path, {"conversations": [greeting]}), "messages")
    with pytest.raises(UserError, match="x.jsonl, line 1: the only answer is the first message, before which the chat"):
        encoder.encode(chunk)


def test_a_conversation_of_blanks_that_give_no_token_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(tmp_path / "vocab.txt"))
    blanks = [{"role": "user", "content": " "}, {"role": "assistant", "content": " "}]
    rows = pd.DataFrame({"messages": [blanks], "where": ["x.jsonl, line 1"]})
    with pytest.raises(UserError, match="x.jsonl, line 1: nothing of the answer"):
        datasets.ConversationEncoder(tokenizer, 8).encode(rows)


def test_a_decoder_is_given_what_was_said_before_and_learns_each_answer(tmp_path):
    tokenizer = models.load_tokenizer("bytes")
    turns = [*EXPECTED, {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    (chunk,) = datasets.read_records(spec(tmp_path, {"messages": turns}, ROWS["alpaca"]), "messages")
    for template, before in ((None, ["Hi", "Hi\nHo\n?", "Hi"]), (TEMPLATE, ["<u>Hi;<a>", "<u>Hi;<a>Ho;<u>?;<a>"])):
        tokenizer.chat_template = template
        examples = datasets.AnswerEncoder(tokenizer, 100, 10).encode(chunk)
        assert [tokenizer.decode(e["input_ids"]) for e in examples][: len(before)] == [f"{t}</s>" for t in before]
        assert [tokenizer.decode(e["labels"]) for e in examples] == ["Ho</s>", "!</s>", "Ho</s>"]
    tokenizer.chat_template = None
    cut = [tokenizer.decode(e["input_ids"]) for e in datasets.AnswerEncoder(tokenizer, 3, 10).encode(chunk)]
    assert cut == ["Hi</s>", "\n?</s>", "Hi</s>"], "the last question stays"


GPT = {"n_embd": 8, "n_layer": 2, "n_head": 2}
LLAMA = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
PACKED = {
    "gpt2": GPT,
    "openai-gpt": GPT,
    "gptj": {**GPT, "rotary_dim": 2},
    "xglm": {"d_model": 8, "num_layers": 2, "attention_heads": 2, "ffn_dim": 8},
    "mistral": {**LLAMA, "intermediate_size": 8},
    "llama": {**LLAMA, "intermediate_size": 8},
}


@pytest.mark.parametrize("architecture", models.PACKABLE)
def test_packed_conversations_have_the_loss_of_single_ones(architecture, tmp_path):
    rows = [{"prompt": "ab" * n, "answer": "cd" * n} for n in (1, 3, 2, 4, 1, 2)]
    (chunk,) = datasets.read_records(spec(tmp_path, *rows), "messages")
    tokenizer, task = models.load_tokenizer("bytes"), tasks.task_kind("instruction_tuning")
    config = {"vocab_size": len(tokenizer), **PACKED[architecture]}
    function = KerasFunction(models.from_config(task.auto_class, architecture, config))
    weights = [4 * v for v in function.variables]  # so that attention matters
    recipe, found = task.recipe(tokenizer, 0, function.model.config), []
    for packed in (False, True):
        examples = datasets.ConversationEncoder(tokenizer, 33, packed).encode(chunk)
        batch = {name: stacked([e[name] for e in examples], recipe.pads[name]) for name in examples[0]}
        x, y = recipe.batch(batch, None)
        logits = function(weights, x, training=False).logits
        loss = models.language_modeling("").loss_fn(logits, tf.constant(y))
        found.append((len(examples), np.count_nonzero(y != models.IGNORED), float(loss)))
    assert found[1][0] < found[0][0] == len(rows)
    assert found[1][1] == found[0][1]
    assert found[1][2] == pytest.approx(found[0][2], abs=1e-5)


def test_architectures_that_do_not_keep_texts_apart_are_refused(tmp_path):
    model = tasks.ModelSpec(architecture="opt", tokenizer="bytes", packing=True)
    with pytest.raises(UserError, match="task.packing: a opt model does not keep the texts of an example apart"):
        tasks.create_task("instruction_tuning", spec(tmp_path, ROWS["chat"]), model, ClientConfig(), progress=False)


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
    said = [[{"role": "assistant", "content": "b"}], [{"role": "user", "content": "a"}] * 2]
    only_answer, _ = predictor.score(pd.DataFrame({"messages": said}))["rouge_1"]
    assert only_answer == 0, "nothing was asked"
    scores = predictor.score_split("train")
    assert {"client", *(metric.name for metric in task.definition.score_metrics)} == set(scores.columns)
    assert len(list(predictor.predict(["aaaa"]))) == 1


@pytest.mark.slow
def test_packed_conversations_train_as_single_ones(tmp_path):
    """All of a client in a batch, whose gradient is the same; blocks are recomputed."""
    data, found = spec(tmp_path, *[{"prompt": "ab" * n, "answer": "cd" * n} for n in (1, 3, 2, 4, 1, 2)]), []
    for packing in (False, True):
        model = tasks.ModelSpec(
            architecture="gpt2",
            config={**GPT, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0},
            **dict(tokenizer="bytes", max_length=32, packing=packing, gradient_checkpointing=packing),
        )
        task = tasks.create_task("instruction_tuning", data, model, ClientConfig(batch_size=8), progress=False)
        ((x, y),) = task.eval_batches_fn(task.train)(task.train.client_ids[0])
        weights = [tf.constant(w) for w in task.model.initial_weights[0]]

        @tf.function(autograph=False)
        def gradient(x, y, task=task, weights=weights):
            with tf.GradientTape() as tape:
                tape.watch(weights)
                logits = task.model.predict_on_batch((weights, task.model.initial_weights[1]), x, training=True)
                loss = task.model.objective.loss_fn(logits, y)
            return tape.gradient(loss, weights)

        found.append([tf.convert_to_tensor(g).numpy() for g in gradient(x, y)])
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.slow
def test_models_with_a_decoder_learn_and_generate_answers(tmp_path):
    data = spec(tmp_path, *[{"prompt": "aaaaaaaaaaaa", "answer": "b" * n} for n in (1, 4)])
    config = {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_layers": 1, "num_heads": 2}
    lengths = {"max_length": 8, "max_target_length": 6}
    model = tasks.ModelSpec(architecture="t5", config=config, tokenizer="bytes", **lengths)
    task = tasks.create_task("instruction_tuning", data, model, ClientConfig(), progress=False)
    ((x, y),) = task.eval_batches_fn(task.train)(task.train.client_ids[0])
    assert x["input_ids"].shape == (2, 8)
    assert int(np.sum(y != models.IGNORED)) == 2 + 5, "each answer has an end"
    predictor = inference.build_predictor(
        "instruction_tuning", task.model.keras_model, model, data=data, tokenizer=task.tokenizer
    )
    scores = predictor.score_split("train")
    assert {"client", *(metric.name for metric in task.definition.score_metrics)} == set(scores.columns)
    (found,) = predictor.predict(["aaaa"])
    assert set(found) == {"text", "answer"}
    bart = tasks.ModelSpec(architecture="bart", tokenizer="bytes", config={"max_position_embeddings": 5}, **lengths)
    with pytest.raises(UserError, match="task.max_target_length=6 is more than the 5 positions"):
        tasks.create_task("instruction_tuning", data, bart, ClientConfig(), progress=False)


def _softmax(model, weights, x):
    logits = model.predict_on_batch(weights, x, training=False).numpy().astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_messages_that_a_chat_template_rejects_are_a_sentence():
    tokenizer = models.load_tokenizer("bytes")
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match=r"rejects messages \(roles must alternate\): correct these"):
        datasets.ConversationEncoder(tokenizer, 100).prompt([{"role": "user", "content": "?"}])
