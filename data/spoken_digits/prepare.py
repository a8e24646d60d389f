"""Checks the file of README.md: `python -m data.spoken_digits.prepare --input=FILE`."""

from data import prepare

CHECKSUMS = {
    "spoken_digits.parquet": "473d1d6a545830a6eb3eac8cfb82fc55a57c4a0cf7882738f71d8ff3e0081827",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
