"""Hugging Face and Keras models as `FunctionalModel`s of TFF, and what they are trained on."""

import tff_tx.models.zoo.llama  # registers its models with transformers' automatic classes
from tff_tx.models.architectures import (
    ends_at_padding,
    has_segments,
    image_shape,
    max_positions,
    padding_fault,
    planned_config,
    takes_image_size,
)
from tff_tx.models.dual_adapters import DualAdapters
from tff_tx.models.features import FeatureExtractor
from tff_tx.models.functional import TransformerModel, functional_model
from tff_tx.models.hugging_face import (
    fitting,
    from_config,
    from_pretrained,
    output_names,
    read_config,
    save_pretrained,
)
from tff_tx.models.images import ImageProcessor, load_processor, plain_processor
from tff_tx.models.lora import RANK, Lora
from tff_tx.models.objectives.ctc import ctc, spoken
from tff_tx.models.objectives.distillation import check_predicts_classes, distillation_loss
from tff_tx.models.objectives.entities import ENDS, SINGLES, entity_scheme
from tff_tx.models.objectives.forecasting import forecasting
from tff_tx.models.objectives.imbalance import rebalanced
from tff_tx.models.objectives.metric import Metric
from tff_tx.models.objectives.multi_label import multi_label
from tff_tx.models.objectives.objective import (
    IGNORED,
    Objective,
    classification,
    language_modeling,
    sequence_to_sequence,
    token_classification,
)
from tff_tx.models.objectives.pooled import by_class, pooled_metrics
from tff_tx.models.objectives.ranking import next_item
from tff_tx.models.objectives.regression import regression
from tff_tx.models.objectives.spans import best_spans, question_answering
from tff_tx.models.peft import check_adapter_format, save_adapter
from tff_tx.models.speech import (
    call_padded,
    check_speech_config,
    least_samples,
    load_extractor,
    new_extractor,
    num_frames,
    speech_defaults,
    takes_samples,
)
from tff_tx.models.tokenizers import load_tokenizer
from tff_tx.models.tracing.dropout import set_dropout
from tff_tx.models.tracing.packing import PACKABLE
from tff_tx.models.tracing.randomness import SEED
from tff_tx.models.tracing.requirements import StatefulModelError
from tff_tx.models.tracing.vectorization import vectorized_map
from tff_tx.models.trainable import by_name, fresh
from tff_tx.models.weights_file import digest
