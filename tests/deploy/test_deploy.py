"""The files of `deploy/`, as far as they can be checked without the clouds they are for."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import tyro
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from jobs.synthesize import SynthesizeSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
CLUSTER = yaml.safe_load((DEPLOY / "kuberay/raycluster.yaml").read_text())
JOB = yaml.safe_load((DEPLOY / "kuberay/rayjob.yaml").read_text())


def test_the_launcher_file_is_what_ray_up_takes():
    """Ray's own schema accepts it."""
    validate_config(prepare_config(yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())))


def test_the_job_runs_on_the_same_cluster_as_the_standing_one():
    """RayJob and RayCluster describe one cluster."""
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER["spec"]


def test_the_jobs_command_is_one():
    """The RayJob's entry point parses."""
    program, command, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert (program, command) == ("harmoview", "synthesize")
    tyro.cli(SynthesizeSettings, args=arguments)


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
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]


def test_the_slurm_script_is_a_script():
    """bash can parse it, and without a command it says how it is used."""
    script = str(DEPLOY / "slurm.sh")
    subprocess.run(["bash", "-n", script], check=True)
    usage = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "deploy/slurm.sh COMMAND" in usage.stderr
