# Finds a checkout of tff_tx, or fetches one, and the Python 3.9 to 3.11 that TensorFlow Federated needs.
import os
import pathlib
import shutil
import subprocess
import sys

SOURCE = os.environ.get("TFF_TX_SOURCE", "")
here = pathlib.Path.cwd()
places = [here, *here.parents, here / "tff_tx_checkout"]
if SOURCE and shutil.which("git") and not any((place / "notebooks" / "tff_cells").is_dir() for place in places):
    subprocess.run(["git", "clone", "--quiet", "--depth=1", SOURCE, str(places[-1])])
root = next((place for place in places if (place / "notebooks" / "tff_cells").is_dir()), None)
if root is None:
    reason = f"{SOURCE} cannot be cloned" if SOURCE else "TFF_TX_SOURCE names no repository to clone"
    sys.exit(f"{here} is in no checkout of tff_tx, and {reason}: start Jupyter in a checkout, or set TFF_TX_SOURCE.")
sys.path.insert(0, str(root / "notebooks"))
# %load_ext tff_cells
