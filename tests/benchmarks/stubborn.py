"""A contender that never ends, and starts another process, in a session of its own, that does not either."""

import os
import subprocess
import time

from benchmarks import measure

if __name__ == "__main__":
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    with open(os.environ["STUBBORN_PIDS"], "w") as told:
        told.write(f"{os.getpid()} {child.pid}\n")
    measure.parse()
    time.sleep(600)
