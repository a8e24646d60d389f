"""What can be chosen by name, a line each. It is imported when it is chosen; plug-ins add to it by `register(name)`."""

from tff_tx.core.registry import Registry

ALGORITHMS = Registry(
    "algorithm",
    {
        "fed_avg": "tff_tx.algorithms.fed_avg:FED_AVG",
        "fed_prox": "tff_tx.algorithms.fed_prox:FED_PROX",
        "fed_gkd": "tff_tx.algorithms.fed_gkd:FED_GKD",
        "fed_sgd": "tff_tx.algorithms.fed_sgd:FED_SGD",
        "mime_lite": "tff_tx.algorithms.mime_lite:MIME_LITE",
    },
)
"""Of `tff_tx.algorithms.Algorithm`."""

AGGREGATORS = Registry(
    "aggregator",
    {
        "mean": "tff_tx.aggregators.stacks:MEAN",
        "attention": "tff_tx.aggregators.attention:ATTENTION",
        "median": "tff_tx.aggregators.median:MEDIAN",
        "trimmed_mean": "tff_tx.aggregators.median:TRIMMED_MEAN",
        "krum": "tff_tx.aggregators.krum:KRUM",
        "multi_krum": "tff_tx.aggregators.krum:MULTI_KRUM",
        "bulyan": "tff_tx.aggregators.krum:BULYAN",
        "geometric_median": "tff_tx.aggregators.median:GEOMETRIC_MEDIAN",
        "centered_clipping": "tff_tx.aggregators.centered_clipping:CENTERED_CLIPPING",
    },
)
"""Of `tff_tx.aggregators.Aggregator`."""

TASKS = Registry(
    "task",
    {
        name: f"tff_tx.tasks.kinds.{name}:TASK"
        for name in (
            *("sequence_classification", "token_classification", "masked_lm", "causal_lm"),
            *("sequence_to_sequence", "question_answering", "image_classification"),
            *("tabular_classification", "forecasting", "next_item"),
        )
    },
)
"""Of `tff_tx.tasks.TaskKind`."""

ATTACKS = Registry(
    "attack",
    {
        "none": "tff_tx.analysis.attacks.simulation:NONE",
        "label_flip": "tff_tx.analysis.attacks.poisoning:LABEL_FLIP",
        "backdoor": "tff_tx.analysis.attacks.poisoning:BACKDOOR",
        "model_replacement": "tff_tx.analysis.attacks.updates:MODEL_REPLACEMENT",
        "sign_flip": "tff_tx.analysis.attacks.updates:SIGN_FLIP",
        "gaussian": "tff_tx.analysis.attacks.updates:GAUSSIAN",
        "little_is_enough": "tff_tx.analysis.attacks.updates:LITTLE_IS_ENOUGH",
        "free_rider": "tff_tx.analysis.attacks.updates:FREE_RIDER",
    },
)
"""Of `tff_tx.analysis.attacks.AttackKind`."""

ENGINES = Registry(
    "engine",
    {
        "local": "tff_tx.runtime.local:LocalEngine",
        "tff_native": "tff_tx.runtime.native:NativeEngine",
        "ray": "tff_tx.runtime.ray_engine:RayEngine",
    },
)
"""Of `tff_tx.runtime.Engine`."""

DATASETS = Registry(
    "data set",
    {
        "stdlib": "tff_tx.datasets.sets.stdlib:STDLIB",
        "digits": "tff_tx.datasets.sets.digits:DIGITS",
        "breast_cancer": "tff_tx.datasets.sets.breast_cancer:BREAST_CANCER",
        "file": "tff_tx.datasets.sets.files:FILES",
        **{
            f"tff:{name}": f"tff_tx.datasets.sets.tff_sets:{name.upper()}"
            for name in ("shakespeare", "stackoverflow", "emnist", "emnist_all", "cifar100")
        },
    },
)
"""Of `tff_tx.datasets.DataSet`."""

FORMATS = Registry(
    "file format",
    {
        **{
            name: f"tff_tx.datasets.readers.lines:{name.upper()}"
            for name in ("csv", "tsv", "jsonl", "conll", "text", "dialogue")
        },
        **{
            name: f"tff_tx.datasets.readers.containers:{name.upper()}"
            for name in ("parquet", "squad", "leaf", "hdf5", "sqlite")
        },
    },
)
"""Of `tff_tx.datasets.Format`."""

PARTITIONS = Registry(
    "partition",
    {
        name: f"tff_tx.datasets.partition:{name.upper()}"
        for name in ("auto", "column", "iid", "dirichlet", "shards", "power_law")
    },
)
"""Of `tff_tx.datasets.Partition`."""

SPLITS = Registry(
    "split",
    {name: f"tff_tx.datasets.splits:{name.upper()}" for name in ("auto", "client", "within_client", "time", "example")},
)
"""Of `tff_tx.datasets.Split`."""
