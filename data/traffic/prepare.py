"""One line a speed: `python -m data.traffic.prepare --input=FILE --output=traffic.csv`."""

import pandas as pd

from data import prepare

CHECKSUMS = {
    "los_speed.csv": "7b732d86ae32b2930595becba28aff39dacbfb2197e250fc0332e1744ce2cbf4",
}


def convert(source: str, target: str) -> None:
    """A column a sensor, a line a step -> sensor, step, speed; a sensor's lines in time order."""
    table = pd.read_csv(source)
    table.index.name = "step"
    long = table.melt(var_name="sensor", value_name="speed", ignore_index=False).reset_index()
    long[["sensor", "step", "speed"]].to_csv(target, index=False)


if __name__ == "__main__":
    prepare.run(CHECKSUMS, convert)
