"""Models that write texts: causal ones, and those with an encoder and a decoder."""

from __future__ import annotations

import transformers

from tff_tx.models.tracing.hugging_face import joined_auto_class
from tff_tx.models.zoo import llama  # noqa: F401 -- registers its models

TFAutoModelForWriting = joined_auto_class(
    "TFAutoModelForWriting", transformers.TFAutoModelForCausalLM, transformers.TFAutoModelForSeq2SeqLM
)
