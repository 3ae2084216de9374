"""The examples for clusters: their syntax, and that the commands in them are understood."""

import re
import shutil
import subprocess

import pytest
from command import gpucnn
from needs import posix_here, yaml_here
from places import ROOT

SLURM = ROOT / "bench" / "cluster" / "slurm.sh"
KUBERNETES = ROOT / "bench" / "cluster" / "kubernetes.yaml"


def options_of(text):
    """The options of gpucnn train in a script."""
    lines = text.replace("\\\n", " ").splitlines()
    return {
        word for line in lines if "gpucnn train" in line for word in re.findall(r"--[a-z-]+", line.split("train")[1])
    }


def commands_of_kubernetes():
    import yaml

    job = yaml.safe_load(KUBERNETES.read_text())
    return "\n".join(job["spec"]["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"][0]["args"])


def is_shell(text):
    return subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, timeout=60)


@posix_here
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_slurm_script_is_valid_shell_with_valid_options_for_sbatch():
    text = SLURM.read_text()
    done = is_shell(text)
    assert done.returncode == 0, done.stderr
    assert is_shell(text + "\nif").returncode != 0
    directives = re.findall(r"^#SBATCH (\S+)$", text, re.MULTILINE)
    assert directives and all(re.fullmatch(r"--[a-z-]+(=\S+)?", one) for one in directives)
    assert text.index("\nset -euo") > text.rindex("#SBATCH")  # sbatch reads no further than the first command


@yaml_here
@posix_here
def test_the_mpi_job_has_the_fields_that_the_operator_needs():
    import yaml

    job = yaml.safe_load(KUBERNETES.read_text())
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    replicas = job["spec"]["mpiReplicaSpecs"]
    assert replicas.keys() == {"Launcher", "Worker"}
    for name, replica in replicas.items():
        pod = replica["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert replica["replicas"] >= 1, name
        for container in pod["containers"]:
            assert {"name", "image"} <= container.keys()
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    ranks = job["spec"]["slotsPerWorker"] * replicas["Worker"]["replicas"]
    assert set(re.findall(r"mpirun -n (\d+)", commands_of_kubernetes())) == {str(ranks)}
    assert is_shell(commands_of_kubernetes()).returncode == 0


@yaml_here
def test_their_options_are_those_of_the_command():
    known = set(re.findall(r"--[a-z-]+", gpucnn("train", "--help").stdout))
    for text in (SLURM.read_text(), commands_of_kubernetes()):
        assert {"--resume", "--out"} <= options_of(text) <= known
