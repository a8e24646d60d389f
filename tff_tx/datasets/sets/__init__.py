"""Data sets that have a name, a file each; `tff_tx.config.registries.DATASETS` lists them."""
