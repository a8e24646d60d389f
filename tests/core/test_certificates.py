"""Certificates of a test authority: what they are for, and that they are signed by it."""

import os
import stat

import pytest

x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")

from tff_tx.core import certificates  # noqa: E402
from tff_tx.core.errors import UserError  # noqa: E402


def read(directory, name):
    with open(os.path.join(directory, name), "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def test_nodes_share_an_authority_whose_key_stays(tmp_path):
    places = [certificates.make_node_certificate(str(tmp_path), node, ["10.0.0.7", "head"]) for node in "ab"]
    (first, second) = (place.directory for place in places)
    assert sorted(os.listdir(first)) == ["ca.crt", "node.crt", "node.key"]
    assert read(first, "ca.crt") == read(second, "ca.crt") == read(tmp_path, "ca.crt")
    for directory in (first, second):
        read(directory, "node.crt").verify_directly_issued_by(read(tmp_path, "ca.crt"))
        assert stat.S_IMODE(os.stat(os.path.join(directory, "node.key")).st_mode) == 0o600
    names = read(first, "node.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"head", "localhost"}
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"10.0.0.7", "127.0.0.1"}
    assert places[0].hosts == ("10.0.0.7", "head", "localhost", "127.0.0.1")
    assert f"RAY_TLS_CA_CERT={first}/ca.crt" in str(places[0])


@pytest.mark.parametrize(
    ("node", "sentence"),
    [("x/y", "must be the name of a directory"), ("", "must be the name"), ("a", "exists already")],
)
def test_a_node_is_a_new_directory(tmp_path, node, sentence):
    certificates.make_node_certificate(str(tmp_path), "a")
    with pytest.raises(UserError, match=sentence):
        certificates.make_node_certificate(str(tmp_path), node)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="certificates.directory=.*file cannot be written"):
        certificates.make_node_certificate(str(tmp_path / "file"), "a")


def test_a_kit_is_for_one_role_and_a_participant_is_on_the_list(tmp_path):
    where = str(tmp_path)
    for role, name in (("coordinator", "head"), ("participant", "north"), ("participant", "south")):
        made = certificates.make_node_certificate(where, name, role=role)
        assert certificates.role_of(read(made.directory, "node.crt")) == role
    north = read(tmp_path / "north", "node.crt")
    assert certificates.name_of(north) == "north"
    allowed = certificates.read_participants(str(tmp_path / certificates.PARTICIPANTS))
    assert allowed == {
        name: certificates.fingerprint(read(tmp_path / name, "node.crt")).hex() for name in ("north", "south")
    }


def test_who_is_revoked_is_off_the_list_and_who_is_renewed_is_on_it_anew(tmp_path):
    where, path = str(tmp_path), str(tmp_path / certificates.PARTICIPANTS)
    certificates.make_node_certificate(where, "north", ["10.0.0.7"], role="participant")
    before = certificates.read_participants(path)["north"]
    certificates.revoke(where, "north")
    assert certificates.read_participants(path) == {}
    assert any(
        line.startswith("north: participant, expires in 364 days, revoked") for line in certificates.describe(where)
    )
    with pytest.raises(UserError, match="certificates.node=north: must be one of the participants"):
        certificates.revoke(where, "north")
    made = certificates.renew(where, "north", days=2)
    assert made.role == "participant"
    assert "10.0.0.7" in made.hosts
    after = certificates.read_participants(path)["north"]
    assert after != before
    read(made.directory, "node.crt").verify_directly_issued_by(read(tmp_path, "ca.crt"))
    assert f"north: participant, expires in 1 days, {after}" in certificates.describe(where)


def test_what_is_no_kit_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="make a kit with"):
        certificates.renew(str(tmp_path), "nobody")
    (tmp_path / certificates.PARTICIPANTS).write_text("[]")
    with pytest.raises(UserError, match="is no list of participants"):
        certificates.read_participants(str(tmp_path / certificates.PARTICIPANTS))
