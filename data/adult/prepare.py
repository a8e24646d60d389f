"""Checks the files of README.md: `python -m data.adult.prepare --input=FOLDER`."""

from data import prepare

CHECKSUMS = {
    "adult_train.csv": "ebdb92b3b930042c43f0fec05ef17b433c87d0d91ebfb9e6ed1a8d0b4424f368",
    "adult_test.csv": "a4f09f38f11f21aa360775a65237de8e30eb39719a2385d58410855be839947a",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
