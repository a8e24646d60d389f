"""A program with a worker of TFF's runtime, which says when it is ready.

    python -m tests.runtime.native_program exit|close|wait

It ends by itself, closes its engine before, or waits for what ends it.
"""

import sys
import time

from tests import tiny
from tff_tx import algorithms
from tff_tx.runtime import NativeEngine


def main(end):
    options = algorithms.Options(
        lambda rate: algorithms.build_optimizer("sgd", rate), algorithms.build_optimizer("sgd", 1.0)
    )
    engine = NativeEngine(algorithms.build_fed_avg(tiny.linear_model(), options))
    engine.initialize()
    print("ready", flush=True)
    if end == "wait":
        time.sleep(600)
    if end == "close":
        engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
