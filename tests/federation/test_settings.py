"""What a federation's programs say of settings that cannot be, before they connect to anybody."""

import stat

import pytest

from programs import certs, cli, participate
from tests.complaints import complaint
from tff_tx import federation
from tff_tx.config import RunConfig, tools
from tff_tx.core import certificates, locks
from tff_tx.core.errors import UserError
from tff_tx.run.federation import Participant


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--engine=federation"], "--engine=federation needs --silos"),
        (["--federation_address=:8443"], "--federation_address=:8443: must be host:port"),
        (["--federation_address=x:1"], "--federation_address=x:1 has no effect with --engine=local"),
        (
            ["--engine=federation", "--silos=a,b", "--transport=flower", "--federation_socket=s"],
            "--federation_silence_seconds=60.0 is too short for --transport=flower, by which a participant gives a "
            "sign of life every 30 s, and one may be lost: set 100 or more",
        ),
    ],
)
def test_mistakes(flags, sentence):
    assert sentence in complaint("--dataset=file", "--data=x.csv", "--task=causal_lm", "--architecture=gpt2", *flags)


def test_a_coordinator_has_no_training_data():
    with pytest.raises(UserError, match="data.files: the participants have the training data; remove it"):
        federation.Coordinator(RunConfig.of({"data.files": ("notes.csv",), "data.silos": ("north",)}))


def settings(section, **values):
    """What a command line says that names these settings."""
    own = section(**values)
    return cli.Settings(RunConfig(), {section: own}, frozenset(f"{section.section}.{name}" for name in values))


@pytest.mark.parametrize(
    ("program", "values", "sentence"),
    [
        ("participate", {"state_dir": "nowhere", "check_log": True}, "state_dir=nowhere: there is no nowhere/audit"),
        ("participate", {"coordinator": "localhost"}, "coordinator=localhost: must be host:port"),
        ("participate", {"coordinator": "localhost:84430"}, "coordinator=localhost:84430: must be host:port"),
        (
            "participate",
            {"coordinator": "localhost:1", "transport": "flower", "certificate": "c", "data": ("d",)},
            "coordinator=localhost:1 has no effect with participant.transport=flower",
        ),
        ("certs", {"action": "renew"}, "node is missing: name the kit"),
        ("certs", {"action": "revoke"}, "node is missing: name the kit"),
    ],
)
def test_mistakes_of_parties(program, values, sentence):
    section = {"participate": tools.ParticipantConfig, "certs": tools.CertificatesConfig}[program]
    with pytest.raises(UserError, match=sentence):
        {"participate": participate, "certs": certs}[program].main(settings(section, **values))


def test_a_participant_without_its_data_does_not_wait(tmp_path):
    own = tools.ParticipantConfig(coordinator="localhost:1", certificate="none", data=(str(tmp_path / "*.csv"),))
    with pytest.raises(UserError, match="data.files: there is no file .*csv"):
        Participant(own, lambda words, digest: True)


@pytest.fixture
def participant(tmp_path):
    """A participant that has joined nobody yet, and its directory."""
    (tmp_path / "x.csv").write_text("patient,text,label\n")
    certificates.make_node_certificate(str(tmp_path / "certs"), "north", role="participant")
    paths = {"certificate": str(tmp_path / "certs" / "north"), "data": (str(tmp_path / "x.csv"),)}
    own = tools.ParticipantConfig(coordinator="localhost:1", state_dir=str(tmp_path / "state"), **paths)
    return Participant(own, lambda words, digest: True), tmp_path / "state"


def test_a_participants_directory_has_one_writer_and_no_other_reader(participant):
    party, state = participant
    party.stop()
    party.serve()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    with locks.sole_writer(str(state), "a"), pytest.raises(UserError, match="state_dir=.* is being written by process"):
        party.serve()
