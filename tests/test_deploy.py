"""The manifest against KubeRay's fields, the Compose file, the unit, and the Dockerfile as far as it runs here."""

import importlib
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import jsonschema
import pytest
import yaml

from tests.test_packaging import _requirements as requirements

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"


def closed(required, **properties):
    """An object with these fields alone."""
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
QUANTITIES = {
    "type": "object",
    "additionalProperties": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[KMGT]i?)?$"},
}
PROBE = closed(
    ["exec"],
    exec=closed(["command"], command={"type": "array", "items": {"type": "string"}}),
    periodSeconds=COUNT,
    timeoutSeconds=COUNT,
    failureThreshold=COUNT,
)
CONTAINER = closed(
    ["name", "image"],
    name={"type": "string"},
    image={"type": "string"},
    ports={"type": "array", "items": closed(["containerPort"], name={"type": "string"}, containerPort=COUNT)},
    resources=closed([], requests=QUANTITIES, limits=QUANTITIES),
    readinessProbe=PROBE,
    livenessProbe=PROBE,
    volumeMounts={
        "type": "array",
        "items": closed(["name", "mountPath"], name={"type": "string"}, mountPath={"type": "string"}),
    },
)
VOLUME = closed(
    ["name"],
    name={"type": "string"},
    persistentVolumeClaim=closed(["claimName"], claimName={"type": "string"}),
    emptyDir=closed([], medium={"enum": ["", "Memory"]}, sizeLimit={"type": "string"}),
)
TEMPLATE = closed(
    ["spec"],
    spec=closed(
        ["containers"],
        containers={"type": "array", "minItems": 1, "items": CONTAINER},
        volumes={"type": "array", "items": VOLUME},
    ),
)
# Of raycluster_types.go of KubeRay (v1), the fields that are used here.
RAY_CLUSTER = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayCluster"},
    metadata=closed(["name"], name={"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}),
    spec=closed(
        ["headGroupSpec"],
        rayVersion={"type": "string"},
        headGroupSpec=closed(["rayStartParams", "template"], rayStartParams=TEXTS, template=TEMPLATE),
        workerGroupSpecs={
            "type": "array",
            "items": closed(
                ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
                groupName={"type": "string"},
                replicas=COUNT,
                minReplicas=COUNT,
                maxReplicas=COUNT,
                rayStartParams=TEXTS,
                template=TEMPLATE,
            ),
        },
    ),
)


@pytest.fixture
def manifest():
    return yaml.safe_load((DEPLOY / "raycluster.yaml").read_text())


def test_the_manifest_has_fields_that_kuberay_knows(manifest):
    validator = jsonschema.validators.validator_for(RAY_CLUSTER)
    validator.check_schema(RAY_CLUSTER)
    assert not list(validator(RAY_CLUSTER).iter_errors(manifest))


def test_the_manifest_fits_itself_and_the_lock(manifest):
    spec = manifest["spec"]
    assert "==" + spec["rayVersion"] == requirements("requirements.txt")["ray"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        for container in pod["containers"]:
            assert {m["name"] for m in container["volumeMounts"]} <= {v["name"] for v in pod["volumes"]}
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        container = group["template"]["spec"]["containers"][0]
        assert group["rayStartParams"]["num-cpus"] == container["resources"]["limits"]["cpu"]


def instructions():
    text = re.sub(r"#.*\n", "", (DEPLOY / "Dockerfile").read_text()).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def copied(directory):
    """Does what COPY says."""
    for name, rest in instructions():
        if name == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                where = directory / target if (ROOT / source).is_dir() else directory / target / source
                subprocess.run(["cp", "-r", ROOT / source, where], check=True)


def test_the_dockerfile_copies_all_that_setup_needs(tmp_path):
    copied(tmp_path)
    assert ["RUN", "make setup"] in instructions()
    run = subprocess.run(["make", "--dry-run", "setup"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "tools/check_install.py" in run.stdout


# Of the Compose specification, the fields that are used here.
SERVICE = closed(
    ["image", "command"],
    environment=TEXTS,
    network_mode={"const": "none"},
    image={"type": "string"},
    command={"type": "string"},
    restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
    read_only={"type": "boolean"},
    cap_drop={"type": "array", "items": {"type": "string"}},
    security_opt={"type": "array", "items": {"type": "string"}},
    tmpfs={"type": "array", "items": {"type": "string"}},
    volumes={"type": "array", "items": {"type": "string", "pattern": "^[^:]+:/[^:]+(:ro)?$"}},
    networks={"type": "array", "items": {"type": "string"}},
)


IMAGES = {"tff_tx": DEPLOY / "Dockerfile", "tff_tx_flower": DEPLOY / "flower" / "Dockerfile"}


def flags_of(words):
    """Those that a program takes; of Flower's, that the documentation's commands have, which a test runs."""
    if words[0] == "python":
        return {field.flag for field in importlib.import_module(words[2]).PROGRAM.fields.values()}
    page = (ROOT / "docs" / "federation.md").read_text()
    (command,) = re.findall(rf"^ *{words[0]} (.*)$", page, re.MULTILINE)
    return {*re.findall(r"--([\w-]+)", command), "host"}  # the container's own address


def given_of(words):
    """Flags and values of a command."""
    given = dict.fromkeys(word[2:] for word in words if word.startswith("--") and "=" not in word)
    return given | dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)


@pytest.mark.parametrize("name", ["federation.yaml", "federation_flower.yaml"])
def test_a_compose_file_fits_itself_the_images_and_the_programs(name):
    file, silos = yaml.safe_load((DEPLOY / name).read_text()), None
    assert {part for part in file if not part.startswith("x-")} == {"name", "services", "networks", "volumes"}
    for service in file["services"].values():
        jsonschema.validate(service, SERVICE)
        assert ("networks" in service) != ("network_mode" in service)
        assert set(service.get("networks", ())) <= set(file["networks"])
        mounted = dict(volume.split(":")[:2] for volume in service["volumes"])
        named = {volume: place for volume, place in mounted.items() if not volume.startswith(".")}
        assert set(named) <= set(file["volumes"])
        # A volume that is new belongs to whom the directory of the image does.
        made = re.findall("install -d -o .*", IMAGES[service["image"]].read_text())[0].split()
        assert set(named.values()) <= set(made)
        words = shlex.split(service["command"])
        given = given_of(words)
        assert set(given) <= flags_of(words)
        places = [*mounted.values(), *service.get("tmpfs", ())]
        for value in given.values():
            for path in re.findall(r"^/.*|(?<=\")/[^\"]*", value or ""):
                assert any(path.startswith(place) for place in places), path
        if "silos" in given:
            silos = given["silos"].split(",")
    members = [service for service in file["services"].values() if "programs.participate" in service["command"]]
    assert [file["services"][silo] for silo in silos] == members


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine")
@pytest.mark.parametrize("name", ["participant", "supernode"])
def test_a_unit_is_one_that_systemd_takes(tmp_path, name):
    text = (DEPLOY / f"tff-tx-{name}.service").read_text()
    (command,) = re.findall("ExecStart=(.*)", text)
    unit = tmp_path / f"tff-tx-{name}.service"
    unit.write_text(text.replace(command.split()[0], sys.executable))
    run = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    program, *words = shlex.split(command)
    assert set(given_of(words)) <= flags_of([pathlib.Path(program).name, *words])
