"""Data as clients: readers, partitioners, tokenization, and the store they end up in."""

from tff_tx.datasets.dealt import dealt_records
from tff_tx.datasets.encoding import (
    IGNORED_LABEL,
    Encoder,
    ImageClassificationEncoder,
    LanguageModelingEncoder,
    SequenceClassificationEncoder,
    TokenClassificationEncoder,
)
from tff_tx.datasets.federated import (
    FederatedDataset,
    default_cache_dir,
    image_shape,
    label_names,
    load,
    open_store,
    ordered_label_names,
)
from tff_tx.datasets.histories import NextItemEncoder
from tff_tx.datasets.pairs import SequenceToSequenceEncoder, start_and_end
from tff_tx.datasets.questions import ContextWindows, QuestionAnsweringEncoder, Window
from tff_tx.datasets.readers import FORMATS
from tff_tx.datasets.series import ForecastingEncoder
from tff_tx.datasets.silos import SiloClientData, in_silo, join_silos, load_silo, silo_of
from tff_tx.datasets.sources import read_records
from tff_tx.datasets.spec import DATASETS, PARTITIONS, SPLITS, DataSpec
from tff_tx.datasets.store import SqliteClientData, StoreWriter, client_dataset
from tff_tx.datasets.tables import Features, TabularClassificationEncoder, features, federated_mean_and_deviation

__all__ = [
    "DATASETS",
    "FORMATS",
    "IGNORED_LABEL",
    "PARTITIONS",
    "SPLITS",
    "ContextWindows",
    "DataSpec",
    "Encoder",
    "Features",
    "FederatedDataset",
    "ForecastingEncoder",
    "ImageClassificationEncoder",
    "LanguageModelingEncoder",
    "NextItemEncoder",
    "QuestionAnsweringEncoder",
    "SequenceClassificationEncoder",
    "SequenceToSequenceEncoder",
    "SiloClientData",
    "SqliteClientData",
    "StoreWriter",
    "TabularClassificationEncoder",
    "TokenClassificationEncoder",
    "Window",
    "client_dataset",
    "dealt_records",
    "default_cache_dir",
    "features",
    "federated_mean_and_deviation",
    "image_shape",
    "in_silo",
    "join_silos",
    "label_names",
    "load",
    "load_silo",
    "open_store",
    "ordered_label_names",
    "read_records",
    "silo_of",
    "start_and_end",
]
