"""Every architecture of every automatic class with random weights, as small as its configuration lets it be."""

from __future__ import annotations

import inspect

import numpy as np
import tensorflow as tf
import transformers

from tff_tx import models
from tff_tx.models.tracing.hugging_face import CONFIG_CLASSES, model_classes

TEXTS = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", "CausalLM", "Seq2SeqLM")
VOCABULARY, PAD, LENGTH = 60, 1, 7

_SIXTEEN = "hidden_size d_model dim n_embd embedding_size emb_dim d_embed word_embed_proj_dim true_hidden_size"
_TWO = "num_hidden_layers n_layers n_layer num_layers encoder_layers decoder_layers num_decoder_layers"
_HEADS = "num_attention_heads n_heads n_head num_heads encoder_attention_heads decoder_attention_heads"
_INNER = "intermediate_size hidden_dim d_ff ffn_dim d_inner dff encoder_ffn_dim decoder_ffn_dim n_inner"
_TINY = {
    **dict.fromkeys(_SIXTEEN.split(), 16),
    **dict.fromkeys([*_TWO.split(), *_HEADS.split()], 2),
    **dict.fromkeys(_INNER.split(), 32),
    **dict(vocab_size=VOCABULARY, pad_token_id=PAD, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2),
    **dict(num_key_value_heads=1, d_kv=8, d_head=8, rotary_dim=4, head_dim=8, bottleneck_size=8),
    **dict(max_position_embeddings=64, n_positions=64, n_ctx=64, rotary_value=False, intra_bottleneck_size=16),
}
_OWN = {
    "deberta": dict(relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "deberta-v2": dict(relative_attention=True, pos_att_type=["p2c", "c2p"], conv_kernel_size=3),
    "esm": dict(mask_token_id=3, position_embedding_type="rotary", token_dropout=True),
    "flaubert": dict(pad_index=PAD),
    "funnel": dict(block_sizes=[1, 1], num_decoder_layers=1),
    "layoutlmv3": dict(coordinate_size=2, shape_size=4, visual_embed=False),
    "led": dict(attention_window=4, max_encoder_position_embeddings=64, max_decoder_position_embeddings=64),
    "longformer": dict(attention_window=4),
    "mobilebert": dict(normalization_type="layer_norm"),
    "rembert": dict(input_embedding_size=16, output_embedding_size=16),
    "xlm": dict(pad_index=PAD),
}


_NOT_BUILT = {"transfo-xl"}  # which transformers has given up: it is rejected when it is built


def text_members() -> list[tuple[str, str]]:
    """Pairs of a head, such as "MaskedLM", and an architecture that has it."""
    found = []
    for head in TEXTS:
        classes = model_classes(getattr(transformers, f"TFAutoModelFor{head}"))
        found += [(head, c.model_type) for c in classes if not c.has_no_defaults_at_init]
    return sorted({pair for pair in found if pair[1] not in _NOT_BUILT})


def tiny(head: str, architecture: str):
    """The model, with no weight at its initial value."""
    config = CONFIG_CLASSES[architecture]()
    known = {*config.to_dict(), *config.attribute_map}
    attributes = {config.attribute_map.get(name, name): value for name, value in _TINY.items() if name in known}
    model = models.from_config(f"TFAutoModelFor{head}", architecture, {**attributes, **_OWN.get(architecture, {})})
    generator = np.random.default_rng(0)
    for variable in model.weights:
        if variable.dtype.is_floating:
            variable.assign_add(tf.cast(0.1 * generator.standard_normal(variable.shape), variable.dtype))
    return model


def outputs(model, rows, padding=0):
    """What the model predicts for rows of token ids, padded to the longest and some more."""
    length = max(map(len, rows)) + padding
    ids = np.full([len(rows), length], PAD, np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    batch = {"input_ids": tf.constant(ids), "attention_mask": tf.constant(mask)}
    if "decoder_input_ids" in inspect.signature(model.call).parameters and "ForSequence" not in type(model).__name__:
        batch |= {"decoder_input_ids": batch["input_ids"], "decoder_attention_mask": batch["attention_mask"]}
    found = model(batch, training=False)
    if hasattr(found, "start_logits"):
        return tf.stack([found.start_logits, found.end_logits], -1).numpy()
    return (found.logits if hasattr(found, "logits") else found[0]).numpy()


def dependence(model) -> float:
    """By how much predictions for a text differ between alone and in company, in units of the largest."""
    generator = np.random.default_rng(1)
    rows = [generator.integers(4, 50, length).tolist() for length in (LENGTH, LENGTH + 6, LENGTH - 3)]
    if "BartForSequence" in type(model).__name__:
        rows = [[*row, 2] for row in rows]
    together, worst = outputs(model, rows, padding=2), 0.0
    for i, row in enumerate(rows):
        alone = outputs(model, [row])[0]
        company = together[i]
        if company.ndim == 2:
            company = company[: len(row)]
        worst = max(worst, float(np.abs(company - alone).max() / np.abs(alone).max()))
    return worst
