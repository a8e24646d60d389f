# %% [markdown]
# # 10. A federation of three
#
# Until now one program has played all clients. Here a coordinator and three participants are programs of their own,
# as they would be at four institutions: over mutual TLS, with signed messages, and by secure sums, so that the
# coordinator sees no participant's update. This notebook starts them on one machine, shows what left a participant, and
# what the coordinator received.

# %%
# %%tff
ROUNDS = 8  # in tests: 1
ROWS = 1500  # in tests: 150

# %% [markdown]
# ## Three tables
#
# Docstrings of Python's own packages, and which package each is from. Every participant has some of them, the
# coordinator has others to evaluate on.

# %%
# %%tff
import ast
import importlib.util
import pathlib

import pandas as pd

PACKAGES = ("asyncio", "email", "xml")
PARTICIPANTS = ("north", "south", "west")
rows = []
for package in PACKAGES:
    (root,) = importlib.util.find_spec(package).submodule_search_locations
    for path in sorted(pathlib.Path(root).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
                rows.append((ast.get_docstring(node), package))
table = pd.DataFrame(rows, columns=["text", "label"]).sample(frac=1, random_state=0)[:ROWS]
held_out, others = table[: ROWS // 5], table[ROWS // 5 :]
held_out.to_csv("held_out.csv", index=False)
for number, name in enumerate(PARTICIPANTS):
    others[number::3].to_csv(f"{name}.csv", index=False)
table.head(3)

# %% [markdown]
# ## Certificates
#
# An authority certifies the coordinator and each participant; only who is on its list is let in.

# %%
# %%tff
# !python -m programs.certs --role=coordinator --node=coordinator --hosts=localhost
# !for name in {" ".join(PARTICIPANTS)}; do python -m programs.certs --role=participant --node=$$name; done

# %% [markdown]
# ## Four programs
#
# The coordinator has the plan and no training data. A participant is shown the plan and asked; `--approve` answers
# with the plan's digest, which the coordinator prints.

# %%
# %%tff
import json
import re
import socket
import subprocess
import sys
import time

with socket.socket() as found:
    found.bind(("localhost", 0))
    address = f"localhost:{found.getsockname()[1]}"
MODEL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def start(program, name, *flags):
    log = open(f"{name}.log", "w")
    return subprocess.Popen([sys.executable, "-m", f"programs.{program}", *flags], stdout=log, stderr=log)


coordinator = start(
    "coordinate",
    "coordinator",
    f"--silos={','.join(PARTICIPANTS)}",
    f"--federation_address={address}",
    *("--task=sequence_classification", f"--label_names={','.join(PACKAGES)}", "--test_data=held_out.csv"),
    *("--architecture=bert", "--tokenizer=bytes", "--max_length=64", f"--model_config={json.dumps(MODEL)}"),
    *("--partition=iid", "--num_clients=1", "--clients_per_round=3", "--local_epochs=1", "--batch_size=16"),
    *("--client_learning_rate=0.005", f"--rounds={ROUNDS}", "--rounds_per_evaluation=1"),
    *("--secure_aggregation=masks", "--run_dir=runs/federation"),
)
while (plan := re.search(r"^Plan (\S+)", pathlib.Path("coordinator.log").read_text(), re.M)) is None:
    assert coordinator.poll() is None, pathlib.Path("coordinator.log").read_text()
    time.sleep(0.2)
participants = [
    start(
        *("participate", name, f"--coordinator={address}", f"--certificate=certs/{name}", f"--data={name}.csv"),
        *(f"--state_dir=state/{name}", f"--approve={plan[1]}"),
    )
    for name in PARTICIPANTS
]
code = coordinator.wait()
for participant in participants:  # they would stay, for the next plan
    participant.terminate()
    participant.wait()
assert code == 0, pathlib.Path("coordinator.log").read_text()

# %%
# %%tff --out history
history = pd.read_csv("runs/federation/metrics.csv")[["round_num", "train/loss", "eval/accuracy"]]

# %%
history.round(3)

# %% [markdown]
# ## What left a participant
#
# Its audit log, in which each entry has the digest of the one before. No update is among them: `input` is masked.

# %%
# %%tff
# !python -m programs.participate --state_dir=state/north --check_log

# %% [markdown]
# ## What the coordinator saw
#
# The protocol of a round in slow motion, between the same three certificates. In place of an update each participant
# sends a picture of a digit, 64 whole numbers. `received` is all that the coordinator gets of the picture of `north`.

# %%
# %%tff --out pictures
import numpy as np
from sklearn.datasets import load_digits

from tff_tx.federation.secure_sums import Authority, Client, Identity, Server, Terms, Threat, Vector, packing

identities = [Identity.load(f"certs/{name}") for name in PARTICIPANTS]
authority = Authority.load("certs/coordinator", participants=PARTICIPANTS)
vector, threat = Vector("picture", 64, 2**20), Threat(colluding=0.0, dropping=0.34, active=False)
terms = Terms("a run", 1, b"the model's digest".ljust(32), (vector,), threat, len(PARTICIPANTS))
clients = {one.fingerprint: Client(terms, one, authority) for one in identities}
inputs = dict(zip(clients, load_digits().data[[0, 1, 7]].astype(np.int64)))
server = Server(terms, authority)


def phase(requests, step, **more):
    for name, request in requests.items():
        answer = getattr(clients[name], step)(*request, *more.get("inputs", {}).get(name, ()))
        if step == "masked_input" and name == identities[0].fingerprint:
            more["seen"].append(packing.unpack(answer.vectors[0], vector.length, vector.ring))
        server.receive(name, answer)
    return {name: (message,) for name, message in server.advance().items()}


seen = []
requests = phase({name: () for name in clients}, "advertise")
requests = phase(requests, "share_keys")
requests = phase(requests, "masked_input", inputs={name: ([own],) for name, own in inputs.items()}, seen=seen)
requests = phase(requests, "sign_survivors")
phase(requests, "unmask")
(total,) = server.sums
assert (total == sum(inputs.values())).all()
pictures = np.stack([inputs[identities[0].fingerprint], seen[0], total]).reshape(3, 8, 8)

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(1, 3, figsize=(7, 2.6))
for axis, title, picture in zip(axes, ("north has", "received", "sum of three"), pictures):
    axis.imshow(picture, cmap="gray")
    axis.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# The middle one is uniform noise: whatever north has, it looks like this. Only the masks of all three cancel. The
# documentation has the protocol, what it protects against whom, and what not.
