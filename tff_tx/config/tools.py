"""Settings of the programs besides training, a section each."""

from __future__ import annotations

import dataclasses

from tff_tx.config import vertical
from tff_tx.config.option import SEED, Section, option
from tff_tx.config.registries import TRANSPORTS
from tff_tx.core.errors import UserError, setting

MECHANISMS = ("gaussian", "adaptive", "tree", "banded", "local", "example")
CONTRIBUTION_METHODS = ("gtg_shapley", "truncated_monte_carlo", "exact", "leave_one_out")
VOCABULARIES = ("wordpiece", "bpe")
CERTIFICATE_ROLES = ("node", "coordinator", "participant", "keyholder")
SPLIT_NAMES = ("train", "validation", "test")
TUNING_SAMPLERS = ("tpe", "random", "qmc")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Section, name="evaluate"):
    """Evaluation of a trained model."""

    run_dir: str | None = option(None, "Run directory.")
    model: str | None = option(None, "Model directory, in place of a run.")
    split_name: str = option("test", "Split to evaluate on.", choices=SPLIT_NAMES)
    output_dir: str | None = option(None, "Directory for results; default: evaluation/ in the run or model directory.")
    eval_batch_size: int = option(32, "Examples per batch.", least=1, most=2**20)
    personalize_epochs: int = option(
        0,
        "Epochs for which each client fine-tunes the model before it is evaluated, beside the model as it is: on its "
        "training records, or, of a held-out client, on every fifth record, the others being evaluated.",
        least=0,
    )
    personalize_learning_rate: float | None = option(
        None, "Learning rate of this; default: that of clients in training.", least=0.0
    )
    choose_steps: bool = option(
        False,
        "Each client chooses how many steps of this count, 0 included, by its loss on other records of its own: of the "
        "validation split, or every fifth of those it would train on.",
    )
    neighbors: int = option(
        0,
        "k of kNN-Per: a client's own model mixes the global one with the votes of the k nearest of its own records, "
        "by a weight that it chooses as steps are chosen; for classifiers.",
        least=0,
    )
    similar_examples: int = option(
        0,
        "S of FedDPA: a client's own adapter counts for an input by its mean cosine similarity to so many of the "
        "client's training records, times {algorithm.mixing}; for tasks with one label an example. The paper has 5. "
        "Default: by {algorithm.mixing} alone.",
        least=0,
    )
    alone_epochs: int = option(
        0,
        "Epochs for which each client trains alone, from what the run began with, for comparison; on the same records.",
        least=0,
    )
    words: bool = option(True, "Also generates texts, or answers questions, and scores them by their words.")
    num_beams: int = option(1, "Beams of the search for generated texts.", least=1)


@dataclasses.dataclass(frozen=True)
class PredictConfig(Section, name="predict"):
    """Prediction."""

    run_dir: str | None = option(None, "Run directory.")
    client: str | None = option(
        None,
        "Client whose own model predicts, see {model.personal}; default: with the weights that clients begin with.",
    )
    similar_examples: int = option(0, "With {predict.client}: S of FedDPA, as in evaluation.", least=0)
    text: tuple[str, ...] = option((), "A text; may be repeated.", repeated=True)
    question: str | None = option(None, "Question about each {predict.text}, for a model that answers questions.")
    data: tuple[str, ...] = option(
        (),
        "Files: texts, one per line; pictures or recordings, also folders of these; or tables as in training.",
        formerly=("input",),
    )
    output: str | None = option(
        None, "File for the results: a table (.csv, .tsv), else JSON lines; default: standard output."
    )
    batch_size: int = option(32, "Inputs per batch.", least=1, most=2**20)
    top_k: int = option(3, "Number of labels, words or items per input.", least=1)
    max_new_tokens: int | None = option(
        None, "Length of generated text; default: 100, or that of targets in training.", least=1
    )
    num_beams: int = option(1, "Beams of the search for generated texts.", least=1)
    temperature: float = option(0.0, "Sampling temperature; 0: greedy.", least=0.0)
    seed: int = option(1, "Seed of sampling.", **SEED)


@dataclasses.dataclass(frozen=True)
class ExportConfig(Section, name="export"):
    """Export."""

    run_dir: str | None = option(None, "Run directory.")
    format: str = option(
        "savedmodel",
        "SavedModel, as TensorFlow Serving takes it; TensorFlow Lite; ONNX, with the packages of the extra `onnx`; or "
        "pretrained, a directory for transformers.",
        choices=("savedmodel", "tflite", "onnx", "pretrained"),
    )
    client: str | None = option(
        None, "Client whose own model is exported, see {model.personal}; default: the model that all share."
    )
    output: str | None = option(
        None,
        "Directory to write, which is replaced; default: in the run directory export/ and the format, "
        "or clients/, the client and the format.",
    )


@dataclasses.dataclass(frozen=True)
class AuditConfig(Section, name="audit"):
    """Audit."""

    run_dir: str | None = option(None, "Run directory.")
    vertical: bool = option(
        False, "Audits a run of programs.vertical: what crosses the cut gives away of labels and features."
    )
    hijacking_steps: int = option(
        500,
        "With {audit.vertical}: steps in which a malicious label party trains bottoms to give their inputs away; 0: "
        "none.",
        least=0,
    )
    mechanism: bool = option(False, "Audits the privacy mechanism of the other settings, without a run.")
    output_dir: str | None = option(None, "Directory for results; default: audit/ in the run directory.")
    max_examples: int = option(
        2000,
        "Maximum number of examples sampled from members and from non-members each.",
        flag="max_audited_examples",
        least=10,
    )
    eval_batch_size: int = option(32, "Examples per batch.", least=1, most=2**20)
    references: int = option(1000, "Number of reference texts that canaries are ranked among.", least=100)
    delta: float | None = option(
        None,
        "Delta of the lower bound on epsilon; default: that of the run's guarantee, else 1e-5.",
        flag="audit_delta",
        least=0.0,
        most=1.0,
    )
    confidence: float = option(0.95, "Confidence level of the lower bound.", least=0.5, most=0.9999)
    canaries: int = option(1000, "Canaries of an audited mechanism.", flag="audit_canaries", least=10)
    rounds: int = option(1, "Releases of an audited mechanism, with the same canaries.", flag="audit_rounds", least=1)


@dataclasses.dataclass(frozen=True)
class ContributionConfig(Section, name="contribution"):
    """Contribution of clients."""

    run_dir: str | None = option(None, "Directory of a run that stored its updates.")
    method: str = option(
        "gtg_shapley",
        "Shapley values by guided truncated sampling, by truncated Monte Carlo sampling, or exact, over all coalitions "
        "of a round's clients; or leave-one-out.",
        choices=CONTRIBUTION_METHODS,
    )
    metric: str = option("loss", "Utility: a metric of evaluation, by its direction.")
    split_name: str = option("test", "Split that the metric is evaluated on.", choices=SPLIT_NAMES[1:])
    eval_clients: int = option(50, "Held-out clients of each evaluation.", least=1)
    eval_batch_size: int = option(32, "Examples per batch in evaluation.", least=1, most=2**20)
    first_round: int = option(1, "First round.", least=1)
    last_round: int | None = option(None, "Last round; default: the last of the run.", least=1)
    truncation: float = option(
        0.0,
        "A permutation is truncated once its clients come nearer to the whole cohort's gain than this share of it.",
        least=0.0,
        most=1.0,
    )
    round_truncation: float = option(
        0.0, "Rounds that change the metric by no more than this are shared equally.", least=0.0
    )
    tolerance: float = option(
        0.05, "Sampling stops at standard errors of this share of a round's largest value.", least=0.0
    )
    max_sweeps: int = option(20, "Maximum number of permutations per client.", least=1)
    threads: int | None = option(
        None, "Clients evaluated at the same time; default: one per processor.", least=1, most=1024
    )
    cache_dir: str | None = option(None, "Directory for encoded data; default: that of the run.")


@dataclasses.dataclass(frozen=True)
class VocabularyConfig(Section, name="vocabulary"):
    """Federated vocabulary."""

    output: str | None = option(None, "Directory for the tokenizer; one that this program wrote is replaced.")
    size: int = option(4096, "Maximum number of entries.", flag="vocab_size", least=1)
    tokenizer_type: str = option(
        "wordpiece", "WordPiece, as in BERT, or byte-level BPE, as in GPT-2.", choices=VOCABULARIES
    )
    lowercase: bool = option(False, "Lowercases texts and drops accents; WordPiece only.")
    max_words_per_client: int = option(
        500,
        "Distinct words that a client contributes, its most frequent ones; noise grows with the root of it.",
        least=1,
    )
    max_word_bytes: int = option(20, "Longer words are left out.", least=1)
    clients_per_cohort: int = option(
        10, "Clients whose words are added up at once; memory and time grow with it.", least=1
    )


@dataclasses.dataclass(frozen=True)
class DataReportConfig(Section, name="report"):
    """Data report."""

    plot: str | None = option(None, "Picture to write (.png, .pdf or .svg); default: none.")
    tokenizer: str = option(
        "whitespace", "What counts as a token: whitespace, bytes, or a Hugging Face directory or hub id."
    )


@dataclasses.dataclass(frozen=True)
class TuneConfig(Section, name="tune"):
    """Tuning."""

    space: str | None = option(
        None,
        "TOML file: names of flags, each with a list of values, a table of low, high and log, or true for its own "
        "range. Default: rates, batch size and the strength of what the algorithm adds.",
    )
    budget: str | None = option(
        None,
        "What the study may spend on training and evaluation: a number of rounds, client-seconds (of simulated "
        "devices), MB or GB (sent and received by clients), or s, min or h on this machine. Default: 4 times "
        "{run.rounds}.",
    )
    metric: str = option(
        "loss",
        "Metric of the validation split that arms are compared by, in the mean over clients, which count as many times "
        "as they have examples.",
        flag="tuning_metric",
    )
    study_dir: str = option("study", "Directory of the study; the same command resumes what is there.")
    sampler: str = option(
        "tpe",
        "Optuna sampler that proposes values: qmc covers the space evenly, and tpe does until 10 arms have ended, from "
        "which it then learns.",
        flag="tuning_sampler",
        choices=TUNING_SAMPLERS,
    )
    reduction: int = option(
        3,
        "Successive halving: one of this many arms survives a rung, and is trained for this many times the rounds. "
        "If {run.rounds} are fewer than this many times {tune.least_rounds}, all arms are whole runs.",
        flag="tuning_reduction",
        least=2,
        most=16,
    )
    least_rounds: int | None = option(
        None,
        "Rounds before arms are first compared: more where the first rounds do not yet show what becomes of an arm. "
        "Default: 1 for the head or upper layers of a pretrained model; else a quarter of {run.rounds}, or 9 if that "
        "is more, but a third at most.",
        flag="tuning_least_rounds",
        least=1,
    )
    first_clients: int = option(
        10,
        "Validation clients of the first comparison of a rung; arms that differ by less than the noise are compared "
        "on twice as many, until all have been asked.",
        flag="tuning_clients",
        least=2,
    )


@dataclasses.dataclass(frozen=True)
class PrivacyReportConfig(Section, name="calculator"):
    """Privacy calculator."""

    mechanism: str = option(
        "gaussian",
        "Independent noise with a fixed or an adaptive clip; tree aggregation (DP-FTRL); a banded factorization "
        "(BandMF); noise added by every client to its update (local); or example-level DP-SGD in clients.",
        flag="dp_mechanism",
        choices=MECHANISMS,
    )
    max_participations: int | None = option(
        None, "Maximum number of rounds of a client in all, without amplification.", least=1
    )
    parameters: int | None = option(None, "Trained weights, for the signal-to-noise ratio.", least=1, most=2**53)
    num_examples: int | None = option(None, "Examples of a client, for example-level DP.", least=1)
    batch_size: int = option(16, "Examples per batch, for example-level DP.", least=1, most=2**20)
    local_steps: int = option(1, "Batches per round, for example-level DP.", least=1)
    microbatch_size: int = option(1, "Examples clipped together, for example-level DP.", least=1)
    plot: str | None = option(None, "Picture to write (.png, .pdf or .svg); default: none.")


@dataclasses.dataclass(frozen=True)
class MemberConfig(Section):
    """Who joins a coordinator."""

    coordinator: str | None = option(
        None, "Address of the coordinator, host:port, as its certificate has it.", is_address=True
    )
    transport: str = option(
        "grpc",
        "What carries messages: gRPC; or Flower, whose SuperNode runs the relay in deploy/flower and finds the Unix "
        "socket relay.sock in the state directory.",
        choices=TRANSPORTS,
    )
    certificate: str | None = option(None, "Directory of one's own kit (programs.certs).")
    approve: str | None = option(
        None, "Digest of the plan that is approved of; default: the operator is asked, once for each plan."
    )
    state_dir: str = option(
        "participant", "Directory of one's own files: encoded data or keys, approved plans and the audit log."
    )
    check_log: bool = option(False, "Checks and prints the audit log, and does nothing else.")

    def require(self, *names: str) -> None:
        """Checks that settings are there, but for the address of a coordinator, which Flower's SuperNode has.

        Raises:
          UserError: If one is missing, or an address has no effect.
        """
        for name in names:
            if not getattr(self, name) and (name, self.transport) != ("coordinator", "flower"):
                raise UserError(f"{setting(f'{self.section}.{name}')} is missing: a {self.section} needs it.")
        if self.coordinator and self.transport == "flower":
            raise UserError(
                f"{setting(f'{self.section}.coordinator')}={self.coordinator} has no effect with "
                f"{setting(f'{self.section}.transport')}=flower: the SuperNode knows where to connect; remove it."
            )


@dataclasses.dataclass(frozen=True)
class ParticipantConfig(MemberConfig, name="participant"):
    """Participant of a federation."""

    data: tuple[str, ...] = option((), "Training files, folders or globs, in the format of the plan.")
    held_out: tuple[str, ...] = option(
        (), "Held-out files, on which the model is evaluated here if the plan evaluates at participants."
    )
    policy: str | None = option(None, "TOML file with the bounds that the participant enforces; default: none.")
    pretrained: str | None = option(None, "Checkpoint in place of the plan's, a copy of the same.", flag="checkpoint")
    threads: int | None = option(
        None, "Clients computed at the same time; default: one per processor.", least=1, most=1024
    )


@dataclasses.dataclass(frozen=True)
class KeyHolderConfig(MemberConfig, name="keyholder"):
    """Key holder of a federation."""

    least_participants: int = option(
        3, "Fewest participants of a sum that is decrypted; plans and policies may ask for more.", least=2
    )


@dataclasses.dataclass(frozen=True)
class CertificatesConfig(Section, name="certificates"):
    """Certificates."""

    directory: str = option("certs", "Directory of the authority, made if need be, and of the nodes' directories.")
    node: str = option("node", "Name of the node, and of its directory.")
    hosts: tuple[str, ...] = option(
        (), "Addresses and host names by which others reach the node; default: those of this machine."
    )
    days: int = option(365, "Validity of a certificate, in days.", least=1)
    role: str = option(
        "node",
        "What the certificate is for: a node of a Ray cluster, or a federation's coordinator, a participant or the key "
        "holder.",
        choices=CERTIFICATE_ROLES,
    )
    action: str = option(
        "make",
        "Makes a kit; renews it, with a new key; revokes a participant's; or lists all with their fingerprints and "
        "when they expire.",
        choices=("make", "renew", "revoke", "list"),
    )


SECTIONS = (
    *(
        s
        for _, s in sorted(globals().items())
        if isinstance(s, type) and s.__module__ == __name__ and hasattr(s, "section")
    ),
    *vertical.SECTIONS,
)
"""The sections of all programs."""
