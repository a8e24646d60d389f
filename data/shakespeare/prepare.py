"""Checks the files of README.md: `python -m data.shakespeare.prepare --input=FILE`."""

from data import prepare

CHECKSUMS = {
    "plays.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
