"""Data as clients: readers, partitions, encoders, and the store that encoded clients end up in."""

import importlib

from tff_tx.config.registries import DATASETS, FORMATS, PARTITIONS, SPLITS

_EXPORTS = {
    "encoders.encoder": ("IGNORED_LABEL", "Encoder", "Stream"),
    "encoders.conversations": ("AnswerEncoder", "ConversationEncoder"),
    "encoders.multi_label": ("MultiLabelEncoder",),
    "encoders.questions": ("ContextWindows", "QuestionAnsweringEncoder", "Window"),
    "encoders.ordered": ("ForecastingEncoder", "NextItemEncoder"),
    "encoders.recordings": ("AudioClassificationEncoder", "CTCEncoder", "TranscriptionEncoder"),
    "encoders.values": ("ImageClassificationEncoder", "TabularClassificationEncoder", "channels_first")
    + ("federated_class_counts", "federated_mean_and_deviation"),
    "encoders.texts": ("LanguageModelingEncoder", "SequenceClassificationEncoder", "SequenceRegressionEncoder")
    + ("SequenceToSequenceEncoder", "TokenClassificationEncoder", "start_and_end"),
    "encoders.tokenizing": ("Tokenize", "tokenizer_fingerprint", "word_pieces"),
    "federated": ("FederatedDataset", "dealt_records", "load", "open_store"),
    "partition": ("Partition",),
    "readers.audio": ("Recording", "as_recording", "read_recording"),
    "readers.files": ("files_below", "require_files"),
    "readers.formats_of_files": ("format_of_table",),
    "readers.values": ("as_image",),
    "silos": ("Listing", "SiloClientData", "in_silo", "join_silos", "load_silo", "id_in_silo", "silo_of"),
    "sources": ("DataSet", "Format", "LeftOut", "open_source", "read_files", "read_records"),
    "spec": ("DataSpec", "cache_directory", "default_cache_dir"),
    "splits": ("Split",),
    "store": ("Draw", "SqliteClientData", "StoreWriter", "client_dataset", "is_whole"),
    "survey_pass": ("image_shape", "label_names", "survey"),
    "times": ("Order",),
    "surveys": (
        *("Features", "Survey", "absent_label_note", "distinct_label_names", "label_lookup", "ordered_label_names"),
        "unknown_label",
    ),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = ["DATASETS", "FORMATS", "PARTITIONS", "SPLITS", *sorted(_MODULE_OF)]


def __getattr__(name: str):
    # What describes data is of use where TensorFlow, which takes seconds to import, is not.
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
