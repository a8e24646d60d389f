"""A table of interactions: `python -m data.video_games.prepare --input=FILE --output=video_games.csv`."""

from data import prepare

CHECKSUMS = {
    "interactions.txt": "b7376fe24430743f411dc7f567285657b2adb3f74361cc7ba0aee94f3024b651",
}


def convert(source: str, target: str) -> None:
    """`user item` lines, a user's in time order -> user, item."""
    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as output:
        output.write("user,item\n")
        output.writelines(",".join(line.split()) + "\n" for line in lines)


if __name__ == "__main__":
    prepare.run(CHECKSUMS, convert)
