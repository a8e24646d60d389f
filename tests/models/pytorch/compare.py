"""Loads models as a user of PyTorch does and compares their outputs; run by the Python of .venv-pytorch.

Each directory of the one that is given has a model, and `io.npz` with its inputs and the outputs to find. Prints a line
a directory as JSON: the largest difference in units of the largest output, and what of the checkpoint was missing,
unexpected or of another shape.
"""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
for directory in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    arrays = dict(np.load(directory / "io.npz"))
    expected, auto = arrays.pop("expected"), str(arrays.pop("auto_class")).removeprefix("TF")
    model, info = getattr(transformers, auto).from_pretrained(directory, output_loading_info=True)
    with torch.no_grad():
        found = model.eval()(**{name: torch.from_numpy(value) for name, value in arrays.items()})
    difference = float(np.abs(found[0].numpy() - expected).max() / np.abs(expected).max())
    faults = sorted(str(key) for keys in info.values() for key in keys)
    print(json.dumps({"name": directory.name, "difference": difference, "faults": faults}), flush=True)
