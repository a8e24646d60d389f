"""One line a user: `python -m data.video_games.prepare --input=FILE --output=video_games.csv`."""

import csv
import itertools

from data import prepare

CHECKSUMS = {
    "interactions.txt": "b7376fe24430743f411dc7f567285657b2adb3f74361cc7ba0aee94f3024b651",
}


def convert(source: str, target: str) -> None:
    """`user item` lines, a user's together and in time order -> client, text (the items)."""
    with open(source, encoding="utf-8") as lines, open(target, "w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["client", "text"])
        pairs = (line.split() for line in lines)
        for user, group in itertools.groupby(pairs, key=lambda pair: pair[0]):
            writer.writerow([user, " ".join(item for _, item in group)])


if __name__ == "__main__":
    prepare.run(CHECKSUMS, convert)
