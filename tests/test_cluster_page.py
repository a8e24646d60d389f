"""The commands of docs/cluster.md, in their order, as far as one machine can be several."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import portpicker
import psutil
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text()
COMMANDS = [shlex.split(block) for block in re.findall(r"```bash\n\s*(.*?)\n\s*```", PAGE)]
SHORT = ["--rounds=1", "--clients_per_round=2", "--max_examples=4", "--batch_size=2", "--warmup_rounds=0"]


def test_there_are_five_to_a_cluster():
    assert [words[:2] for words in COMMANDS[:5]] == [
        ["python", "-m"],
        ["ray", "start"],
        ["ray", "start"],
        ["python", "-m"],
        ["ray", "stop"],
    ]


@pytest.mark.slow
@pytest.mark.cluster
def test_five_commands_lead_from_laptop_to_cluster(tmp_path):
    (tmp_path / "programs").symlink_to(ROOT / "programs")
    port = portpicker.pick_unused_port()
    environment = {
        **os.environ,
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": f"/tmp/tff{port}",
    }
    values = {"$HEAD": "127.0.0.1", "$SHARED": str(tmp_path / "shared"), "6379": str(port)}
    started = []
    try:
        for words in COMMANDS[:4]:
            for name, value in values.items():
                words = [word.replace(name, value) for word in words]
            if words[:2] == ["ray", "start"]:
                processors = [] if "--head" in words else ["--num-cpus=1"]
                command = [*words, *processors, "--block"]
                started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL))
                time.sleep(10)
            else:
                subprocess.run([*words, *SHORT], cwd=tmp_path, env=environment, check=True, timeout=400)
        assert (tmp_path / "runs" / "laptop" / "report.md").exists()
        assert (tmp_path / "runs" / "cluster" / "report.md").exists()
    finally:
        # `ray stop` itself would end those of others on this machine as well.
        for process in started:
            for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
                child.kill()
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(["rm", "-rf", environment["RAY_TMPDIR"]], check=True)
