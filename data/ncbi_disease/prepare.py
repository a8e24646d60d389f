"""Checks the files of README.md: `python -m data.ncbi_disease.prepare --input=FOLDER`."""

from data import prepare

CHECKSUMS = {
    "train.tsv": "5f87b0de649eccff21e6d6e49e304aace808056ecae55225ea31602192517be9",
    "devel.tsv": "b4e1e7efcc2a35047bf2f3d281648357470e674f555d4a26a0049ac37d59cc61",
    "test.tsv": "8f088ce45dc4746592188f9e69de3d89d87f3bb8f0ed8c4a287d018123fa148d",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
