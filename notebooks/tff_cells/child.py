"""A kernel that dies with its parent, however that ends: `python -m tff_cells.child PARENT -f FILE`."""

import os
import signal
import sys
import threading
import time


def _follow(parent):
    """Kills this process group as soon as the parent is gone; ipykernel itself notices only what init adopts."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_follow, args=(int(sys.argv.pop(1)),), daemon=True).start()
    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
