# %% [markdown]
# # 9. Two companies with few customers in common
#
# A vertical federation needs many people whom both parties know. Two companies of different countries may share a few
# dozen: too few to train on, enough to translate. In federated transfer the company with the labels trains on all its
# customers. Of the few in common its head also learns to read the other company's encodings, and both companies'
# encodings are drawn together; the head then serves the other company, which has no labels at all. The head's loss on
# the common rows matters more than the distance: without it accuracy is far lower.
#
# The customers are the embedded tumours: a clinic that measured the mean cells and knows the diagnoses, and a
# laboratory that measured the worst cells and knows none.

# %%
# %%tff
EPOCHS = 8  # in tests: 1
COUNTS = (10, 25, 50, 100, 200)  # in tests: (25,)
COMPARED = ("own labels", "all in common")  # in tests: ()

# %%
# %%tff
import json
import pathlib

import pandas as pd

clinic = {"numeric": ["mean_radius", "mean_texture", "mean_smoothness"], "label": "label"}
laboratory = {"numeric": ["worst_area", "worst_concavity", "worst_symmetry"]}
SMALL = ["--dataset=breast_cancer", "--cut_size=16", "--learning_rate=0.003", f"--epochs={EPOCHS}"]


def write_flags(name, parties, *more):
    lines = [f"--parties={json.dumps(parties)}", f"--run_dir=runs/{name}", *SMALL, *more]
    pathlib.Path(f"{name}.flags").write_text("\n".join(lines))
    return name


# %% [markdown]
# ## The curve
#
# `--common_rows` says how many training rows both know. Figures are of held-out rows that the laboratory predicts
# alone, from its own columns.

# %%
# %%tff
for count in COUNTS:
    name = write_flags(f"common_{count}", {"clinic": clinic, "laboratory": laboratory}, f"--common_rows={count}")
    # !python -m programs.vertical --flagfile={name}.flags

# %% [markdown]
# ## What it is compared with
#
# With the labels that it lacks the laboratory would train a model of its own: the upper bound of its columns. If both
# knew all customers they could train a vertical model, which reads the columns of both.

# %%
# %%tff
compared = {
    "own labels": {"laboratory": {**laboratory, "label": "label"}},
    "all in common": {"clinic": clinic, "laboratory": laboratory},
}
for variant in COMPARED:
    name = write_flags(variant.replace(" ", "_"), compared[variant])
    # !python -m programs.vertical --flagfile={name}.flags

# %%
# %%tff --out table
found = {f"common_{count}": count for count in COUNTS} | {name.replace(" ", "_"): None for name in COMPARED}
table = pd.DataFrame({"run": list(found), "rows in common": list(found.values())})
table["ROC AUC"] = [pd.read_csv(f"runs/{name}/metrics.csv")["eval/roc_auc"].iloc[-1] for name in found]

# %%
from matplotlib import pyplot as plt

is_curve = table["run"].str.startswith("common_")
plt.plot(table[is_curve]["rows in common"], table[is_curve]["ROC AUC"], "o-", label="rows in common")
for _, row in table[~is_curve].iterrows():
    plt.axhline(row["ROC AUC"], linestyle=":", label=row["run"].replace("_", " "))
plt.axhline(0.5, color="gray", linestyle="--", label="chance")
plt.xlabel("rows in common")
plt.ylabel("ROC AUC of the laboratory")
plt.legend()
plt.show()

# %% [markdown]
# ## What is given away
#
# Of the rows in common both companies' encodings cross, and from encodings much of the columns can be read. Bounded and
# noised they tell less, at a price:

# %%
# %%tff
name = write_flags(
    "noised", {"clinic": clinic, "laboratory": laboratory}, "--common_rows=100", "--cut_clip=2", "--cut_noise=0.5"
)
# !python -m programs.vertical --flagfile={name}.flags
