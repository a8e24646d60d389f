"""What can be chosen by name. It is imported when it is chosen; plug-ins add to it by `register(name)`."""

from tff_tx.core.registry import Registry


def _of(module: str, *names: str) -> dict[str, str]:
    """Records that a module has in upper case: fed_avg is FED_AVG of it."""
    return {name: f"tff_tx.{module}:{name.upper()}" for name in names}


ALGORITHMS = Registry(
    "algorithm",
    {
        **_of("algorithms.fed_avg", "fed_avg"),
        **_of("algorithms.fed_prox", "fed_prox"),
        **_of("algorithms.fed_gkd", "fed_gkd"),
        **_of("algorithms.fed_rep", "fed_rep"),
        **_of("algorithms.fed_babu", "fed_babu"),
        **_of("algorithms.fed_recon", "fed_recon"),
        **_of("algorithms.ditto", "ditto"),
        **_of("algorithms.p_fed_me", "p_fed_me"),
        **_of("algorithms.apfl", "apfl"),
        **_of("algorithms.mr_mtl", "mr_mtl"),
        **_of("algorithms.fed_dpa", "fed_dpa_t", "fed_dpa_f"),
        **_of("algorithms.ifca", "ifca"),
        **_of("algorithms.fed_sgd", "fed_sgd"),
        **_of("algorithms.mime_lite", "mime_lite"),
        **_of("algorithms.fed_exp", "fed_exp"),
        **_of("algorithms.fed_ex", "fed_ex"),
        **_of("algorithms.delta_sgd", "delta_sgd"),
        **_of("algorithms.scaffold", "scaffold"),
        **_of("algorithms.fed_dyn", "fed_dyn"),
        **_of("algorithms.fed_nova", "fed_nova"),
        **_of("algorithms.reptile", "reptile"),
        **_of("algorithms.per_fed_avg", "per_fed_avg"),
    },
)
"""Of `tff_tx.algorithms.Algorithm`."""

AGGREGATORS = Registry(
    "aggregator",
    {
        **_of("aggregators.stacks", "mean"),
        **_of("aggregators.secure_attention", "attention"),
        **_of("aggregators.median", "median", "trimmed_mean"),
        **_of("aggregators.krum", "krum", "multi_krum", "bulyan"),
        **_of("aggregators.median", "geometric_median"),
        **_of("aggregators.centered_clipping", "centered_clipping"),
    },
)
"""Of `tff_tx.aggregators.Aggregator`."""

_TASKS = (
    *(
        "sequence_classification",
        "sequence_regression",
        "multi_label_classification",
        "token_classification",
        "masked_lm",
        "causal_lm",
        "instruction_tuning",
        "sequence_to_sequence",
    ),
    *("question_answering", "image_classification", "tabular_classification", "forecasting", "next_item"),
    *("audio_classification", "speech_recognition"),
)
TASKS = Registry("task", {name: f"tff_tx.tasks.kinds.{name}:TASK" for name in _TASKS})
"""Of `tff_tx.tasks.TaskKind`."""

ATTACKS = Registry(
    "attack",
    {
        **_of("analysis.attacks.simulation", "none"),
        **_of("analysis.attacks.poisoning", "label_flip", "backdoor"),
        **_of("analysis.attacks.updates", "model_replacement", "sign_flip", "gaussian", "little_is_enough"),
        **_of("analysis.attacks.updates", "free_rider"),
    },
)
"""Of `tff_tx.analysis.attacks.AttackKind`."""

ENGINES = Registry(
    "engine",
    {
        "local": "tff_tx.runtime.local:LocalEngine",
        "tff_native": "tff_tx.runtime.native:NativeEngine",
        "ray": "tff_tx.runtime.ray_engine:RayEngine",
        "federation": "tff_tx.federation.engine:FederationEngine",
    },
)
"""Of `tff_tx.runtime.Engine`."""

_TFF_SETS = _of("datasets.sets.tff_sets", "shakespeare", "stackoverflow", "emnist", "emnist_all", "cifar100")
DATASETS = Registry(
    "data set",
    {
        **_of("datasets.sets.stdlib", "stdlib"),
        **_of("datasets.sets.scikit_learn", "digits", "breast_cancer"),
        "file": "tff_tx.datasets.readers.files:FILES",
        **{f"tff:{name}": where for name, where in _TFF_SETS.items()},
    },
)
"""Of `tff_tx.datasets.DataSet`."""

FORMATS = Registry(
    "file format",
    {
        **_of("datasets.readers.delimited", "csv", "tsv"),
        **_of("datasets.readers.jsons", "jsonl"),
        **_of("datasets.readers.conll", "conll", "conllu"),
        **_of("datasets.readers.lines", "text", "dialogue"),
        **_of("datasets.readers.hugging_face", "parquet", "arrow"),
        **_of("datasets.readers.folders", "images", "recordings"),
        **_of("datasets.readers.jsons", "squad", "leaf"),
        **_of("datasets.readers.containers", "hdf5", "sqlite"),
    },
)
"""Of `tff_tx.datasets.Format`."""

PARTITIONS = Registry(
    "partition", _of("datasets.partition", "auto", "column", "iid", "dirichlet", "shards", "power_law")
)
"""Of `tff_tx.datasets.Partition`."""

SPLITS = Registry("split", _of("datasets.splits", "auto", "client", "within_client", "time", "example"))
"""Of `tff_tx.datasets.Split`."""

TRANSPORTS = ("grpc", "flower")

TRACKERS = Registry(
    "tracker", {"mlflow": "tff_tx.run.trackers.mlflow:MLflow", "wandb": "tff_tx.run.trackers.wandb:Wandb"}
)
"""Classes of `tff_tx.run.trackers.tracker.Tracker`."""
