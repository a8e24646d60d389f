"""Programs on a Ray cluster as users start it: `ray start`, TLS, a killed coordinator."""

import contextlib
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time

import grpc
import pandas as pd
import portpicker
import psutil
import pytest

from tests.complaints import complaint
from tests.processes import ROOT, run, start
from tff_tx import datasets

TINY_VIT = (
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
)
DIGITS = ["--dataset=digits", "--num_clients=6", "--clients_per_round=4", "--local_steps=2", TINY_VIT]
TINY_BERT = (
    '--model_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}'
)
SILO_FLAGS = [
    *("--engine=ray", "--ray_address=127.0.0.1:1", "--dataset=file", "--data=/srv/{silo}.csv"),
    *("--task=image_classification", "--architecture=vit"),
]
RAY = pathlib.Path(sys.executable).parent / "ray"


@pytest.fixture
def raylets(tmp_path_factory):
    """Starts raylets with `ray start`, in environments of their own; all end with the test."""
    started, directory = [], tmp_path_factory.mktemp("r")

    def start_node(*flags, cwd=None, **environment):
        process = subprocess.Popen(
            [str(RAY), "start", "--block", "--disable-usage-stats", *flags],
            env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": f"/tmp/r{directory.name}", **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=cwd,
        )
        started.append(process)
        return process

    yield start_node
    for process in started:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for child in (*children, process):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        process.wait()
    shutil.rmtree(f"/tmp/r{directory.name}", ignore_errors=True)


def test_certificates_are_for_their_hosts_and_keys_for_their_owner(tmp_path):
    out, _ = run("certs", "--directory=certs", "--node=head", "--hosts=10.0.0.7,head.example", cwd=tmp_path)
    assert "RAY_TLS_CA_CERT" in out
    run("certs", "--directory=certs", "--node=second", cwd=tmp_path)
    certs = tmp_path / "certs"
    for node in ("head", "second"):
        subprocess.run(["openssl", "verify", "-CAfile", certs / node / "ca.crt", certs / node / "node.crt"], check=True)
        assert stat.S_IMODE((certs / node / "node.key").stat().st_mode) == 0o600
    text = subprocess.run(
        ["openssl", "x509", "-in", certs / "head" / "node.crt", "-noout", "-ext", "subjectAltName"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "IP Address:10.0.0.7" in text
    assert "DNS:head.example" in text
    _, err = run("certs", "--directory=certs", "--node=head", cwd=tmp_path, code=2)
    assert "exists already" in err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--ray_address=auto"], "--ray_address=auto has no effect with --engine=local"),
        (["--silos=north,south"], "--silos=north,south"),
        (["--engine=ray", "--silos=north"], "--silos=north"),
        ([*SILO_FLAGS, "--silos=north,north"], "--silos=north,north has a name twice"),
        ([*SILO_FLAGS, "--silos=north", "--test_fraction=0.2"], "held-out data would be taken from the silos"),
        ([*SILO_FLAGS, "--silos=north", "--canaries=2"], "canaries are clients of no silo"),
    ],
)
def test_mistakes(flags, sentence):
    assert sentence in complaint(*DIGITS, *flags)


def test_a_cluster_without_certificates_is_rejected(tmp_path, cache):
    flags = ["--engine=ray", "--ray_tls_dir=nowhere", "--run_dir=run", cache]
    _, err = run("train", *DIGITS, *flags, cwd=tmp_path, code=2)
    assert "nowhere/node.crt cannot be read" in err
    assert not (tmp_path / "run").exists()


def stable(run_dir):
    table = pd.read_csv(run_dir / "metrics.csv", dtype=str)
    return table[[c for c in table if not c.startswith("time/")]]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_killed_coordinator_goes_on_where_it_was(tmp_path, cache):
    """The same numbers to the bit, about those of the local engine, and nobody of the killed one left."""
    flags = [*DIGITS, "--rounds=4", "--rounds_per_evaluation=2", "--rounds_per_checkpoint=1", cache]
    run("train", *flags, "--engine=ray", "--run_dir=whole", cwd=tmp_path)
    process = start("train", *flags, "--engine=ray", "--run_dir=killed", cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "checkpoints" / "round_1").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 60  # what docs/cluster.md says
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in started):
        assert time.monotonic() < deadline, started
        time.sleep(0.1)
    run("train", *flags, "--engine=ray", "--run_dir=killed", cwd=tmp_path)
    pd.testing.assert_frame_equal(stable(tmp_path / "killed"), stable(tmp_path / "whole"))
    weights = [(tmp_path / d / "model" / "model.safetensors").read_bytes() for d in ("killed", "whole")]
    assert weights[0] == weights[1]
    run("train", *flags, "--run_dir=local", cwd=tmp_path)
    ours, theirs = (pd.read_csv(tmp_path / d / "metrics.csv") for d in ("whole", "local"))
    for name in ("train/loss", "eval/loss", "eval/accuracy"):
        pd.testing.assert_series_equal(ours[name], theirs[name], rtol=1e-4)
    used, read, idle = (ours[f"time/{name}_seconds"] for name in ("busy", "reading", "idle"))
    pd.testing.assert_series_equal(ours["time/idle_share"], idle / (used + read + idle), check_names=False)


@pytest.mark.slow
@pytest.mark.cluster
def test_nodes_without_this_project_are_told(tmp_path, raylets, cache):
    port = portpicker.pick_unused_port()
    package = tmp_path / "broken" / "tff_tx"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not for this Python')")
    raylets("--head", "--include-dashboard=false", f"--port={port}", "--num-cpus=1", PYTHONPATH=str(package.parent))
    wait_for_head(port)
    flags = [*DIGITS, "--rounds=1", "--engine=ray", f"--ray_address=127.0.0.1:{port}", cache]
    _, err = run("train", *flags, "--run_dir=run", cwd=tmp_path, code=2, forked=False)
    assert "no worker starts on any node of the cluster" in err


SILOS = {
    "north": ["a,cold,ice and snow", "a,warm,mild air", "b,cold,frost", "b,cold,more frost"],
    "south": ["a,hot,sun on sand", "c,warm,mild rain", "c,hot,no rain"],
    "west": ["a,warm,wind from the sea", "a,cold,a cold wind"],
}
HERE = "/proc/self/cwd"
"""The directory of whoever opens it: one path that is another place for each node, and for the coordinator."""
TEXTS = [
    *("--dataset=file", "--task=sequence_classification", "--architecture=bert", "--tokenizer=bytes", TINY_BERT),
    *("--max_length=16", "--client_column=who", "--clients_per_round=4", "--batch_size=2", "--rounds=3"),
    *(f"--cache_dir={HERE}/cache", "--rounds_per_evaluation=1"),
]


def write_notes(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["who,label,text", *rows]) + "\n")


@pytest.mark.slow
@pytest.mark.cluster
def test_three_silos_train_on_files_that_the_coordinator_cannot_open(tmp_path, raylets):
    """As one engine that has all of the data does, while the paths lead the coordinator nowhere."""
    port = portpicker.pick_unused_port()
    coordinator, pooled = tmp_path / "coordinator", tmp_path / "pooled"
    held_out = ["z,hot,heat", "z,cold,much snow", "y,warm,mild"]
    write_notes(coordinator / "test.csv", held_out)
    write_notes(pooled / "test.csv", held_out)
    write_notes(pooled / "notes.csv", [f"{silo}/{row}" for silo, rows in SILOS.items() for row in rows])
    memory = "--object-store-memory=100000000"
    raylets("--head", "--include-dashboard=false", f"--port={port}", "--num-cpus=0", memory, cwd=coordinator)
    wait_for_head(port)
    for number, (silo, rows) in enumerate(SILOS.items(), start=2):
        write_notes(tmp_path / silo / "notes.csv", rows)
        label = f'--resources={{"silo_{silo}": 1}}'
        raylets(f"--address=127.0.0.1:{port}", "--num-cpus=1", label, memory, cwd=tmp_path / silo)
        wait_for_nodes(port, number)  # two that start at once may take the same socket
    flags = [*TEXTS, "--engine=ray", f"--ray_address=127.0.0.1:{port}", "--run_dir=run"]
    data, test, silos = f"--data={HERE}/notes.csv", "--test_data=test.csv", f"--silos={','.join(SILOS)}"

    _, err = run("train", *flags, data, "--silos=north,east", cwd=coordinator, code=2, forked=False)
    assert "no node of the cluster has the resource silo_east (there are the silos: north, south, west)" in err
    (tmp_path / "west" / "notes.csv").rename(tmp_path / "west" / "away.csv")
    _, err = run("train", *flags, data, test, silos, cwd=coordinator, code=2, forked=False)
    assert f"silo west: --data: there is no file '{HERE}/notes.csv'" in err.strip().splitlines()[-1]
    assert not (coordinator / "run").exists()
    (tmp_path / "west" / "away.csv").rename(tmp_path / "west" / "notes.csv")

    run("train", *flags, data, test, silos, cwd=coordinator, forked=False)
    run("train", *TEXTS, data, test, "--run_dir=run", cwd=pooled, forked=False)
    ours, theirs = (pd.read_csv(place / "run" / "metrics.csv") for place in (coordinator, pooled))
    names = [name for name in theirs if not name.startswith("time/")]
    pd.testing.assert_frame_equal(ours[names], theirs[names], rtol=1e-4)
    assert (ours["clients/finished"] == 4).all()
    assert ours["eval/loss"].notna().all()
    assert not (coordinator / "notes.csv").exists()
    held_out_store = (coordinator / "cache").glob("**/*.sqlite")
    assert [datasets.open_store(str(path)).summary() for path in held_out_store] == [
        {"train": {"clients": 2, "examples": 3}}
    ]
    for silo, rows in SILOS.items():
        (store,) = (tmp_path / silo / "cache").glob("**/*.sqlite")
        assert store.parent == tmp_path / silo / "cache" / "silos" / silo
        assert datasets.open_store(str(store)).summary()["train"]["examples"] == len(rows)
    _, err = run("evaluate", "--run_dir=run", cwd=coordinator, code=2)
    assert "--run_dir=run was trained on data of the silos north, south, west" in err


def wait_for_nodes(port, number):
    code = (
        f"import ray, time; ray.init('127.0.0.1:{port}', log_to_driver=False)\n"
        f"while sum(n['Alive'] for n in ray.nodes()) < {number}: time.sleep(0.2)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, stderr=subprocess.DEVNULL)


def wait_for_head(port):
    """Asks with a program of its own, as Ray connects a process once."""
    code = f"import ray; ray.init('127.0.0.1:{port}', log_to_driver=False)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.cluster
def test_with_tls_a_peer_without_a_certificate_is_refused(tmp_path, raylets, cache):
    run("certs", "--directory=certs", "--node=head", cwd=tmp_path)
    run("certs", "--directory=others", "--node=head", cwd=tmp_path)
    mine, others = tmp_path / "certs" / "head", tmp_path / "others" / "head"
    port = portpicker.pick_unused_port()
    variables = {"RAY_USE_TLS": "1"}
    variables.update({f"RAY_TLS_{n}": str(mine / f) for n, f in TLS_FILES.items()})
    raylets("--head", "--include-dashboard=false", f"--port={port}", "--num-cpus=1", **variables)

    def answers(credentials):
        address = f"127.0.0.1:{port}"
        channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
        try:
            grpc.channel_ready_future(channel).result(timeout=20 if credentials is certified else 5)
            # An insecure peer connects, and is hung up on at its first word.
            check = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
            return check is not None
        except grpc.FutureTimeoutError:
            return False
        except grpc.RpcError as error:
            return error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
        finally:
            channel.close()

    def credentials(authority, holder=None):
        files = () if holder is None else ((holder / "node.key").read_bytes(), (holder / "node.crt").read_bytes())
        return grpc.ssl_channel_credentials((authority / "ca.crt").read_bytes(), *files)

    certified = credentials(mine, mine)
    deadline = time.monotonic() + 60
    while not answers(certified):
        assert time.monotonic() < deadline
    assert not answers(None)
    assert not answers(credentials(mine))
    assert not answers(credentials(mine, others))
    flags = [*DIGITS, "--rounds=1", "--engine=ray", f"--ray_address=127.0.0.1:{port}", cache]
    run("train", *flags, f"--ray_tls_dir={mine}", "--run_dir=encrypted", cwd=tmp_path, forked=False)
    _, err = run("train", *flags, "--run_dir=plain", cwd=tmp_path, code=2, forked=False)
    assert "there is no Ray cluster to join" in err


TLS_FILES = {"SERVER_CERT": "node.crt", "SERVER_KEY": "node.key", "CA_CERT": "ca.crt"}
