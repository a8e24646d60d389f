"""Models of the Llama family, of which transformers has Mistral alone in TensorFlow: the same layers, other settings.

Touvron et al. 2023, "Llama 2", https://arxiv.org/abs/2307.09288, section 2.2, with grouped-query attention and rotary
positions; Jiang et al. 2023, "Mistral 7B", https://arxiv.org/abs/2310.06825, adds a sliding window to it, which texts
within the window do not notice. A checkpoint with anything that these layers do not compute is rejected.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras
import transformers

from tff_tx.core.errors import UserError


class _TiedHead(tf_keras.layers.Layer):
    """Logits by the embeddings of tokens.

    Args:
      embeddings: Gives them, as a tensor or a variable [tokens, size].
    """

    def __init__(self, embeddings, **kwargs):
        super().__init__(**kwargs)
        self._embeddings = embeddings

    def call(self, inputs):
        return tf.matmul(inputs, self._embeddings(), transpose_b=True)


class _Member:
    """A model whose configuration these layers compute exactly."""

    def __init__(self, config, *inputs, **kwargs):
        check_family(config)
        # Where transformers 5 has it.
        config.rope_theta = (getattr(config, "rope_parameters", None) or {}).get("rope_theta", config.rope_theta)
        super().__init__(config, *inputs, **kwargs)
        if config.tie_word_embeddings and hasattr(self, "lm_head"):
            embeddings = self.model.embed_tokens
            self.lm_head = _TiedHead(lambda: embeddings.embeddings, name="lm_head")


class TFMistralForCausalLM(_Member, transformers.TFMistralForCausalLM):
    """A language model, whose logits are made by weights of their own or by the embeddings."""


class TFMistralForSequenceClassification(_Member, transformers.TFMistralForSequenceClassification):
    """A classifier by the last token."""


class TFLlamaForCausalLM(TFMistralForCausalLM):
    """As `TFMistralForCausalLM`."""

    config_class = transformers.LlamaConfig


class TFLlamaForSequenceClassification(TFMistralForSequenceClassification):
    """As `TFMistralForSequenceClassification`."""

    config_class = transformers.LlamaConfig


for _model in (TFMistralForCausalLM, TFLlamaForCausalLM):
    transformers.TFAutoModelForCausalLM.register(_model.config_class, _model, exist_ok=True)
for _model in (TFMistralForSequenceClassification, TFLlamaForSequenceClassification):
    transformers.TFAutoModelForSequenceClassification.register(_model.config_class, _model, exist_ok=True)


def check_family(config: Any) -> None:
    """Rejects a configuration of the family that these layers do not compute exactly.

    Raises:
      UserError: If it is such a one.
    """
    found = [f"{field}=True" for field in ("attention_bias", "mlp_bias") if getattr(config, field, False)]
    for field in ("rope_scaling", "rope_parameters"):
        scaling = getattr(config, field, None) or {}
        kind = scaling.get("rope_type", scaling.get("type", "default"))
        found += [f"{field} of type {kind}"] if kind != "default" else []
    size = config.hidden_size // config.num_attention_heads
    if (config.head_dim or size) != size:
        found.append(f"head_dim={config.head_dim} in place of {size}")
    if config.hidden_act not in ("silu", "swish"):
        found.append(f"hidden_act={config.hidden_act}")
    if found:
        raise UserError(
            f"the {config.model_type} model has {', '.join(found)}, which TensorFlow's code for the Llama family does "
            "not compute: choose another one."
        )
