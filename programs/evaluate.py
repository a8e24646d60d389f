"""Evaluates a trained model on held-out clients.

`python -m programs.evaluate --run_dir=runs/digits` evaluates a run on its own test clients;
`--model=DIR --task=... --dataset=...` a model directory on any data. Prints the metrics over all the
data and their spread over the clients, and writes both as JSON, with a plot. Among them are ROUGE of what is
written, and exact match and F1 of what is answered, by words.
"""

from __future__ import annotations

import os

import tensorflow_federated as tff
from absl import flags

from programs import cli, data_flags, model_flags, run_task, training_flags
from tff_tx import datasets, inference, runtime, tasks
from tff_tx.core import files
from tff_tx.core.errors import UserError
from tff_tx.run import evaluation, reporting

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The directory of a run.")
flags.DEFINE_string("model", None, "A model directory, in place of a run.")
flags.DEFINE_enum("split_name", "test", ["train", "validation", "test"], "The clients to evaluate on.")
flags.DEFINE_string("output_dir", None, "Where results go; default: evaluation/ in --run_dir or --model.")
flags.DEFINE_integer("seed", 1, "Decides dealing and splitting with --model.", lower_bound=0)
flags.DEFINE_integer("eval_batch_size", 32, "Examples a batch.", lower_bound=1)
flags.DEFINE_boolean("words", True, "Whether texts are written, or questions answered, to be scored by their words.")
flags.DEFINE_integer("num_beams", 1, "Beams of the search for what is written.", lower_bound=1)


def main(_) -> None:
    """Evaluates and writes the results."""
    if (FLAGS.run_dir is None) == (FLAGS.model is None):
        raise UserError(
            f"--run_dir={FLAGS.run_dir} and --model={FLAGS.model}: set exactly one, the run or the model to evaluate."
        )
    runtime.configure_tensorflow()
    kind, data, model = _description()
    task = tasks.create_task(kind, data, model, training_flags.local_training(), eval_batch_size=FLAGS.eval_batch_size)
    clients = getattr(task, FLAGS.split_name)
    if clients is None:
        raise UserError(
            f"--split_name={FLAGS.split_name}: the data have no such split; choose another, or hold some "
            "out with --test_fraction, --validation_fraction or files of their own."
        )
    output_dir = FLAGS.output_dir or os.path.join(FLAGS.run_dir or FLAGS.model, "evaluation")
    files.make_directory(output_dir, "--output_dir")
    evaluator = evaluation.Evaluator(task.model, task.eval_batches_fn(clients), training_flags.threads())
    weights = tff.learning.models.ModelWeights(*task.model.initial_weights)
    overall, by_client = evaluator.evaluate(weights, clients.client_ids, show_progress=True)
    if FLAGS.words and task.definition.score_metrics:
        options = {"batch_size": FLAGS.eval_batch_size, "num_beams": FLAGS.num_beams}
        predictor = inference.build_predictor(
            kind, task.model.keras_model, model, data=data, tokenizer=task.tokenizer, **options
        )
        scores = predictor.score_split(FLAGS.split_name)
        by_client = by_client.join(scores.groupby("client").mean())
        overall.update(scores.drop(columns="client").mean())
    spread = evaluation.spread(by_client, task.metrics)
    path = os.path.join(output_dir, f"{FLAGS.split_name}.json")
    files.write_json(
        path,
        {
            "overall": overall,
            "over_clients": spread.to_dict("index"),
            "clients": by_client.to_dict("index"),
        },
    )
    plot = reporting.plot_spread(by_client, task.metrics, os.path.join(output_dir, f"{FLAGS.split_name}.png"))
    print(f"Over all {overall['num_examples']:,} examples of {len(by_client):,} clients:")
    for name, value in overall.items():
        print(f"  {name:<16}{value:>12.4f}" if isinstance(value, float) else f"  {name:<16}{value:>12,}")
    print("Over clients:")
    print(spread.to_string(float_format="%.4f"))
    print(f"Written: {path}, {plot}")


def _description() -> tuple[str, datasets.DataSpec, tasks.ModelSpec]:
    """The kind of task, the data and the model."""
    if FLAGS.model is None:
        return run_task.description_of_run(FLAGS.run_dir, run_task.data_of_flags())
    model = tasks.ModelSpec(
        pretrained=FLAGS.model,
        max_length=FLAGS.max_length,
        max_target_length=FLAGS.max_target_length,
        context_overlap=FLAGS.context_overlap,
        max_answer_length=FLAGS.max_answer_length,
        context_length=FLAGS.context_length,
        horizons=model_flags.horizons(),
    )
    return model_flags.task_kind(), data_flags.data_spec(FLAGS.seed), model


if __name__ == "__main__":
    cli.run(main)
