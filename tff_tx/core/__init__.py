"""What every package may use: errors, files that appear as a whole, the platform check. Imports nothing of tff_tx."""
