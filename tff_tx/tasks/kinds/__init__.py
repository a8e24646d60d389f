"""One file a task; `tff_tx.config.registries.TASKS` names them."""
