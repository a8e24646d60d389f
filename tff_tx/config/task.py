"""What is learned, from which data and whose, with which model, and which of its weights."""

from __future__ import annotations

import dataclasses
from typing import Any

from tff_tx.config.option import POSITIVE, Range, Section, option
from tff_tx.config.registries import DATASETS, FORMATS, PARTITIONS, SPLITS, TASKS

TEXT_JOINS = ("pair", "separator", "blank")
SERIES_PROTOCOLS = ("within", "standardized")
MISSING_NUMBERS = ("refuse", "mean", "last")
ON_BAD_ROWS = ("refuse", "skip")
DTYPES = ("float32", "bfloat16")
LEAST_RATE, MOST_RATE = 1000, 1_000_000
"""Samples of a recording a second."""
LORA_AGGREGATIONS = ("average", "residual", "stack", "svd")


@dataclasses.dataclass(frozen=True)
class TaskConfig(Section, name="task"):
    """Task."""

    kind: str | None = option(None, "Task; default: the usual one of an embedded data set.", flag="task", choices=TASKS)
    max_length: int = option(64, "Maximum number of tokens or items of an example.", least=2, most=2**20)
    max_target_length: int = option(32, "Maximum number of tokens of a generated text.", least=2, most=2**20)
    packing: bool = option(
        False,
        "Packs conversations of a client into examples of up to {task.max_length} tokens, which saves padding; none "
        "attends to another, and positions count from 0 in each.",
    )
    context_overlap: int = option(16, "Tokens shared by two windows of a context that is too long for one.", least=0)
    max_answer_length: int = option(30, "Maximum number of tokens of an answer.", least=1)
    max_seconds: float = option(
        30.0, "Longest recording, s; longer ones are cut to classify them, and rejected to transcribe them.", above=0.0
    )
    sampling_rate: int = option(
        16_000,
        "Samples a second that recordings are brought to for a new model; a checkpoint has its own.",
        least=LEAST_RATE,
        most=MOST_RATE,
    )
    standardize: bool = option(
        True, "Standardizes the numeric columns of tables by mean and deviation over all training clients."
    )
    balance_classes: bool = option(
        False, "Weights the loss of a class by the inverse of its frequency among all training clients."
    )
    class_weights: dict[str, Any] = option({}, 'Weights of the loss by class, as JSON: {"spam": 5}; of the others 1.')
    focal_gamma: float = option(
        0.0,
        "Focal loss: the loss is multiplied by (1 - p)^gamma, where p is the label's probability.",
        least=0.0,
        most=100.0,
        search=Range(0.0, 4.0),
    )
    context_length: int = option(12, "Steps of a series that a forecast is made from.", least=1, most=2**20)
    series_protocol: str = option(
        "within",
        "Evaluation of forecasts: windows lie within a split, errors are in the data's unit (within, as T-GCN has it); "
        "or windows of held-out records look back on those before, and loss, MSE and MAE are also in standard "
        "deviations of each series' training records (standardized, as Informer and PatchTST have it).",
        choices=SERIES_PROTOCOLS,
    )
    horizons: tuple[int, ...] = option(
        (3, 6, 12),
        "Horizons at which forecasts are evaluated, in steps; the largest is the forecast's length.",
        least=1,
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig(Section, name="model"):
    """Model."""

    pretrained: str | None = option(None, "Model directory or hub id to start from.")
    revision: str | None = option(None, "Branch, tag or commit of a hub id in {model.pretrained}.")
    architecture: str | None = option(None, "Hugging Face model type, such as bert, for a model with random weights.")
    config: dict[str, Any] = option(
        {}, 'Fields of the model\'s configuration, as JSON: {"hidden_size": 128}.', flag="model_config"
    )
    tokenizer: str | None = option(
        None, "Model directory, hub id or bytes; default: the tokenizer of {model.pretrained}."
    )
    trainable: str = option(
        "all",
        "Trained weights: all; head; bias (with the head); layers:RE, those whose name matches the regular expression "
        "RE; or lora: low-rank adapters (with a classifier's head). Frozen weights are sent once.",
    )
    personal: str | None = option(
        None,
        "Trained weights that each client has for itself, and that never leave it: head (FedPer); norms, those of "
        "normalization layers (FedBN); or layers:RE. Stored in personal/ of the run.",
    )
    dropout: float | None = option(
        None,
        "Rate of all dropout layers; default: as the model's configuration has it.",
        least=0.0,
        below=1.0,
        search=Range(0.0, 0.5),
    )
    frozen_dtype: str = option(
        "float32",
        "dtype in which frozen weights are stored and sent; they are cast where they are used, and the model is saved "
        "in float32.",
        choices=DTYPES,
    )
    gradient_checkpointing: bool = option(
        False, "Recomputes Transformer blocks in the backward pass: less memory, a third more time, the same numbers."
    )
    cache_features: bool = option(
        False,
        "Computes the activations below the lowest trained weight once per client, without dropout there, and stores "
        "them in features/ of the run.",
    )
    feature_cache_bytes: int = option(
        4_000_000_000,
        "Maximum size of the activation cache; least recently used clients are evicted first.",
        least=1,
        most=2**63 - 1,
        may_change=True,
    )


@dataclasses.dataclass(frozen=True)
class LoraConfig(Section, name="lora", prefix="lora_"):
    """Low-rank adapters."""

    rank: tuple[int, ...] = option(
        (8,),
        "Rank of the adapters; with several, as in 2,4,8, each client has one of them.",
        least=1,
        most=2**14,
        search=((2,), (4,), (8,), (16,)),
    )
    alpha: float = option(
        16.0, "The product A B is scaled by alpha over the largest rank.", **POSITIVE, search=Range(4.0, 64.0, log=True)
    )
    targets: str | None = option(
        None, "Regular expression searched in the names of adapted weights; default: queries and values."
    )
    dropout: float = option(0.0, "Dropout rate of the adapters' inputs.", least=0.0, below=1.0, search=Range(0.0, 0.3))
    learning_rate_factor: float = option(
        1.0,
        "Learning rate of clients' A and B, in units of {client.learning_rate}, which a classifier's head has.",
        least=0.0,
        search=Range(0.1, 10.0, log=True),
    )
    freeze_a: bool = option(False, "FFA-LoRA: A keeps its random values and is sent once; half the traffic.")
    aggregation: str = option(
        "average",
        "Aggregation of the clients' A and B: averages of the factors (FedIT; HetLoRA with several ranks); averages "
        "and the residual to the average product (FedEx-LoRA); the average product, added to the weight, and new A "
        "and B (FLoRA's stack); or its best approximation of the rank (FlexLoRA's svd).",
        choices=LORA_AGGREGATIONS,
    )


@dataclasses.dataclass(frozen=True)
class DataConfig(Section, name="data"):
    """Data and clients."""

    dataset: str = option("stdlib", "Data set; `file` reads {data.files}.", choices=DATASETS)
    files: tuple[str, ...] = option(
        (),
        "Training files, folders or globs, with {data.dataset}=file; or hf://NAME, a data set of the Hugging Face hub.",
        flag="data",
        is_path=True,
    )
    validation_files: tuple[str, ...] = option(
        (), "Validation files; nothing is split off for validation.", flag="validation_data", is_path=True
    )
    test_files: tuple[str, ...] = option(
        (), "Test files; nothing is split off for testing.", flag="test_data", is_path=True
    )
    silos: tuple[str, ...] = option(
        (),
        "Names of the silos that hold the training data, or of a federation's participants. On a cluster, {data.files} "
        "are then paths on the node whose Ray resource is silo_NAME, with {silo} for the name, and are read only "
        "there. {data.test_files} and {data.validation_files} are read here.",
    )
    format: str | None = option(
        None, "Format of the files; default: by their names.", flag="data_format", choices=FORMATS
    )
    on_bad_rows: str = option(
        "refuse",
        "Rows that cannot be read, or lack a value that is named: the first is an error, or they are skipped, counted, "
        "and the first of them shown.",
        choices=ON_BAD_ROWS,
    )
    encoding: str | None = option(
        None, "Encoding of text files, such as cp1252; default: by their byte order mark, else UTF-8."
    )
    delimiter: str | None = option(
        None,
        "Character between the values of CSV and TSV files, a blank (any number of them), `tab` or `::`; default: "
        "recognized by their first lines.",
    )
    columns: tuple[str, ...] = option(
        (), "Column names, for CSV and TSV files without a header line, and for CoNLL (default: tokens, ..., tags)."
    )
    text_column: tuple[str, ...] = option(
        ("text",),
        "Column of the text; several are joined, see {data.text_join}. A column within another is named with dots, as "
        "in review.title.",
    )
    text_join: str | None = option(
        None,
        "Encoding of several {data.text_column}: a pair of texts, with segments where the model has them; or joined by "
        "the tokenizer's separator token, or by a blank. Default for tasks that "
        "take pairs: pair for two, separator for more; else a blank.",
        choices=TEXT_JOINS,
    )
    audio_column: str = option("audio", "Column of recordings: audio files' bytes, or paths.")
    label_column: str = option("label", "Column of the label.")
    label_separator: str | None = option(
        None, "Separator of several labels in {data.label_column}; lists need none. An empty value has no label."
    )
    label_columns: tuple[str, ...] = option(
        (), "Columns with 0 and 1 in place of {data.label_column}, one for each of several labels."
    )
    target_column: str = option(
        "target", "Column of the text that is generated from {data.text_column}, or of the transcript of a recording."
    )
    question_column: str = option("question", "Column of the question.")
    context_column: str = option("context", "Column of the text in which the answer is found.")
    answer_column: str = option(
        "answer", "Column of the answer, empty for unanswerable questions; or SQuAD's `answers`."
    )
    answer_start_column: str = option("answer_start", "Column of the position of the answer's first character, from 0.")
    client_column: str | None = option(
        None,
        "Column of the client that owns an example; or several, as in store,item, of which each combination of values "
        "is a client, called 1/milk.",
    )
    time_column: str | None = option(
        None,
        "Column of times by which records are sorted, in memory, for tasks and splits in time; default: as they are, "
        "which is an error if no column of times of the files is in order, and with `none` is not looked at.",
    )
    client_per_column: bool = option(
        False,
        "Each numeric column of a wide table is the series of a client, which is called as the column is: those of "
        "{data.numeric_columns}, or all.",
    )
    numeric_columns: tuple[str, ...] = option((), "Numeric columns of tables and series.")
    missing_numbers: str = option(
        "refuse",
        "Numbers that are missing (empty, NA, NaN, null or ?): the first is an error. Of tables, the mean over all "
        "training clients takes their place, and a further column per column says where; of series, the last number "
        "before does, and windows whose values to come have gaps are left out.",
        choices=MISSING_NUMBERS,
    )
    categorical_columns: tuple[str, ...] = option(
        (), "Categorical columns of tables; where a value is missing, that is a category of its own."
    )
    categories: dict[str, Any] = option(
        {},
        'Values of categorical columns, as JSON: {"sex": ["female", "male"]}; others count as unknown. Default: found '
        "in the training data, which private runs must not look at.",
    )
    partition: str = option(
        "auto",
        "Assignment of examples to clients: the data's own clients (column) or a synthetic partition; auto is "
        "column if the data have clients, else iid.",
        choices=PARTITIONS,
    )
    num_clients: int | None = option(
        None,
        "Number of clients of a synthetic partition (default 100), or how many of the data's own to use (default all).",
        least=1,
    )
    dirichlet_alpha: float = option(
        1.0,
        "Concentration of {data.partition}=dirichlet; smaller is more heterogeneous.",
        least=1e-9,
        most=1e9,
    )
    shards_per_client: int = option(2, "Shards per client of {data.partition}=shards.", least=1)
    power_law_exponent: float = option(
        1.5, "Exponent of client sizes of {data.partition}=power_law.", least=0.0, most=100.0
    )
    split: str = option(
        "auto",
        "Held-out data: whole clients, a random part of every client, the last part of every client (time), or "
        "examples before partitioning; auto is client for the data's own clients, else example.",
        choices=SPLITS,
    )
    validation_fraction: float = option(
        0.0, "Size of the validation split: a fraction, or a whole number from 1 on.", least=0.0
    )
    test_fraction: float = option(0.1, "Size of the test split: a fraction, or a whole number from 1 on.", least=0.0)
    borders: tuple[int, ...] = option(
        (),
        "Numbers of each client's first records that train, validate and test, with {data.split}=time; the rest is "
        "left out: 8640,2880,2880 are 12, 4 and 4 months of hours.",
        least=0,
    )
    max_train_examples_per_client: int | None = option(None, "Truncates larger training clients.", least=1)
    label_names: tuple[str, ...] = option(
        (), "Labels in order; default: found in {data.files}, which private runs must not look at."
    )
    label_file: str | None = option(
        None, "File with the labels (or items) in order, one a line, in place of {data.label_names}.", is_path=True
    )
    cache_dir: str | None = option(
        None,
        "Directory for encoded data, and for compiled rounds of runs without differential privacy; default: tff_tx in "
        "the user's cache directory.",
        may_change=True,
    )
