"""The manifest against the fields of KubeRay's types, and the steps of the Dockerfile as far as they run here."""

import pathlib
import re
import shlex
import subprocess

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
