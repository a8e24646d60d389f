"""What PyTorch's pipelines make of recordings; run by the Python of .venv-pytorch.

Arguments: the task, the directory of the model, and WAV files of 16 bits. Prints a line a file, as JSON.
"""

import json
import sys
import wave

import numpy as np
import transformers

task, directory, *paths = sys.argv[1:]
pipeline = transformers.pipeline(task, model=directory)
for path in paths:
    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    print(json.dumps(pipeline(samples.astype(np.float32) / 2**15)), flush=True)
