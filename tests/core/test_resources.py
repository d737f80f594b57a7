"""What a process may use where its container or its Slurm job has less than the machine."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from watchme.core import resources

GB = 2**30


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of control groups on a machine with 100 GB."""
    monkeypatch.setattr(resources, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(resources, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GB))
    return tmp_path / "groups"


def limit(group: Path, most: str, used: int, cached: int = 0) -> None:
    """Write the files of a group; a third of what is cached was read lately."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    active = cached // 3
    stat = f"anon {used - cached}\nfile {cached}\nactive_file {active}\ninactive_file {cached - active}\n"
    (group / "memory.stat").write_text(stat)


def test_a_container_has_its_own_limit(groups: Path) -> None:
    assert resources.available_memory() == 100 * GB
    limit(groups, "max", 3 * GB)
    assert resources.available_memory() == 100 * GB
    limit(groups, str(8 * GB), 3 * GB)
    assert resources.available_memory() == 5 * GB


def test_files_that_were_read_do_not_count_as_used(groups: Path) -> None:
    """After a dataset was read they fill a container, and re-ranking was refused for want of memory."""
    limit(groups, str(8 * GB), 8 * GB, cached=6 * GB)
    assert resources.available_memory() == 6 * GB


def test_a_job_has_the_least_of_its_groups(groups: Path) -> None:
    job = groups / "system.slice" / "slurmstepd.scope" / "job_7"
    limit(job, str(16 * GB), 2 * GB)
    limit(job / "step_0", "max", 1 * GB)
    resources._OWN_GROUP.write_text("1:name=systemd:/\n0::/system.slice/slurmstepd.scope/job_7/step_0\n")
    assert resources.available_memory() == 14 * GB
