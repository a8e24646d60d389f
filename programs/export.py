"""Exports a run's trained model for other runtimes.

`python -m programs.export --run_dir=runs/digits --format=tflite` writes a directory with the model as a SavedModel
(TensorFlow Serving), for TensorFlow Lite or as ONNX, which has been run and computes the same, with the configuration
and the tokenizer or image processor. With `--client=7` it is the model of that client, and with `--format=pretrained` a
directory as transformers opens it.
"""

from __future__ import annotations

from programs import cli
from tff_tx.config.tools import ExportConfig
from tff_tx.core.errors import UserError, setting


def main(settings: cli.Settings) -> None:
    own = settings[ExportConfig]
    if own.run_dir is None:
        raise UserError(f"{setting('export.run_dir')} is not set: name the directory of a run.")
    from tff_tx.run import directory
    from tff_tx.run.assemble.trained import export_run

    path, inputs = export_run(directory.read_run(own.run_dir), own.format, own.output, own.client)
    for name, spec in inputs.items():
        print(f"input {name}: {spec.dtype.name} [{', '.join('any' if n is None else str(n) for n in spec.shape)}]")
    print(f"Written: {path}")


PROGRAM = cli.Program(main, ExportConfig)

if __name__ == "__main__":
    PROGRAM.run()
