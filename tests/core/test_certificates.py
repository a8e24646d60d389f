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
