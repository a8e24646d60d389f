"""The commands whose numbers `same_numbers.py` compares, and the files they read: tiny, deterministic, no downloads."""

from __future__ import annotations

import json
import math
import pathlib
import random

_VIT = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
_BERT = {**_VIT, "max_position_embeddings": 32}
_T5 = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
_GROUPS = (
    '--group={"name": "vit"}',
    '--group={"name": "swin", "architecture": "swin", "model_config": {"patch_size": 2, "embed_dim": 8, '
    '"depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "mlp_ratio": 2.0}}',
)


def _config(**fields):
    return f"--model_config={json.dumps(fields)}"


def _flags(text):
    return text.split()


_SHORT = _flags("--num_clients=6 --clients_per_round=3 --rounds=2 --rounds_per_evaluation=2 --batch_size=8")
_DIGITS = ["--dataset=digits", *_SHORT, "--max_examples=16", _config(**_VIT, hidden_dropout_prob=0.1)]
_PLAIN_DIGITS = ["--dataset=digits", *_SHORT, "--max_examples=16", _config(**_VIT)]
_SIX_DIGITS = [*_PLAIN_DIGITS, "--clients_per_round=6"]
_STDLIB = [
    *("--dataset=stdlib", *_SHORT, "--test_fraction=2", "--max_length=16", "--local_steps=2"),
    *("--max_train_examples_per_client=20", _config(n_embd=8, n_layer=1, n_head=2)),
]
_FILE = ["--dataset=file", *_SHORT[1:], "--client_column=who", "--split=within_client", "--test_fraction=4"]
_WORDS = ["--tokenizer=words", "--max_length=16"]
_TEXTS = [*_FILE, *_WORDS, "--data=texts.csv", "--architecture=bert", _config(**_BERT)]
_CLASSES = [*_TEXTS, "--task=sequence_classification"]
_LORA = [*_PLAIN_DIGITS, "--trainable=lora"]
_GAUSSIAN = _flags("--noise_multiplier=0.1 --sampling=poisson --dp_noise_seed=7 --rounds=3")
_APART = _flags("--noise_multiplier=0.1 --sampling=min_separation --dp_noise_seed=7 --rounds=4")


def _train(base, text="", *more):
    return [("train", [*base, *_flags(text), *more, "--run_dir=run"])]


COMMANDS = {
    # Algorithms, and the rates and samplers of a round.
    "fed_avg": _train(
        _DIGITS,
        "--rounds=3 --partition=dirichlet --client_schedule=cosine --warmup_rounds=1 --server_momentum=0.5 "
        "--validation_fraction=0.1 --client_optimizer=adamw",
    ),
    "fed_prox": _train(
        _DIGITS,
        "--algorithm=fed_prox --client_optimizer=sgd --client_momentum=0.5 --clip_norm=0.5 --partition=shards "
        "--gradient_accumulation_steps=2 --local_epochs=2 --sampling=by_size",
    ),
    "fed_sgd": _train(_DIGITS, "--algorithm=fed_sgd --server_optimizer=adam --server_learning_rate=0.01"),
    "oort": _train(_PLAIN_DIGITS, "--sampling=oort --seconds_per_example=0.1 --device_speed_spread=1 --rounds=3"),
    "power_of_choice": _train(_PLAIN_DIGITS, "--sampling=power_of_choice --rounds=3 --fairness_floor=0.4"),
    "bandit": _train(_PLAIN_DIGITS, "--sampling=bandit --rounds=3"),
    "fed_exp": _train(_PLAIN_DIGITS, "--algorithm=fed_exp --extrapolation_epsilon=0.01"),
    "fed_ex": _train(
        _DIGITS, "--algorithm=fed_ex --rounds=3", '--client_choices={"client_learning_rate": [0.0005, 0.01]}'
    ),
    "delta_sgd": _train(_PLAIN_DIGITS, "--algorithm=delta_sgd --local_steps=3"),
    "mime_lite": _train(
        _DIGITS,
        "--algorithm=mime_lite --client_optimizer=sgd --client_momentum=0.9 --client_learning_rate=0.05 "
        "--partition=power_law --keep_updates",
    ),
    "fed_babu": _train(_DIGITS, "--algorithm=fed_babu --personal=head --personal_epochs=2"),
    "fed_recon": _train(_DIGITS, "--algorithm=fed_recon --personal=norms --split=within_client --test_fraction=0.25"),
    "ditto": _train(_DIGITS, "--algorithm=ditto --personal_strength=0.5 --split=within_client --test_fraction=0.25"),
    "p_fed_me": _train(_DIGITS, "--algorithm=p_fed_me --moreau_steps=2 --split=within_client --test_fraction=0.25"),
    "apfl": _train(
        _DIGITS, "--algorithm=apfl --mixing=0.3 --mixing_rate=0.1 --split=within_client --test_fraction=0.25"
    ),
    "mr_mtl": _train(_DIGITS, "--algorithm=mr_mtl --split=within_client --test_fraction=0.25"),
    "fed_dpa_t": _train(
        _LORA, "--algorithm=fed_dpa_t --lora_rank=2 --mixing=0.6 --split=within_client --test_fraction=0.25"
    ),
    "fed_dpa_f": _train(_LORA, "--algorithm=fed_dpa_f --lora_rank=2 --personal_epochs=2 --test_fraction=0.25"),
    "ifca": _train(_DIGITS, "--algorithm=ifca --clusters=3 --cluster_spread=0.5"),
    "scaffold": _train(
        _PLAIN_DIGITS, "--rounds=3 --algorithm=scaffold --client_optimizer=sgd --partition=dirichlet --local_epochs=2"
    ),
    "fed_dyn": _train(
        _PLAIN_DIGITS, "--rounds=3 --algorithm=fed_dyn --dynamic_strength=0.05 --clip_norm=0.5 --compression=top_k"
    ),
    "fed_nova": _train(
        _PLAIN_DIGITS, "--algorithm=fed_nova --client_optimizer=sgd --client_momentum=0.9 --partition=power_law"
    ),
    "reptile": _train(_PLAIN_DIGITS, "--algorithm=reptile --server_learning_rate=0.5"),
    "per_fed_avg": _train(_PLAIN_DIGITS, "--algorithm=per_fed_avg --hessian_step=0.01 --inner_learning_rate=0.05"),
    "fed_gkd": _train(
        _DIGITS, "--rounds=3 --distillation_weight=0.2 --distillation_models=2 --distillation_temperature=2"
    ),
    "fed_buff": _train(
        _DIGITS,
        "--rounds=4 --buffer_size=2 --concurrency=4 --max_staleness=2 --seconds_per_example=0.1 "
        "--device_speed_spread=1 --server_schedule=linear",
    ),
    # Samplers and devices.
    "devices": _train(
        _PLAIN_DIGITS,
        "--rounds=3 --over_selection=1.4 --dropout_rate=0.2 --report_deadline=60 --seconds_per_example=0.5 "
        "--device_speed_spread=1 --device_bytes_per_second=100000 --round_overhead_seconds=600 "
        "--availability=diurnal --num_clients=20",
    ),
    "sampling_fixed": [
        *_train(_PLAIN_DIGITS, "--sampling=min_separation --min_separation=2"),
        (
            "train",
            [*_PLAIN_DIGITS, "--sampling=fixed", "--cohorts=run/cohorts.jsonl", "--noweighted", "--run_dir=replayed"],
        ),
    ],
    "sampling_poisson": _train(_PLAIN_DIGITS, "--sampling=poisson --server_optimizer=yogi --min_clients=1"),
    # Trained parts of a model.
    "lora_average": _train(_LORA, "--lora_rank=1,2 --lora_dropout=0.1 --aggregator=median"),
    "lora_residual": _train(_LORA, "--lora_rank=1,2 --lora_aggregation=residual"),
    "lora_stack": _train(_LORA, "--lora_rank=2,1 --lora_aggregation=stack"),
    "lora_svd": _train(_LORA, "--lora_rank=1,2 --lora_aggregation=svd --algorithm=fed_prox"),
    "lora_freeze_a": _train(
        _LORA, "--lora_rank=2 --lora_freeze_a --frozen_dtype=bfloat16 --algorithm=mime_lite --client_optimizer=sgd"
    ),
    "head_cached": _train(_DIGITS, "--trainable=head --cache_features --rounds=3"),
    "layers_cached": _train(_CLASSES, "--cache_features", "--trainable=layers:(layer_._1|pooler|classifier)"),
    "bias": _train(_DIGITS, "--trainable=bias --client_schedule=inverse_sqrt --split=client --partition=iid"),
    # Aggregators, each with an attack.
    "median": _train(_SIX_DIGITS, "--aggregator=median --clipping=0.5 --attack=sign_flip --noweighted"),
    "trimmed_mean": _train(_SIX_DIGITS, "--aggregator=trimmed_mean --attack=gaussian --zeroing=10 --noweighted"),
    "krum": _train(_SIX_DIGITS, "--aggregator=krum --attack=label_flip --noweighted"),
    "multi_krum": _train(_SIX_DIGITS, "--aggregator=multi_krum --attack=little_is_enough --noweighted"),
    "bulyan": _train(
        _SIX_DIGITS,
        "--num_clients=7 --clients_per_round=7 --aggregator=bulyan --attack=free_rider --noweighted "
        "--assumed_attackers=0.15 --attack_noise=0.01",
    ),
    "geometric_median": _train(_SIX_DIGITS, "--aggregator=geometric_median --attack=model_replacement"),
    "centered_clipping": _train(
        _SIX_DIGITS, "--aggregator=centered_clipping --clipping_radius=0.1 --attack=backdoor --noweighted"
    ),
    "attention_distance": _train(_SIX_DIGITS, "--aggregator=attention --attention_step_size=1.2 --noweighted"),
    "attention_loss": _train(
        _SIX_DIGITS, "--aggregator=attention --attention_key=loss --attention_floor=0.1 --noweighted"
    ),
    "secure_arithmetic": _train(
        _SIX_DIGITS, "--secure_aggregation=arithmetic --compression=rotated4 --clipping=adaptive"
    ),
    "skellam_masks": _train(
        _SIX_DIGITS,
        "--secure_aggregation=masks --secure_dropping=0.0 --dp_mechanism=skellam --noise_multiplier=0.1 "
        "--dp_noise_seed=1 --dp_sampling_seed=1",
    ),
    "discrete_gaussian": _train(
        _SIX_DIGITS,
        "--secure_aggregation=arithmetic --dp_mechanism=discrete_gaussian --noise_multiplier=0.1 "
        "--dp_noise_seed=1 --dp_sampling_seed=1",
    ),
    "secure_bfv": _train(_SIX_DIGITS, "--secure_aggregation=bfv"),
    "secure_masks": _train(_SIX_DIGITS, "--secure_aggregation=masks --secure_dropping=0.0 --aggregator=attention"),
    "adaptive_clipping": _train(_DIGITS, "--clipping=adaptive --zeroing=adaptive --rounds=3"),
    # Differential privacy.
    "dp_gaussian": _train(_DIGITS, "--dp_mechanism=gaussian --dp_metrics=private --clipping_norm=0.5", *_GAUSSIAN),
    "dp_gaussian_compressed": _train(
        _DIGITS, "--dp_mechanism=gaussian --compression=eden1 --target_epsilon=50 --population=10000 --dp_noise_seed=3"
    ),
    "dp_adaptive": _train(_DIGITS, "--dp_mechanism=adaptive --dp_metrics=withheld --clip_quantile=0.6", *_GAUSSIAN),
    "dp_tree": _train(_DIGITS, "--dp_mechanism=tree --restart_rounds=2 --server_momentum=0.9", *_APART),
    "dp_banded": _train(_DIGITS, "--dp_mechanism=banded --bands=2 --clipping_norm=0.5", *_APART),
    "local_dp": _train(_DIGITS, "--local_dp_clip=1 --local_dp_noise_multiplier=0.1 --noweighted"),
    "example_dp": _train(_DIGITS, "--example_clip=1 --example_noise_multiplier=0.5 --microbatches=4"),
    # Compression.
    "uniform8": _train(_DIGITS, "--compression=uniform8 --download_compression=stochastic4 --rounds=3"),
    "stochastic4": _train(_DIGITS, "--compression=stochastic4 --download_compression=eden1 --error_feedback"),
    "rotated4": _train(_DIGITS, "--compression=rotated4 --download_compression=top_k"),
    "top_k": _train(_DIGITS, "--compression=top_k --compression_fraction=0.1 --keep_updates --rounds=3"),
    "random_k": _train(_DIGITS, "--compression=random_k --compression_fraction=0.1 --noerror_feedback"),
    "low_rank": _train(_DIGITS, "--compression=low_rank --rounds=3"),
    # Engines and what a client computes in.
    "tff_native": _train(_DIGITS, "--engine=tff_native --algorithm=fed_prox"),
    "ray": _train(_DIGITS, "--engine=ray --ray_leaves=2"),
    "mixed_precision": _train(_DIGITS, "--mixed_precision=bfloat16"),
    "bucket_by_length": _train(_CLASSES, "--bucket_by_length --local_epochs=2 --batch_size=4"),
    "gradient_checkpointing": _train(_CLASSES, "--gradient_checkpointing --gradient_accumulation_steps=2"),
    # Tasks, and formats of files.
    "pretrained": [
        *_train(_TEXTS, "--task=masked_lm"),
        (
            "train",
            [*_FILE, "--data=texts.csv", "--task=sequence_classification", "--max_length=16"]
            + ["--pretrained=run/model", "--run_dir=fine_tuned"],
        ),
    ],
    "several_texts": [
        ("train", [*_CLASSES, "--text_column=who,text", f"--text_join={join}", f"--run_dir={join}"])
        for join in ("pair", "separator", "blank")
    ],
    "sequence_regression": _train(
        [*_FILE, *_WORDS, "--data=rows.jsonl", "--task=sequence_regression", "--architecture=bert", _config(**_BERT)],
        "--text_column=ward --label_column=dose",
    ),
    "token_classification": _train(
        _flags("--dataset=file --data=names.conll --task=token_classification --test_fraction=6"),
        "--architecture=distilbert",
        _config(dim=8, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=32),
        *_SHORT,
        *_WORDS,
    ),
    "causal_lm": _train(_STDLIB, "--eval_clients=1"),
    "canaries": _train(_STDLIB, "--canaries=4 --canary_length=8 --seed=3"),
    "sequence_to_sequence": _train(
        [*_FILE, *_WORDS],
        "--data=texts.csv --task=sequence_to_sequence --architecture=t5 --target_column=label --max_target_length=4",
        _config(**_T5),
    ),
    "question_answering": _train(
        [*_FILE[:-3], *_WORDS],
        "--data=questions.json --data_format=squad --task=question_answering --client_column=title "
        "--split=within_client --test_fraction=2 --architecture=bert --context_overlap=2 --max_answer_length=3",
        _config(**_BERT),
    ),
    "next_item": _train(
        _flags("--dataset=file --data=log.csv --task=next_item --architecture=sasrec --client_column=who"),
        "--label_column=item --split=time --validation_fraction=1 --test_fraction=1 --max_length=8 --noweighted "
        "--server_optimizer=adagrad --server_learning_rate=0.02",
        _config(hidden_size=8, num_hidden_layers=1, intermediate_size=16),
        *_SHORT[1:],
    ),
    "tabular_file": _train(
        _FILE,
        "--data=rows.jsonl --task=tabular_classification --architecture=ft_transformer --numeric_columns=dose "
        "--categorical_columns=ward",
        _config(**_VIT),
    ),
    "rows_with_gaps": _train(
        _FILE,
        "--data=gaps.csv --task=tabular_classification --architecture=ft_transformer --numeric_columns=dose,age "
        "--missing_numbers=mean --on_bad_rows=skip",
        _config(**_VIT),
    ),
    "breast_cancer": _train(["--dataset=breast_cancer"], "--nostandardize", _config(**_VIT), *_SHORT),
    "forecasting": _train(
        _FILE[:-2],
        "--data=series.csv --task=forecasting --architecture=patch_transformer --numeric_columns=speed "
        "--split=time --test_fraction=0.4 --horizons=1,3 --local_steps=2",
        _config(**_VIT),
    ),
    "forecasting_standardized": _train(
        _FILE[:-2],
        "--data=series.csv --task=forecasting --architecture=patch_transformer --numeric_columns=speed "
        "--split=time --test_fraction=0.4 --horizons=1,3 --local_steps=2 --series_protocol=standardized",
        _config(**_VIT),
    ),
    "forecasting_with_gaps": _train(
        _FILE[:-2],
        "--data=series_gaps.csv --task=forecasting --architecture=patch_transformer --numeric_columns=speed "
        "--split=time --test_fraction=0.4 --horizons=1,3 --local_steps=2 --missing_numbers=last",
        _config(**_VIT),
    ),
    # Ensemble distillation.
    "distill_clients": [
        (
            "distill",
            [*_PLAIN_DIGITS, *_flags("--validation_fraction=0.1 --ensemble_steps=2 --ensemble_batch_size=16")]
            + ["--run_dir=run"],
        )
    ],
    "distill_groups": [
        (
            "distill",
            [*_PLAIN_DIGITS, *_GROUPS, *_flags("--validation_fraction=0.1 --ensemble_steps=2 --teachers=groups")]
            + ["--ensemble_batch_size=16", "--run_dir=run"],
        )
    ],
}
"""By name, the steps of a command: a program and its flags. Those after the first find what those before them wrote."""

_NAMES = ("ann", "bob", "eve", "joe", "kim", "lea")
_PLACES = ("home", "town", "work")
_VERBS = ("sings", "runs", "reads")
_OTHERS = ("often", "never", "is", "at", "now", "and", "where", "who")
_CLIENTS = 4


def write_files(directory: pathlib.Path) -> None:
    """Writes the files that the commands read."""
    rng = random.Random(0)
    _write_tokenizer(directory / "words")
    rows = []
    for number in range(12 * _CLIENTS):
        verb = rng.choice(_VERBS)
        words = [rng.choice(_NAMES), rng.choice(("often", "never")), verb, "at", rng.choice(_PLACES), "now"]
        rows.append(f"{number % _CLIENTS},{' '.join(words[: rng.randint(3, 6)])},{verb}")
    _write(directory / "texts.csv", ["who,text,label", *rows])
    lines = []
    for _ in range(40):
        lines += [f"{rng.choice(_NAMES)} B-PER", f"{rng.choice(_VERBS)} O", f"{rng.choice(_PLACES)} B-LOC", ""]
    _write(directory / "names.conll", lines)
    (directory / "questions.json").write_text(json.dumps({"version": "v2.0", "data": _articles(rng)}))
    starts = [rng.randrange(20) for _ in range(8)]
    events = [f"u{user},i{(start + t) % 20:02d}" for user, start in enumerate(starts) for t in range(10)]
    _write(directory / "log.csv", ["who,item", *events])
    records = [
        {"who": str(n % _CLIENTS), "dose": round(rng.gauss(100, 30), 3), "ward": rng.choice("ab")} for n in range(80)
    ]
    _write(directory / "rows.jsonl", [json.dumps({**r, "label": "ny"[r["dose"] > 100]}) for r in records])
    gaps = [f"{r['who']},{'' if n % 5 == 0 else r['dose']},{n},{'ny'[r['dose'] > 100]}" for n, r in enumerate(records)]
    _write(directory / "gaps.csv", ["who,dose,age,label", *gaps, "0,many,3,n"])
    waves = [f"s{s},{50 + s * math.sin(2 * math.pi * t / (8 + s)):.4f}" for s in range(1, 4) for t in range(60)]
    _write(directory / "series.csv", ["who,speed", *waves])
    with_gaps = [wave.split(",")[0] + ",NA" if n % 7 == 0 else wave for n, wave in enumerate(waves)]
    _write(directory / "series_gaps.csv", ["who,speed", *with_gaps])


def _write(path, lines):
    path.write_text("\n".join(lines) + "\n")


def _articles(rng):
    articles = []
    for title in range(_CLIENTS):
        paragraphs = []
        for number in range(8):
            name, place = rng.choice(_NAMES), rng.choice(_PLACES)
            context = f"bob often runs and {name} is at {place} now"
            text = place if number % 4 else ""
            answers = [{"text": text, "answer_start": context.index(place)}] if text else []
            question = {"id": f"{title}-{number}", "question": "where is " + name, "answers": answers}
            paragraphs.append({"context": context, "qas": [{**question, "is_impossible": not text}]})
        articles.append({"title": f"article {title}", "paragraphs": paragraphs})
    return articles


def _write_tokenizer(directory):
    """A tokenizer of whole words, as `PreTrainedTokenizerFast` reads it."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate([*special, *_NAMES, *_PLACES, *_VERBS, *_OTHERS])}
    pieces = {name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    one, two = (
        [{kind: {"id": name, "type_id": part}} for kind, name, part in sequence]
        for sequence in (
            [("SpecialToken", "[CLS]", 0), ("Sequence", "A", 0), ("SpecialToken", "[SEP]", 0)],
            [("SpecialToken", "[CLS]", 0), ("Sequence", "A", 0), ("SpecialToken", "[SEP]", 0), ("Sequence", "B", 1)]
            + [("SpecialToken", "[SEP]", 1)],
        )
    )
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[word], "content": word, **flags} for word in special],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing", "single": one, "pair": two, "special_tokens": pieces},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }
    config = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    directory.mkdir()
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config})
    )
