# %% [markdown]
# # 8. Bank and shop
#
# So far all clients had the same columns of different people. Here two parties know different columns of the same
# people: a bank has their demography and the label, a shop their work and money. This notebook finds the people in
# common without exchanging identifiers, trains one Transformer whose halves stay with their parties, counts the bytes
# that cross, and measures what they give away.
#
# The people are the census of Adult where the file is at hand (`DATA/adult/adult_test.csv`), otherwise tumours, of
# which one clinic has measured the mean and another the worst cell.

# %%
# %%tff
ROWS = 3000  # in tests: 300
EPOCHS = 6  # in tests: 1
VARIANTS = ("bank alone", "both", "float16")  # in tests: ("both",)
HIJACKING_STEPS = 300  # in tests: 5

# %% [markdown]
# ## Two tables
#
# Each party has 90 % of the people, in an order of its own, and writes identifiers in its own way.

# %%
# %%tff
import json
import os
import pathlib

import pandas as pd

adult = pathlib.Path(os.environ.get("DATA", "."), "adult", "adult_test.csv")
if adult.exists():
    people = pd.read_csv(adult, nrows=ROWS).rename(columns={"classification": "label"})
    bank = {"numeric": ["age", "education-num"], "categorical": ["marital-status", "relationship", "race", "sex"]}
    shop = {"numeric": ["capital-gain", "capital-loss", "hours-per-week"], "categorical": ["workclass", "occupation"]}
else:
    from sklearn.datasets import load_breast_cancer

    tumours = load_breast_cancer(as_frame=True)
    people = tumours.data[:ROWS].rename(columns=lambda name: name.replace(" ", "_")).rename_axis("id").reset_index()
    people["id"] = people["id"].map("case-{:04d}".format)
    people["label"] = tumours.target_names[tumours.target[:ROWS]]
    bank = {"numeric": ["mean_radius", "mean_texture", "mean_smoothness"]}
    shop = {"numeric": ["worst_area", "worst_concavity", "worst_symmetry"]}


def columns_of(party):
    return [*party["numeric"], *party.get("categorical", ())]


of_bank, of_shop = (people.sample(frac=0.9, random_state=seed) for seed in (1, 2))
of_bank[["id", *columns_of(bank), "label"]].to_csv("bank.csv", index=False)
of_shop.assign(id=of_shop["id"].str.upper())[["id", *columns_of(shop)]].to_csv("shop.csv", index=False)
of_shop.head(3)[["id", *columns_of(shop)]]

# %% [markdown]
# ## Whom both know
#
# A private set intersection: each party masks the hashes of all identifiers by a secret of its own, and equal points
# are equal identifiers. Neither learns whom else the other knows. Between real parties each gives this command with its
# own table, and the address of the other.

# %%
# %%tff
# !python -m programs.align --ids=bank.csv,shop.csv --id_columns=id --output_dir=aligned

# %% [markdown]
# The order that each party gets has the numbers of its own rows, and no identifier:

# %%
# %%tff
order = json.loads(pathlib.Path("aligned/bank.json").read_text())
assert len(order["rows"]) == len(set(of_bank["id"]) & set(of_shop["id"]))
{name: value[:5] if isinstance(value, list) else value for name, value in order.items()}

# %% [markdown]
# ## Training
#
# Each party's *bottom* makes tokens of its columns, the *top* at the bank attends over the tokens of both. What the
# shop sends of a batch are its tokens, what comes back are their gradients: the step is that of the joint model on
# pooled columns. `float16` sends half of the bytes.

# %%
# %%tff
bank_party = {"files": ["bank.csv"], "order": "aligned/bank.json", **bank, "label": "label"}
shop_party = {"files": ["shop.csv"], "order": "aligned/shop.json", **shop}


def write_flags(variant):
    parties = {"bank": bank_party} if variant == "bank alone" else {"bank": bank_party, "shop": shop_party}
    name = variant.replace(" ", "_")
    flags = ["--cut_size=16", "--batch_size=64", "--learning_rate=0.003", f"--epochs={EPOCHS}"]
    flags += [f"--run_dir=runs/{name}", f"--cut_dtype={'float16' if variant == 'float16' else 'float32'}"]
    pathlib.Path(f"{name}.flags").write_text("\n".join([f"--parties={json.dumps(parties)}", *flags]))
    return name


for variant in VARIANTS:
    name = write_flags(variant)
    # !python -m programs.vertical --flagfile={name}.flags

# %% [markdown]
# ## Accuracy and bytes
#
# Of rows that were held out; bytes a row are those that the shop sent and received.

# %%
# %%tff --out table
runs = {variant: pd.read_csv(f"runs/{variant.replace(' ', '_')}/metrics.csv").iloc[-1] for variant in VARIANTS}
table = pd.DataFrame(runs).T[["eval/accuracy", "eval/roc_auc"]]
table["bytes a row"] = [r["comm/upload_bytes_per_row"] + r["comm/download_bytes_per_row"] for r in runs.values()]
table["bytes a step"] = [r["comm/bytes_per_step"] for r in runs.values()]

# %%
table.astype(float).round(3)

# %% [markdown]
# ## Without the shop
#
# The trained model needs the shop for each prediction. With `--missing=0.3` in training it learns to do without; this
# one has not:

# %%
# %%tff
# !python -m programs.vertical --flagfile=both.flags --action=evaluate --without=shop

# %% [markdown]
# ## What crosses gives away
#
# Nobody sends columns or labels, but gradients tell labels and activations tell columns. The audit attacks the run in
# one more epoch and says how well, without a defence and with each: 0.5 is nothing for an AUC, 0 for an R^2.

# %%
# %%tff
# !python -m programs.audit --vertical --run_dir=runs/both --hijacking_steps={HIJACKING_STEPS}

# %% [markdown]
# Gradients tell the shop labels of the bank's people, and activations tell the bank the shop's columns. Against the
# first there is `--gradient_defence` and, with a guarantee, `--label_epsilon`; against the second `--cut_clip` and
# `--cut_noise`. The documentation has the price of each.
