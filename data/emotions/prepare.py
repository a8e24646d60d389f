"""Checks the files of README.md: `python -m data.emotions.prepare --input=FOLDER`."""

from data import prepare

CHECKSUMS = {
    "train.jsonl": "6ad95126cf622e5206ea7f4d1b82805abbd2574d41aac75d7e5b24484c0a0d7f",
    "dev.jsonl": "a908a402017f9612081d3fbff74235ed113f64c33f2f509f31df3ee146143811",
    "test.jsonl": "3f1ccd17d3377579d8bb03a9967748872d590b8b107911b390b63d81f64c5972",
}

if __name__ == "__main__":
    prepare.run(CHECKSUMS)
