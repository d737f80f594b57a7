"""Servers that a test starts for itself: PostgreSQL and a Slurm of one node, from Debian's packages."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_SLURM = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Database:
    """A PostgreSQL server of a test.

    Attributes:
        url: Of a database, password included.
    """

    url: str
    command: list[str]
    data: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(self.port))

    def stop(self) -> None:
        """End the server and its connections at once, as a restart does."""
        if self.process is not None:
            first, *_ = (self.data / "postmaster.pid").read_text().splitlines()
            os.kill(int(first), signal.SIGINT)  # PostgreSQL's fast shutdown; runuser does not pass it on
            self.process.wait()
            self.process = None


@contextmanager
def postgresql() -> Iterator[Database]:
    """A PostgreSQL of its own on a free port. Skips without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    if not found:
        pytest.skip("no PostgreSQL server (apt-get install postgresql)")
    programs = found[-1].parent
    user = _other_user("postgres")
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchme-pg-")))
        secret = root / "secret"
        secret.write_text("hush\n")
        _give(root, user)
        run = ["runuser", "-u", user, "--"] if user else []
        port = free_port()
        subprocess.run(
            [
                *(*run, str(programs / "initdb"), "-D", str(root / "data"), "-U", "watchme", "-A", "scram-sha-256"),
                *(f"--pwfile={secret}", "--no-sync"),
            ],
            check=True,
            capture_output=True,
        )
        place = [str(root / "data"), "-p", str(port), "-k", str(root), "-h", "127.0.0.1"]
        database = Database(
            f"postgresql://watchme:hush@127.0.0.1:{port}/postgres",
            [*run, str(programs / "postgres"), "-D", *place],
            root / "data",
            port,
        )
        database.start()
        stack.callback(database.stop)
        yield database


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """A Slurm of one node; gives the variables by which its commands find it. Skips where it cannot be had."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not _program(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)} (apt-get install slurm-wlm)")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs as their users, so it must be started by root")
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchme-slurm-")))
        root.chmod(0o755)
        for name in ("state", "spool", "munge"):
            (root / name).mkdir()
        (root / "munge" / "key").write_bytes(os.urandom(1024))
        _give(root / "munge", "munge")
        (root / "munge" / "key").chmod(0o400)
        host = socket.gethostname()
        config = root / "slurm.conf"
        config.write_text(
            _SLURM.format(root=root, host=host, cores=os.cpu_count(), control_port=free_port(), node_port=free_port())
        )
        variables = {"SLURM_CONF": str(config)}
        munge = root / "munge"
        _daemon(
            stack,
            [
                *("runuser", "-u", "munge", "--", str(_program("munged")), "--foreground", "--force"),
                *(f"--socket={munge}/socket", f"--key-file={munge}/key", f"--log-file={munge}/log"),
                *(f"--pid-file={munge}/pid", f"--seed-file={munge}/seed"),
            ],
        )
        until(lambda: (munge / "socket").exists())
        for name in ("slurmctld", "slurmd"):
            _daemon(stack, [str(_program(name)), "-D", "-f", str(config)])
        ask = ["sinfo", "--noheader", "--format=%T"]

        def idle() -> bool:
            answer = subprocess.run(ask, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
            return "idle" in answer.stdout

        until(idle)
        yield variables


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.skip("the server did not come up")
        time.sleep(0.05)


def _daemon(stack: ExitStack, command: list[str]) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _other_user(name: str) -> str:
    """A user to run a server as that refuses root; empty where we are not root."""
    if os.geteuid() != 0:
        return ""
    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        pytest.skip(f"the server refuses root, and there is no user {name}")


def _give(folder: Path, user: str) -> None:
    if user:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, user, user)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
