"""What architectures of transformers are like, beyond what the fields of their configurations say by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tff_tx.models.hugging_face import check_architecture, read_config
from tff_tx.models.tracing.hugging_face import CONFIG_CLASSES

_CLASSIFIES_LAST_TOKEN = ("ctrl", "gpt2", "gptj", "mistral", "openai-gpt", "transfo-xl")

_CLASSIFIERS = "TFAutoModelForSequenceClassification"
_DEPEND_ON_PADDING = {
    "convbert": "its convolutions reach from a text into the padding behind it",
    "funnel": "it pools tokens in pairs, the last of them with padding or not at all",
    "mobilebert": "it joins each token with its neighbours, of which the last one is padding or nothing",
    "xlnet": "it classifies a text by what stands last, which may be padding",
}
"""Why predictions for a text depend on how many tokens of padding come behind it, by the architecture."""

_OF_ONE_IMAGE_SIZE = ("data2vec-vision", "deit", "swin", "vit", "vit_mae")
"""Architectures that number patches or windows of images; others take images of any size, whatever is configured."""

_POSITIONS_AFTER_PADDING = (
    "camembert",
    "esm",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
)
"""Architectures that number positions from the padding index on, and so have fewer of them."""


def has_segments(config: Any) -> bool:
    """Whether a model separates two texts by `token_type_ids`, as BERT does and RoBERTa does not."""
    return getattr(config, "type_vocab_size", 0) > 1


def padding_fault(auto_class: str, architecture: str) -> str | None:
    """Why predictions of a model for a text depend on what else is in the batch; None: they do not."""
    classifies = auto_class == _CLASSIFIERS
    if architecture == "funnel" and classifies or architecture == "xlnet" and not classifies:
        return None
    return _DEPEND_ON_PADDING.get(architecture)


def ends_at_padding(config: Any) -> bool:
    """Whether a classifier of texts looks at the last token that is not the configured padding token."""
    return config.pad_token_id is None or config.model_type in _CLASSIFIES_LAST_TOKEN


def image_shape(config: Any) -> tuple[int, int | None, int | None]:
    """(channels, height, width) of images, as a configuration has them; None where it has no size."""
    size = getattr(config, "image_size", None)
    return (config.num_channels, *(size if isinstance(size, (list, tuple)) else (size, size)))


def takes_image_size(config: Any, size: tuple[int, int]) -> bool:
    """Whether a model takes images of (height, width)."""
    return config.model_type not in _OF_ONE_IMAGE_SIZE or tuple(size) == image_shape(config)[1:]


def max_positions(config: Any) -> int | None:
    """The longest sequence a text model takes, None where there is no limit."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None and config.model_type in _POSITIONS_AFTER_PADDING:
        limit -= config.pad_token_id + 1
    # The sliding window of Mistral is not computed, and cuts nothing off a text within it.
    window = getattr(config, "sliding_window", None)
    return limit if window is None or limit is None else min(limit, window)


def planned_config(auto: Any, pretrained: str | None, architecture: str | None, changes: Mapping[str, Any]) -> Any:
    """The configuration of a model that is to be loaded or made.

    Args:
      auto: See `tff_tx.models.from_config`.
      pretrained: A model directory or hub id; None: it is new.
      architecture: A Hugging Face model type of a new model.
      changes: Fields to change.

    Raises:
      UserError: If there is no such model.
    """
    if pretrained is None:
        check_architecture(auto, architecture)
    config = CONFIG_CLASSES[architecture]() if pretrained is None else read_config(auto, pretrained)
    config.update(dict(changes))
    return config
