"""Imports go down only, rooms on one floor do not know each other, and the public surface is pinned."""

import ast
import importlib
import pathlib
import pkgutil

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

FLOORS = {
    "tff_tx.core": 0,
    "tff_tx.config": 1,
    "tff_tx.runtime": 2,
    "tff_tx.datasets": 3,
    "tff_tx.models": 3,
    "tff_tx.aggregators": 4,
    "tff_tx.privacy": 4,
    "tff_tx.algorithms": 5,
    "tff_tx.cohorts": 5,
    "tff_tx.tasks": 6,
    "tff_tx.analysis": 7,
    "tff_tx.inference": 7,
    "tff_tx.run": 8,
    "programs": 9,
    "benchmarks": 10,
    "data": 10,
}

PUBLIC = {
    "tff_tx.aggregators": {
        *("Aggregator", "AttentionFactory", "GatheringFactory", "bulyan_factory"),
        *("centered_clipping_factory", "clipping", "discrete_aggregator", "geometric_median_factory"),
        *("krum_factory", "mean_factory"),
        *("median_factory", "stack", "trimmed_mean_factory", "zeroing"),
    },
    "tff_tx.aggregators.dp": {
        *("AdaptiveClipQuery", "FixedClipQuery", "NoisedOptimizer", "PrivateMeanFactory", "PrivateMetricsFactory"),
        *(
            "SkellamParameters",
            "WithheldMetricsFactory",
            "discrete_aggregator",
            "rotated_size",
            "adaptive_clip_aggregator",
            "banded_noise",
            "clip_to_norm",
        ),
        *("fixed_clip_aggregator", "independent_noise", "noise_key", "split_noise", "tree_noise"),
    },
    "tff_tx.analysis.attacks": {
        *("Attack", "Backdoor", "FreeRider", "GaussianUpdate", "LabelFlip", "LittleIsEnough", "ModelReplacement"),
        *("SignFlip", "choose_attackers", "little_is_enough_z", "pixel_trigger", "simulate", "text_trigger"),
    },
    "tff_tx.algorithms": {
        *("ALGORITHMS", "LORA_AGGREGATIONS", "OPTIMIZERS", "SCHEDULES", "Algorithm", "ClientTransform", "Options"),
        *("accumulate", "capabilities", "chain", "check", "distill", "dp_sgd", "local_dp", "proximal"),
        *("build_fed_avg", "build_fed_gkd", "build_fed_prox", "build_fed_sgd", "build_lora_fed_avg", "build_mime_lite"),
        *("build_optimizer", "build_process", "build_schedule", "schedule_learning_rate"),
    },
    "tff_tx.algorithms.client": {
        *("Broadcast", "Chain", "Client", "ClientTransform", "Context", "Part", "Seen", "accumulate", "chain"),
        *("build_client_work", "build_server_update", "compose", "distill", "dp_sgd", "local_dp", "proximal"),
    },
    "tff_tx.analysis.auditing": {
        *("FEATURES", "Attack", "Bound", "Canary", "CanaryAudit", "ExampleScorer", "PREFIX", "WithCanaries", "audit"),
        *("audit_process", "audit_updates", "canary_examples", "epsilon_lower_bound", "exposure_by_fit"),
        *("exposure_by_rank", "guess", "make_canaries", "make_references", "p_value", "plot_audit", "read_canaries"),
        *("table", "threshold_attack", "trained_attack", "write_canaries"),
    },
    "tff_tx.aggregators.compression": {
        *("CodecError", "CompressedFactory", "CompressedSumFactory", "Compressor", "GaussianQuantizer"),
        *("LowRank", "RandomK", "ResidualStore", "Rotated", "TopK", "UniformQuantizer", "VectorCompressor"),
        *("WeightedCompressedFactory", "build_compressor", "build_delta_distributor", "decode", "encode"),
    },
    "tff_tx.analysis.contribution": {
        *("METHODS", "UPDATES", "Game", "UpdateStore", "Values", "bytes_of_run", "exact_shapley", "gtg_shapley"),
        *("leave_one_out", "truncated_monte_carlo", "value_clients"),
    },
    "tff_tx.algorithms.distillation": {"TEACHERS", "EnsembleDistillation", "FedDFEngine", "Group", "deal"},
    "tff_tx.models": {
        *("IGNORED", "SEED", "Objective", "StatefulModelError", "TransformerModel", "classification"),
        *("from_config", "from_pretrained", "functional_model", "language_modeling", "load_tokenizer"),
        *("max_positions", "save_pretrained", "token_classification", "vectorized_map"),
        *("RANK", "Lora", "check_adapter_format", "distillation_loss", "forecasting", "next_item", "read_config"),
        *("FROZEN_DTYPES", "FeatureExtractor", "check_predicts_classes", "save_adapter"),
        *("Metric", "best_spans", "has_segments", "image_shape", "question_answering", "sequence_to_sequence"),
    },
    "tff_tx.privacy": {
        *("AdaptiveClipping", "BandedMatrix", "CalculatorReport", "ClientSideLedgers", "Plan", "report"),
        *("build_client_side_ledgers", "build_plan", "ExampleLevelSgd", "Gaussian", "Ledger"),
        *("LocalGaussian", "MatrixFactorization", "Mechanism", "Participation", "Price", "TreeAggregation"),
        *(
            "amplification",
            "default_delta",
            "delta_for",
            "epsilon",
            "find_noise_multiplier",
            "gaussian_delta",
            "gaussian_epsilon",
        ),
        *("optimize_banded", "price", "rho", "skellam_epsilon", "skellam_rdp", "statement", "workload"),
        *("SparseHistogram", "find_sparse_histogram"),
    },
    "tff_tx.runtime": {
        *("ENGINES", "MOST_LEAVES", "PRECISIONS", "Engine", "ErrorFeedbackEngine", "FedBuffEngine", "Limits"),
        *(
            "LocalEngine",
            "NativeContext",
            "NativeEngine",
            "RayCluster",
            "RayEngine",
            "RoundOutput",
            "TooFewClientsError",
            "Traffic",
        ),
        *("ClientReader", "configure_tensorflow", "numbered", "profile", "step_function", "untuned", "with_model"),
    },
    "tff_tx.tasks": {
        *("FederatedTask", "LocalTraining", "ModelSpec", "Preprocessing", "FeatureCache", "client_arguments"),
        *("Facts", "LabelledRecipe", "Recipe", "TaskKind", "TextRecipe", "TextTask", "create_task", "task_kind"),
    },
    "tff_tx.analysis.vocabulary": {
        *("MODELS", "TOKEN_NAMES", "Bounds", "WordsEncoder", "build_tokenizer", "count_words", "check_size"),
        *("pre_tokenization", "release"),
    },
    "tff_tx.inference": {"Options", "Predictor", "build_predictor"},
    "tff_tx.inference.texts": {
        *("Answer", "Answerer", "Generator", "Rouge", "exact_match", "normalized", "rouge_l", "rouge_n"),
        *("score_answers", "score_targets", "word_f1"),
    },
}


def room(module):
    """The room a module is in: the longest of the names above that begins it."""
    found = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return max(found, key=len) if found else None


def files():
    for top in ("tff_tx", "programs", "benchmarks", "data"):
        yield from (p for p in (ROOT / top).rglob("*.py"))


def imported(path):
    """Modules that a file imports, `from package import module` as package.module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", files(), ids=module_name)
def test_imports_go_down(path):
    name = module_name(path)
    if name == "tff_tx":
        return
    here = room(name)
    assert here is not None, f"{name} is in no room: give it one in FLOORS"
    for target in imported(path):
        there = room(target)
        if there is None or there == here:
            continue
        assert FLOORS[there] < FLOORS[here], f"{name} imports {target}"


def test_flags_are_read_by_programs_alone():
    for path in (ROOT / "tff_tx").rglob("*.py"):
        assert not any(target.startswith("absl.flags") for target in imported(path)), path


def test_only_the_runtime_touches_tffs_internals():
    for path in (ROOT / "tff_tx").rglob("*.py"):
        internal = [t for t in imported(path) if t.startswith("tensorflow_federated.python")]
        assert not internal or "runtime" in path.parts, (path, internal)


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_surface_is_pinned(package):
    module = importlib.import_module(package)
    assert set(module.__all__) == PUBLIC[package]
    assert all(hasattr(module, name) and getattr(module, name).__doc__ is not None for name in module.__all__)


def test_every_module_is_in_a_room():
    import tff_tx

    for info in pkgutil.iter_modules(tff_tx.__path__, "tff_tx."):
        assert info.name in FLOORS, f"{info.name} is in no room: give it one in FLOORS"
