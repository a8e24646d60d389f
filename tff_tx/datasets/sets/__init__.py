"""Data sets that have a name; `tff_tx.config.registries.DATASETS` lists them."""
