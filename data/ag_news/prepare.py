"""Checks the files of README.md: `python -m data.ag_news.prepare --input=FILE`."""

from data import prepare

CHECKSUMS = {
    "ag_news_7600.csv": "521465c2428ed7f02f8d6db6ffdd4b5447c1c701962353eb2c40d548c3c85699",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
