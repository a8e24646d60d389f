# %% [markdown]
# # 3. Privacy: what an epsilon buys
#
# Without noise a model may remember whom it was trained on. With client-level differential privacy it provably cannot
# do so much, and the bound is epsilon. This notebook chooses the noise before training, trains with several epsilons,
# reads the statement of what is guaranteed, and attacks the mechanism to see whether the bound can be true.

# %%
# %%tff
ROUNDS = 30  # in tests: 1
EPSILONS = (0.25, 1, 4)  # in tests: (1,)
CANARIES = 1000  # in tests: 100

# %% [markdown]
# ## Before training
#
# Epsilon over the rounds, for a federation of 10,000 clients of which 1 % take part in a round. This needs no data.

# %%
# %%tff
# !python -m programs.privacy --noise_multiplier=0.7 --sampling=poisson --clients_per_round=100 --population=10000 --rounds=200 --plot=privacy.png

# %%
# %%tff
from IPython.display import Image

Image("privacy.png", width=700)

# %% [markdown]
# ## Training with several epsilons
#
# The noise follows from the epsilon, the number of rounds and the cohort. The data are handwritten digits over 50
# clients, each of which stands for 40 like it in a federation of 2,000: privacy needs many clients.

# %%
# %%tff
import tff_tx as ft

task = ft.load_task(
    "image_classification",
    data=ft.Data("digits", clients=ft.Iid(50), test=300, label_names=tuple("0123456789")),
    model=ft.Model(config={"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}),
)


def train_with(epsilon):
    privacy = epsilon and ft.DPFedAvg(target_epsilon=epsilon, population=2000, clip_norm=1.0)
    trainer = ft.Trainer(
        task,
        algorithm=ft.FedAvg(client=ft.Adam(5e-3), epochs=2, batch_size=16),
        aggregation=ft.stack(ft.clip(1.0), ft.mean()) if not privacy else None,
        privacy=privacy,
        clients_per_round=20,
        rounds_per_evaluation=5,
        weighted=False,
        run_dir=f"runs/epsilon_{epsilon}",
    )
    trainer.fit(rounds=ROUNDS)
    return trainer


trainers = {epsilon: train_with(epsilon) for epsilon in (*EPSILONS, None)}

# %%
# %%tff
from matplotlib import pyplot as plt

for epsilon, trainer in trainers.items():
    rows = trainer.history.dropna(subset=["eval/accuracy"])
    plt.plot(rows["round_num"], rows["eval/accuracy"], "o-", label=f"epsilon {epsilon}" if epsilon else "no noise")
plt.xlabel("round")
plt.ylabel("accuracy on held-out images")
plt.legend()
plt.show()
# %% [markdown]
# ## The statement
#
# What is guaranteed, to whom, under which assumptions, and what is outside of the guarantee. It is in the run's
# report, too.

# %%
# %%tff
from IPython.display import Markdown

Markdown(trainers[1].privacy.statement())

# %% [markdown]
# ## From below
#
# The accounting is an upper bound that is only as good as the code it describes. The audit plants canaries, guesses
# from the noised sums which were there, and derives what epsilon must be at least. A lower bound above the accounted
# epsilon would prove a bug.

# %%
# %%tff
# !python -m programs.audit --mechanism --dp_mechanism=gaussian --noise_multiplier=2.0 --audit_canaries={CANARIES}
