"""Command-line programs: `python -m programs.NAME --help`."""

import gc
import os
import sys
import warnings

try:
    from programs import interrupts

    if sys.argv[0] == "-m":  # a program starts, and imports take seconds
        interrupts.install()
    from tff_tx.core import quick_imports
except ImportError as error:  # not of this platform
    print(error, file=sys.stderr)
    sys.exit(2)

# Libraries' notes would drown the programs' own words. TensorFlow reads this when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")

# Millions of objects are made by the imports, and nearly all stay: to look through them for garbage again and again
# takes a quarter of the imports' time. `cli` returns to what is usual.
usual_gc_threshold = gc.get_threshold()
gc.set_threshold(1_000_000)

quick_imports.install()
