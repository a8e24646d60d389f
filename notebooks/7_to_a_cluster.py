# %% [markdown]
# # 7. From the notebook to a cluster, and back
#
# A run is one configuration: a notebook, a command line and a cluster execute the same one, and reach the same
# numbers. This notebook takes a run from here to a command, interrupts and resumes it, runs it on Ray, and brings its
# results back.

# %%
# %%tff
ROUNDS = 10  # in tests: 2

# %%
# %%tff
import shlex

import tff_tx as ft

task = ft.load_task(
    "image_classification",
    data=ft.Data("digits", clients=ft.Dirichlet(20, alpha=1.0), test=300),
    model=ft.Model(config={"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}),
)


def trainer_in(run_dir, **more):
    return ft.Trainer(
        task,
        algorithm=ft.FedAvg(client=ft.Adam(5e-3), epochs=2, batch_size=16),
        clients_per_round=5,
        rounds=ROUNDS,
        rounds_per_evaluation=2,
        run_dir=run_dir,
        **more,
    )


here = trainer_in("runs/here").fit()

# %% [markdown]
# ## As a command
#
# `as_flags()` is the command line of the same run, which a scheduler can start on a machine without Jupyter.

# %%
# %%tff
flags = shlex.join(trainer_in("runs/command").as_flags())
print("python -m programs.train", flags)

# %%
# %%tff
# !python -m programs.train {flags}

# %% [markdown]
# The same command again finds the run finished, and had it been killed it would go on from its last checkpoint. And
# the numbers are the same, to the bit:

# %%
# %%tff
command = trainer_in("runs/command").history
assert (command["train/loss"] == here["train/loss"]).all()
command[["round_num", "train/loss", "eval/accuracy"]].dropna()

# %% [markdown]
# ## On Ray
#
# One argument changes the engine. Without an address Ray starts on this machine; with `ft.Ray("head:6379")` it is a
# cluster, and with `silos` the training data stay on the machines of their owners.

# %%
# %%tff
cluster = trainer_in("runs/ray", engine=ft.Ray()).fit()
abs(cluster["train/loss"] - here["train/loss"]).max()

# %% [markdown]
# ## And back
#
# What a run leaves is files: here its report, its metrics and its model, wherever it was made.

# %%
# %%tff
from IPython.display import Markdown

Markdown(open("runs/command/report.md", encoding="utf-8").read().split("## Training")[0])

# %%
# %%tff --out metrics
import pandas as pd

metrics = pd.read_csv("runs/command/metrics.csv")

# %%
_ = metrics.set_index("round_num")["train/loss"].plot(figsize=(6, 3), ylabel="training loss")
