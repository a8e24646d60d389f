"""Studies beside random search, on digits: `python -m benchmarks.tuning`.

A softmax regression on the digits of scikit-learn, in NumPy, with the project's own brackets, comparisons and FedEx:
100 clients of a Dirichlet partition, of which 40 are for validation, cohorts of 10, simulated devices whose speeds
differ. Searched are the clients' rate, the server's rate and its momentum. The best of 16 random configurations at full
budget, scored on all validation clients, stands beside studies for a quarter of its rounds, in which evaluations count,
and searches for the same quarter that ask few validation clients.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks import report
from benchmarks.samplers import federation
from tff_tx.algorithms.fed_ex import server_choice
from tff_tx.cohorts import Devices
from tff_tx.config.algorithm import RATE_FACTORS
from tff_tx.run.tuning.brackets import next_bracket
from tff_tx.run.tuning.scores import Scores, race

COHORT, EPOCHS, ROUNDS, REDUCTION, RANDOM = 10, 3, 27, 3, 16
LEAST = 3
"""Rounds before arms are first compared: fewer than Transformers of random weights need."""
BUDGET = RANDOM * ROUNDS / 4
"""Of studies, in rounds of training; the last bracket's evaluations are beyond it."""
_FORWARD = 1 / 3


def _losses(weights, x, y):
    logits = x @ weights[:-1] + weights[-1]
    logits -= logits.max(1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    return -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)), p


def _train(weights, x, y, rate):
    """(weights after local epochs of full batches, mean loss before each)."""
    losses = []
    for _ in range(EPOCHS):
        loss, p = _losses(weights, x, y)
        losses.append(loss.mean())
        error = (p - np.eye(10)[y]) / len(y)
        weights = weights - rate * np.vstack([x.T @ error, error.sum(0)])
    return weights, float(np.mean(losses))


@dataclasses.dataclass
class World:
    """A federation, and what has been spent on it.

    Attributes:
      seed: Of the partition, of cohorts and of devices.
      spent: Client-seconds.
      per_round: Of a round of training, in the mean.
    """

    seed: int
    spent: float = 0.0

    def __post_init__(self):
        data, self._test = federation(self.seed)
        ids = sorted(data)
        np.random.default_rng(self.seed).shuffle(ids)
        self._data, self.validation, self._train_ids = data, ids[:40], ids[40:]
        devices = Devices(seconds_per_example=0.1, speed_spread=0.5, seed=self.seed)
        self._seconds = {c: devices.duration(c, len(data[c][1]), 0) for c in ids}
        self.per_round = COHORT * EPOCHS * np.mean([self._seconds[c] for c in self._train_ids])

    def propose(self, number: int) -> list[np.ndarray]:
        """Random (clients' rate, server's rate, server's momentum)."""
        rng = np.random.default_rng([self.seed, 1])
        low, high = np.log([1e-3, 0.1]), np.log([10.0, 3.0])
        return [np.append(np.exp(rng.uniform(low, high)), rng.uniform(0, 0.9)) for _ in range(number)]

    def begin(self) -> dict:
        """An arm before its first round."""
        zeros = np.zeros([65, 10])
        choice = {name: np.float32(0) for name in ("squares", "losses", "weight")}
        choice["probabilities"] = np.full(len(RATE_FACTORS), 1 / len(RATE_FACTORS), np.float32)
        return {"weights": zeros, "velocity": zeros, "choice": choice, "rounds": 0}

    def advance(self, arm: dict, values: np.ndarray, rounds: int, fed_ex: bool) -> dict:
        """An arm after so many rounds in all."""
        for number in range(arm["rounds"], rounds):
            rng = np.random.default_rng([self.seed, 2, number])  # all arms have the same cohorts
            total, examples, choice = np.zeros([65, 10]), 0, arm["choice"]
            sums = {name: np.zeros(len(RATE_FACTORS), np.float32) for name in ("loss", "examples")}
            for client in rng.choice(self._train_ids, COHORT, replace=False):
                x, y = self._data[client]
                drawn = int((np.cumsum(choice["probabilities"]) <= rng.uniform()).sum())
                drawn = min(drawn, len(RATE_FACTORS) - 1)
                rate = values[0] * (RATE_FACTORS[drawn] if fed_ex else 1.0)
                trained, during = _train(arm["weights"], x, y, rate)
                before, after = (_losses(w, x, y)[0].mean() for w in (arm["weights"], trained))
                change = during + (after - before) / EPOCHS - before
                sums["loss"][drawn] += len(y) * change
                sums["examples"][drawn] += len(y)
                total, examples = total + len(y) * (trained - arm["weights"]), examples + len(y)
                self.spent += EPOCHS * self._seconds[client]
            velocity = values[2] * arm["velocity"] + total / examples
            if fed_ex:
                choice = {name: np.asarray(value) for name, value in server_choice(choice, sums)[0].items()}
            weights = arm["weights"] + values[1] * velocity
            arm = {"weights": weights, "velocity": velocity, "choice": choice, "rounds": number + 1}
        return arm

    def score(self, arm: dict, clients: list[str]) -> Scores:
        """Losses of validation clients."""
        self.spent += _FORWARD * sum(self._seconds[c] for c in clients)
        parts = [self._data[c] for c in clients]
        values = [_losses(arm["weights"], x, y)[0].mean() for x, y in parts]
        return Scores(np.array(values), np.array([float(len(y)) for _, y in parts]))

    def accuracy(self, arm: dict) -> float:
        """On test data."""
        x, y = self._test
        return float((_losses(arm["weights"], x, y)[1].argmax(1) == y).mean())


def random_search(world: World, number: int, clients: int) -> dict:
    """The best of so many whole runs, each scored on so many validation clients of its own."""
    rng = np.random.default_rng([world.seed, 3])
    arms = [world.advance(world.begin(), values, ROUNDS, False) for values in world.propose(number)]
    return min(arms, key=lambda arm: world.score(arm, list(rng.permutation(world.validation)[:clients])).mean)


def halving(world: World, rounds: float, clients: int, racing: bool = True, fed_ex: bool = False) -> dict:
    """The best arm of brackets within so many rounds.

    Args:
      world: The federation.
      rounds: What may be spent, in training rounds; evaluations count.
      clients: Validation clients of a first score.
      racing: Whether arms are compared as in a study; otherwise each on `clients` of its own.
      fed_ex: Whether arms are runs of FedEx.
    """
    rng, proposals, best, number = np.random.default_rng([world.seed, 4]), iter(world.propose(1000)), [], 0
    order = list(rng.permutation(world.validation))
    while (b := next_bracket(number, ROUNDS, REDUCTION, rounds - world.spent / world.per_round, LEAST)) is not None:
        values = [next(proposals) for _ in range(b.arms)]
        survivors = list(range(b.arms))
        arms = {arm: world.begin() for arm in survivors}
        for k, rung in enumerate(b.rungs):
            arms |= {arm: world.advance(arms[arm], values[arm], rung, fed_ex) for arm in survivors}
            quota = b.survivors(k + 1) if rung < ROUNDS else len(survivors)
            survivors = _select(world, arms, survivors, quota, clients * REDUCTION**k, order if racing else None, rng)
        best += [arms[arm] for arm in survivors]
        number += 1
    asked = len(order) if racing else clients
    last = _select(world, dict(enumerate(best)), list(range(len(best))), 1, asked, order if racing else None, rng)
    return best[last[0]]


def _select(world, arms, survivors, quota, clients, order, rng):
    """The best arms, by racing on the clients in order, or without one each on clients of its own."""
    everyone, known = len(world.validation), {}
    if order is None:
        asked = {arm: list(rng.permutation(world.validation)[: min(clients, everyone)]) for arm in survivors}
        return sorted(survivors, key=lambda arm: world.score(arms[arm], asked[arm]).mean)[:quota]

    def score(arm, number):
        before = known.get(arm)
        done = 0 if before is None else len(before.values)
        found = world.score(arms[arm], order[done:number]) if done < number else Scores(np.empty(0), np.empty(0))
        if before is not None:
            found = Scores(np.append(before.values, found.values), np.append(before.weights, found.weights))
        known[arm] = found
        return found

    return race(survivors, quota, score, min(clients, everyone), everyone)


def measure(seed: int) -> dict[str, list[float]]:
    """(accuracy, client-seconds) by search."""
    found = {}
    searches = {
        f"best of {RANDOM} random": lambda w: random_search(w, RANDOM, 40),
        "halving, a quarter of the rounds": lambda w: halving(w, BUDGET, 3),
        "halving + FedEx, a quarter": lambda w: halving(w, BUDGET, 3, fed_ex=True),
    }
    for clients in (1, 3):
        searches |= {
            f"random search, {clients}": lambda w, n=clients: random_search(w, RANDOM // 4, n),
            f"plain halving, {clients}": lambda w, n=clients: halving(w, BUDGET, n, racing=False),
            f"ours, {clients}": lambda w, n=clients: halving(w, BUDGET, n),
        }
    for name, search in searches.items():
        world = World(seed)
        arm = search(world)
        found[name] = [world.accuracy(arm), world.spent]
    return found


def main() -> None:
    """Runs, prints and writes."""
    parser = report.parser(__doc__, "benchmarks/results/tuning.json")
    parser.add_argument("--seeds", type=int, default=20)
    flags = parser.parse_args()
    found = [measure(seed) for seed in range(1, flags.seeds + 1)]
    rows = []
    for name in found[0]:
        accuracies, seconds = np.array([one[name] for one in found]).T
        error = accuracies.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
        spread = f"{100 * accuracies.mean():.1f} +- {100 * error:.1f}"
        rows.append([name, spread, f"{100 * accuracies.min():.1f}", f"{seconds.mean():,.0f}"])
    print(report.table(["search", "test accuracy, %", "worst seed", "client-seconds"], rows))
    content = {"machine": report.machine(), "flags": vars(flags), "seeds": found}
    print(f"Written to {report.write('tuning', content, flags.output)}")


if __name__ == "__main__":
    main()
