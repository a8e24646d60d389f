"""Clients' own models beside the global one and what clients train alone: whom does which of them hurt?

The mean may rise while many clients are hurt (Motley, Wu et al. 2022, https://arxiv.org/abs/2206.09262), so figures are
of clients: each client's own held-out records, then mean, median, 10th percentile (90th of metrics where lower is
better), worst client and share of clients that are worse off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pandas as pd

from tff_tx import models
from tff_tx.core import plots
from tff_tx.run.evaluation import spread

GLOBAL, BEFORE, ALONE = "global model", "before fine-tuning", "trained alone"
ONE_SHARE = "one share for all inputs"
"""Names of other models of the same clients."""


def judged_by(by_client: pd.DataFrame, metrics: Sequence[models.Metric]) -> models.Metric:
    """The metric by which models are compared: F1 if there is one, else the first of which more is better, or loss."""
    known = [metric for metric in metrics if metric.name in by_client and metric.higher_is_better is not None]
    # Sorting is stable.
    return min(known, key=lambda m: (m.name != "f1", not m.higher_is_better))


def bad_tail(metric: models.Metric) -> str:
    """The percentile beyond which are the tenth of the clients that fare worst, as `evaluation.spread` names it."""
    return "p10" if metric.higher_is_better else "p90"


def is_hurt(before: pd.DataFrame, after: pd.DataFrame, metric: models.Metric) -> pd.Series:
    """Whether each client is worse off after than before, bool by client."""
    gain = after[metric.name] - before[metric.name]
    return (gain if metric.higher_is_better else -gain) < 0


def figures(own: pd.DataFrame, shared: pd.DataFrame, metrics: Sequence[models.Metric]) -> dict[str, float]:
    """Columns of `metrics.csv` on clients' own models and the global one, evaluated on the same clients."""
    metric = judged_by(own, metrics)
    tables, found = {"clients": own, "global": shared}, {}
    for name, table in tables.items():
        found |= {f"{name}_{s}/{metric.name}": float(v) for s, v in statistics(table, metric).items()}
    return {**found, "share_hurt": float(is_hurt(shared, own, metric).mean())}


def statistics(by_client: pd.DataFrame, metric: models.Metric) -> pd.Series:
    """Mean, median, bad tail and worst client of a metric, by their names."""
    return spread(by_client[[metric.name]], [metric]).loc[metric.name, ["mean", "p50", bad_tail(metric), "worst"]]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Models of the same clients, each on the client's own held-out records.

    Attributes:
      own: A row a client, a column a metric: of the models that are evaluated.
      others: The same of other models, by name.
      metrics: What is known of the metrics.
    """

    own: pd.DataFrame
    others: Mapping[str, pd.DataFrame]
    metrics: tuple[models.Metric, ...]

    @property
    def metric(self) -> models.Metric:
        """By which they are compared."""
        return judged_by(self.own, self.metrics)

    @property
    def table(self) -> pd.DataFrame:
        """A row a model, a column a statistic over clients, and the share of clients that are worse off with it."""
        tables = {"own model": self.own, **self.others}
        found = pd.DataFrame({name: statistics(t, self.metric) for name, t in tables.items()}).T
        for name in self.others:
            found[f"hurt, beside {name}"] = [
                float(is_hurt(self.others[name], t, self.metric).mean()) for t in tables.values()
            ]
        return found

    @property
    def sentences(self) -> list[str]:
        """Whom personalization hurts, and whom the federation does."""
        pairs = {name: (self.others[name], self.own, _SENTENCES[name]) for name in _SENTENCES if name in self.others}
        if GLOBAL in self.others and ALONE in self.others:
            pairs["both"] = (self.others[ALONE], self.others[GLOBAL], _GLOBAL_HURTS)
        worse = "lower" if self.metric.higher_is_better else "higher"
        found = []
        for before, after, sentence in pairs.values():
            hurt = is_hurt(before, after, self.metric)
            share = f"{hurt.mean():.0%} of clients here ({hurt.sum()} of {len(hurt)})"
            found.append(sentence.format(share=share, worse=f"a {worse} {self.metric.name}"))
        return found

    def markdown(self) -> str:
        """The sentences and the table."""
        rows = [["", *self.table.columns], ["---"] * (1 + len(self.table.columns))]
        rows += [[name, *(f"{value:.4f}" for value in row)] for name, row in zip(self.table.index, self.table.values)]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        return "\n\n".join([*self.sentences, f"{self.metric.title} of clients, by model:", "\n".join(lines)])

    def plot(self, path: str) -> str | None:
        """Draws local alone against own model, a point a client; None without models that are trained alone."""
        if ALONE not in self.others:
            return None
        figure, axis = plots.pyplot().subplots(figsize=(4, 4), layout="constrained")
        alone, own = self.others[ALONE][self.metric.name], self.own[self.metric.name]
        axis.scatter(alone, own, s=16, alpha=0.7)
        axis.axline((alone.mean(), alone.mean()), slope=1, color="black", linewidth=0.8)
        axis.set(xlabel=f"{self.metric.title}, {ALONE}", ylabel=f"{self.metric.title}, own model")
        return plots.save(figure, path)


_SENTENCES = {
    GLOBAL: "Personalization hurts {share}: their own model has {worse} than the global model.",
    BEFORE: "Fine-tuning hurts {share}: their model has {worse} than before fine-tuning.",
    ONE_SHARE: "Shares by input hurt {share}: their model has {worse} than with one share for all inputs.",
    ALONE: "Training together hurts {share}: their own model has {worse} than what they train alone.",
}
_GLOBAL_HURTS = "The global model hurts {share}: it has {worse} than what they train alone."
