"""Checks the files of README.md: `python -m data.sts_benchmark.prepare --input=FOLDER`."""

from data import prepare

CHECKSUMS = {
    "train.tsv": "03ed586da9b997e8b34f94333d85945f49161ebe07e8411be15d11f7167a8750",
    "dev.tsv": "d2ba2efd8ce714cc6e9ebd676a1dd370e9f535184181ce3582d54ef84f1e95b0",
    "test.tsv": "f1933774eeefdeee6b2f05d8533a9e1899563d178ca46432c89e95169da68b30",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
