"""Command-line programs: `python -m programs.NAME --help`."""

import os
import warnings

# Libraries' notes would drown the programs' own words. TensorFlow reads this when it is imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
