"""The files of `deploy/`, as far as they can be checked without the clouds they are for."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import tyro
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.submit import PACKAGES
from jobs.synthesize import SynthesizeSettings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CLUSTER = yaml.safe_load((DEPLOY / "kuberay/raycluster.yaml").read_text())
JOB = yaml.safe_load((DEPLOY / "kuberay/rayjob.yaml").read_text())


def test_all_of_the_code_goes_into_the_image_and_along_with_a_job():
    """A package that is left behind is only missed on the cluster."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {pattern.rstrip("*") for pattern in found}
    image = (DEPLOY / "Dockerfile").read_text()
    assert {name for name in packages if f" {name} {name}\n" in image} == packages
    assert set(PACKAGES) == packages


def test_the_launcher_file_is_what_ray_up_takes():
    """Ray's own schema accepts it."""
    validate_config(prepare_config(launcher()))


def test_the_job_runs_on_the_same_cluster_as_the_standing_one():
    """RayJob and RayCluster describe one cluster."""
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER["spec"]


def of_the_job():
    """The RayJob's entry point."""
    program, *command = shlex.split(JOB["spec"]["entrypoint"])
    assert program == "harmoview"
    return command


def of_the_page():
    """The command that docs/cluster.md submits."""
    page = (ROOT / "docs/cluster.md").read_text().replace("\\\n", " ")
    (line,) = re.findall("^harmoview submit .*", page, re.MULTILINE)
    return shlex.split(line.partition(" -- ")[2])


@pytest.mark.parametrize("command", [of_the_job, of_the_page])
def test_every_node_has_what_a_command_names(command):
    """The command parses, and the model files it takes lie where each group of nodes mounts them.

    The driver, on the head, hashes them; CPU nodes find faces; GPU nodes make views and score.
    """
    name, *arguments = command()
    assert name == "synthesize"
    line = tyro.cli(SynthesizeSettings, args=arguments).line
    files = [line.engine.flux.base, line.engine.flux.lora]
    if line.faces.faces == "buffalo_l":
        files.append(line.faces.faces_folder)  # without it: in a home that the image does not have
    groups = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
    mounted = {f"kuberay {group.get('groupName', 'head')}": mounts(group) for group in groups}
    mounted["launcher"] = re.findall(r"--volume=\S+?:(/[^:]+)", " ".join(options()))
    for group, folders in mounted.items():
        for file in files:
            assert any(Path(file).is_relative_to(folder) for folder in folders), (group, file)


def test_every_node_has_the_same_hub_cache():
    """HF_HOME lies on what all mount, else the head would fetch a base that the nodes have."""
    for group in [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]:
        variables = {each["name"]: each["value"] for each in container(group).get("env", [])}
        assert variables.get("HF_HOME") == "/weights/huggingface"
        assert "/weights" in mounts(group)
    assert "--env=HF_HOME=/weights/huggingface" in options()


def container(group):
    (one,) = group["template"]["spec"]["containers"]
    return one


def mounts(group):
    """Where the group's containers see volumes that its pods have."""
    volumes = {volume["name"] for volume in group["template"]["spec"].get("volumes", [])}
    there = container(group).get("volumeMounts", [])
    return [mount["mountPath"] for mount in there if mount["name"] in volumes]


def options():
    """Of the launcher's containers, on every node."""
    return launcher()["docker"].get("run_options", [])


def launcher():
    return yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())


def test_every_file_names_the_same_ray():
    """Image, manifests and the installed Ray are of one minor version."""
    import ray

    minor = ray.__version__.rsplit(".", 1)[0]
    texts = [(DEPLOY / "Dockerfile").read_text(), (DEPLOY / "kuberay/rayjob.yaml").read_text()]
    for text in texts:
        found = re.findall(r'(?:rayproject/ray:|rayVersion: ")(\d+\.\d+)', text)
        assert found == [minor]


@pytest.mark.parametrize("group", CLUSTER["spec"]["workerGroupSpecs"], ids=lambda g: g["groupName"])
def test_a_pod_asks_for_what_it_may_use(group):
    """Requests equal limits, so that Ray's count of CPUs and memory is true."""
    resources = container(group)["resources"]
    assert resources["requests"] == resources["limits"]


def test_the_slurm_script_is_a_script():
    """bash can parse it, and without a command it says how it is used."""
    script = str(DEPLOY / "slurm.sh")
    subprocess.run(["bash", "-n", script], check=True)
    usage = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "deploy/slurm.sh COMMAND" in usage.stderr
