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


def launch():
    """Starts ipykernel, whose outputs wait until they are read, however many they are; its own drops them."""
    import zmq
    from ipykernel.kernelapp import IPKernelApp

    class App(IPKernelApp):
        def init_iopub(self, context):
            context.setsockopt(zmq.SNDHWM, 0)
            super().init_iopub(context)

    App.launch_instance()


if __name__ == "__main__":
    threading.Thread(target=_follow, args=(int(sys.argv.pop(1)),), daemon=True).start()
    launch()
