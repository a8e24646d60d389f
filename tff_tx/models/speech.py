"""Models of speech: wav2vec2 and HuBERT, which take samples, and Whisper, which takes mel spectrograms."""

from __future__ import annotations

import math
from typing import Any

import transformers

from tff_tx.core.errors import UserError, setting
from tff_tx.models.hugging_face import loadable
from tff_tx.models.tracing import padding
from tff_tx.models.tracing.hugging_face import auto_class

TFAutoModelForSpeechRecognition = auto_class("TFAutoModelForSpeechRecognition")
for _model in ("Wav2Vec2ForCTC", "HubertForCTC", "WhisperForConditionalGeneration"):
    _model_class = getattr(transformers, f"TF{_model}")
    TFAutoModelForSpeechRecognition.register(_model_class.config_class, _model_class)

_WITHOUT = {"add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False, "feat_proj_layer_norm": True}
"""What PyTorch's models of samples can have and TensorFlow's leave out without a word, by its field and its absence."""


def takes_samples(config: Any) -> bool:
    """Whether a model takes samples, rather than a spectrogram."""
    return hasattr(config, "conv_stride")


def num_frames(config: Any, samples: Any) -> Any:
    """How many frames a model that takes samples makes of so many, numbers or tensors."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride):
        samples = (samples - kernel) // stride + 1
    return samples


def least_samples(config: Any) -> int:
    """The samples of one frame; 1 of a model that takes no samples."""
    samples = 1
    for kernel, stride in reversed(list(zip(config.conv_kernel, config.conv_stride)) if takes_samples(config) else []):
        samples = (samples - 1) * stride + kernel
    return samples


def speech_defaults(config: Any) -> dict[str, Any]:
    """Fields of a model that takes samples that are set unless somebody asks for others.

    SpecAugment masks as many frames as the longest recording of a batch asks for, and fails on batches of short ones;
    LayerDrop cannot be traced.
    """
    return {"layerdrop": 0.0, "apply_spec_augment": False} if takes_samples(config) else {}


def check_speech_config(config: Any) -> None:
    """Rejects what TensorFlow's models do not compute as PyTorch's.

    Raises:
      UserError: If there is such a thing.
    """
    for field, value in _WITHOUT.items():
        if getattr(config, field, value) != value:
            raise UserError(
                f"the {config.model_type} model has {field}={getattr(config, field)}, which TensorFlow's code has not: "
                "choose another model."
            )
    if takes_samples(config) and len(set(config.conv_dim)) > 1:
        raise UserError(
            f"{setting('model.config')}: TensorFlow's code has convolutions of one size, and conv_dim="
            f"{list(config.conv_dim)}: set equal numbers."
        )
    if takes_samples(config) and config.apply_spec_augment and config.mask_feature_prob:
        raise UserError(
            f"{setting('model.config')}: with mask_feature_prob={config.mask_feature_prob} TensorFlow's code drops the "
            "features that are to stay: set it to 0."
        )


def load_extractor(name: str) -> Any:
    """The feature extractor of a checkpoint.

    Raises:
      UserError: If it has none.
    """
    with loadable(f"the feature extractor of {setting('model.pretrained')}={name}"):
        return transformers.AutoFeatureExtractor.from_pretrained(name)


def new_extractor(config: Any, sampling_rate: int, max_seconds: float) -> Any:
    """A feature extractor for a new model.

    Recordings have mean 0 and variance 1; spectrograms are of the longest recording, in whole seconds.
    """
    if takes_samples(config):
        return transformers.Wav2Vec2FeatureExtractor(sampling_rate=sampling_rate, return_attention_mask=True)
    return transformers.WhisperFeatureExtractor(
        feature_size=config.num_mel_bins, sampling_rate=sampling_rate, chunk_length=math.ceil(max_seconds)
    )


def call_padded(model: Any, inputs: dict[str, Any]) -> Any:
    """What a Keras model makes of a padded batch of recordings, each as by itself."""
    with padding.left_out(model, inputs):
        return model(inputs, training=False)
