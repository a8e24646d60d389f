"""Who contributed how much to a model: values of clients from the updates of a run."""

from tff_tx.analysis.contribution.shapley import (
    Game,
    Values,
    exact_shapley,
    gtg_shapley,
    leave_one_out,
    truncated_monte_carlo,
    value_clients,
)
from tff_tx.analysis.contribution.store import UPDATES, UpdateStore, bytes_of_run
