"""The flags that say what is learned with which model; `model_spec` and `task_kind` read them."""

from __future__ import annotations

import json

from absl import flags

from tff_tx.config.registries import TASKS
from tff_tx.core.errors import UserError
from tff_tx.tasks import ModelSpec

FLAGS = flags.FLAGS

flags.DEFINE_enum("task", None, list(TASKS), "What is learned; default: what suits an embedded data set.")
flags.DEFINE_string("pretrained", None, "Model directory or hub id to start from.")
flags.DEFINE_string("architecture", None, "Hugging Face model type, such as bert, for a model with random weights.")
flags.DEFINE_string("model_config", None, 'Fields of the model\'s configuration, as JSON: {"hidden_size": 128}.')
flags.DEFINE_string("tokenizer", None, "Model directory, hub id or bytes; default: the tokenizer of --pretrained.")
flags.DEFINE_integer("max_length", 64, "Tokens or items an example, at most.", lower_bound=2)
flags.DEFINE_integer("max_target_length", 32, "Tokens of the target of a text, at most.", lower_bound=2)
flags.DEFINE_integer(
    "context_overlap", 16, "Tokens that two windows of a context share that is too long for one.", lower_bound=0
)
flags.DEFINE_integer("max_answer_length", 30, "Tokens of an answer, at most.", lower_bound=1)
flags.DEFINE_boolean(
    "gradient_checkpointing",
    False,
    "Keeps of each Transformer block only what goes into it, and computes it again for the gradients: less memory, "
    "a third more time, the same numbers.",
)
flags.DEFINE_boolean(
    "standardize",
    True,
    "Standardizes the numbers of tables with means and deviations over all training clients, added up from their sums.",
)
flags.DEFINE_integer("context_length", 12, "Steps of a series that a forecast is made from.", lower_bound=1)
flags.DEFINE_list(
    "horizons", ["3", "6", "12"], "Up to which steps forecasts are evaluated; the largest is how far they go."
)

_DEFAULTS = {
    "stdlib": {
        "task": "causal_lm",
        "architecture": "gpt2",
        "tokenizer": "bytes",
        "model_config": {
            "n_embd": 128,
            "n_layer": 2,
            "n_head": 4,
            "activation_function": "gelu",
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
    },
    "digits": {
        "task": "image_classification",
        "architecture": "vit",
        "model_config": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "patch_size": 2,
            "initializer_range": 0.1,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
    },
    "breast_cancer": {
        "task": "tabular_classification",
        "architecture": "ft_transformer",
        "model_config": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    },
}
"""What an embedded data set is trained with where flags do not say."""


def task_kind() -> str:
    """The task.

    Raises:
        UserError: If it is neither set nor known from the data set.
    """
    kind = FLAGS.task or _DEFAULTS.get(FLAGS.dataset, {}).get("task")
    if kind is None:
        raise UserError(f"--dataset={FLAGS.dataset} needs --task, one of {', '.join(TASKS)}.")
    return kind


def model_spec() -> ModelSpec:
    """The model.

    Raises:
        UserError: If --model_config is no JSON object, or no model is named.
    """
    defaults = _DEFAULTS.get(FLAGS.dataset, {})
    if FLAGS.task not in (None, defaults.get("task")):
        defaults = {}
    architecture, config = FLAGS.architecture, _config()
    if FLAGS.pretrained is None and architecture is None:
        architecture = defaults.get("architecture")
        config = {**defaults.get("model_config", {}), **config}
    if FLAGS.pretrained is None and architecture is None:
        raise UserError(
            "no model is named: set --pretrained to a checkpoint, or --architecture to the type of a "
            "model with random weights."
        )
    return ModelSpec(
        pretrained=FLAGS.pretrained,
        architecture=architecture,
        config=config,
        tokenizer=FLAGS.tokenizer or (None if FLAGS.pretrained else defaults.get("tokenizer")),
        max_length=FLAGS.max_length,
        max_target_length=FLAGS.max_target_length,
        context_overlap=FLAGS.context_overlap,
        max_answer_length=FLAGS.max_answer_length,
        standardize=FLAGS.standardize,
        context_length=FLAGS.context_length,
        horizons=horizons(),
        gradient_checkpointing=FLAGS.gradient_checkpointing,
    )


def horizons() -> tuple:
    """How far ahead forecasts are evaluated, in steps.

    Raises:
        UserError: If it is no list of whole numbers.
    """
    try:
        return tuple(int(horizon) for horizon in FLAGS.horizons)
    except ValueError:
        raise UserError(
            f"--horizons={','.join(FLAGS.horizons)} is no list of whole numbers: give for instance 3,6,12."
        ) from None


def _config():
    if not FLAGS.model_config:
        return {}
    try:
        config = json.loads(FLAGS.model_config)
    except ValueError as error:
        raise UserError(f"--model_config={FLAGS.model_config} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise UserError(f'--model_config={FLAGS.model_config} is not a JSON object such as {{"hidden_size": 128}}.')
    return config
