# %% [markdown]
# # 5. Clients that differ
#
# In one data centre examples are shuffled, machines are alike and nobody lies. In a federation clients have other
# data than their neighbours, some are slow, and some attack. One remedy for each: FedProx and FedGKD for data that
# differ, FedBuff for devices that differ, robust aggregation for clients that attack.

# %%
# %%tff
ROUNDS = 30  # in tests: 1
ALPHA = 0.1  # of the Dirichlet distribution of a client's labels: the smaller, the more clients differ
DEFENCES = {"mean": {}, "median": {}, "centered_clipping": {"centered_clip_norm": 1.0}}

# %%
# %%tff
from matplotlib import pyplot as plt

import tff_tx as ft

SMALL = ft.Model(config={"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64})


def digits(alpha):
    return ft.load_task(
        "image_classification", data=ft.Data("digits", clients=ft.Dirichlet(20, alpha=alpha), test=300), model=SMALL
    )


def plot(runs, column="round_num", xlabel="round"):
    for label, rows in runs.items():
        rows = rows.dropna(subset=["eval/accuracy"])
        plt.plot(rows[column], rows["eval/accuracy"], "o-", markersize=3, label=label)
    plt.xlabel(xlabel)
    plt.ylabel("accuracy on held-out images")
    plt.legend()
    plt.show()


# %% [markdown]
# ## Other data
#
# With alpha 0.1 most clients have one or two of the ten digits. FedProx holds a client's model near the one that it
# was sent, FedGKD holds its predictions there.

# %%
# %%tff
differing = digits(ALPHA)
local = {"client": ft.Adam(5e-3), "epochs": 3, "batch_size": 16}
algorithms = {
    "FedAvg": ft.FedAvg(**local),
    "FedProx": ft.FedProx(mu=0.5, **local),
    "FedGKD": ft.FedGKD(gamma=1.0, **local),
}
plot(
    {
        name: ft.Trainer(
            differing, algorithm=algorithm, clients_per_round=5, rounds_per_evaluation=3, run_dir=f"runs/{name}"
        ).fit(rounds=ROUNDS)
        for name, algorithm in algorithms.items()
    }
)

# %% [markdown]
# ## Other devices
#
# A synchronous round waits for its slowest client. FedBuff never waits: ten devices are always at work, and the
# server goes on after every second report. Devices here take a tenth of a second an example, and differ; the axis is
# their simulated time.

# %%
# %%tff
alike = digits(1.0)
devices = ft.Devices(seconds_per_example=0.1, speed_spread=1.0)
common = {"devices": devices, "rounds_per_evaluation": 3}
local = {"client": ft.Adam(2e-3), "epochs": 1, "batch_size": 16}
waiting = ft.Trainer(alike, algorithm=ft.FedAvg(**local), clients_per_round=10, run_dir="runs/waiting", **common)
buffered = ft.Trainer(
    alike, algorithm=ft.FedBuff(buffer_size=2, concurrency=10, **local), run_dir="runs/buffered", **common
)
times = {"FedAvg, 10 clients": waiting.fit(rounds=ROUNDS), "FedBuff, 2 reports": buffered.fit(rounds=3 * ROUNDS)}
plot(times, "simulated/total_seconds", "simulated seconds")

# %% [markdown]
# ## Attackers
#
# A fifth of the clients send the negative of their update, four times as large. No defence withstands every attack;
# the documentation has the table of all against all.

# %%
# %%tff
plot(
    {
        name: ft.Trainer(
            alike,
            algorithm=ft.FedAvg(client=ft.Adam(5e-3), epochs=2, batch_size=16),
            aggregation=ft.stack(ft.aggregator(name, **more)),
            attack=ft.Attack("sign_flip", share=0.2, scale=4.0),
            clients_per_round=20,
            weighted=False,
            rounds_per_evaluation=3,
            run_dir=f"runs/attacked_{name}",
        ).fit(rounds=ROUNDS)
        for name, more in DEFENCES.items()
    }
)
