"""Command-line programs: `python -m programs.NAME --help`."""
