"""A real Slurm on this one machine for tests: munged, slurmctld and a slurmd a node by hand, all in one folder.

Needs the Debian packages slurm-wlm and munge, but neither root nor systemd: the daemons run as whoever runs the tests,
and end with the process that started them. Its two nodes are both this machine, and have more CPUs than that.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fit_job import clean_environment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue", "setpriv")
DAEMON_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
NODES = ("n1", "n2")
CPUS_OF_A_NODE = 8
UNFINISHED = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED")

# FirstJobId: MPICH names its shared memory after the job, and what a killed job of an earlier run left would be found.
# cred_expire: a requeued job waits this long and a second more before it may start again (120 by default).
# Time limits are looked at every 30 seconds, whatever is set here.
CONFIGURATION = """\
ClusterName=cpxt
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000
JobRequeue=1
KillWait=5
MinJobAge=3600
FirstJobId={first_job}
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=120
PropagateResourceLimitsExcept=MEMLOCK
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 MaxTime=INFINITE OverSubscribe=NO State=UP
NodeName=DEFAULT CPUs={cpus} RealMemory=64000 State=UNKNOWN
"""


def missing_programs() -> list[str]:
    """What of Slurm and munge is not installed here."""
    return [program for program in PROGRAMS if shutil.which(program, path=DAEMON_PATH) is None]


def wait_until(true: Callable[[], bool], what: str, *, timeout_s: float = 120.0, every_s: float = 0.1) -> None:
    """Wait for something; fails with its name where it does not come."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s for: {what}"
        time.sleep(every_s)


class SlurmCluster:
    """A running Slurm, see `running_slurm`.

    Attributes
    ----------
    environment : dict
        For sbatch, squeue and the like.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = clean_environment(SLURM_CONF=str(folder / "slurm.conf"), PATH=DAEMON_PATH)

    def run(self, *words: object, **environment: str) -> subprocess.CompletedProcess:
        """Run a command of Slurm, or one that uses Slurm."""
        return subprocess.run(
            list(map(str, words)), env=self.environment | environment, capture_output=True, text=True, timeout=60
        )

    def submit(self, *words: object, cwd: Path, **environment: str) -> str:
        """Submit a job; returns its number."""
        ended = subprocess.run(
            ["sbatch", "--parsable", *map(str, words)],
            env=self.environment | environment, cwd=cwd, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What scontrol tells of a job: JobState, ExitCode, Restarts and so on."""
        shown = self.run("scontrol", "--oneliner", "show", "job", number).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", shown.partition("\n")[0]))

    def states(self, number: str) -> list[str]:
        """State of a job, or of each task of an array."""
        listed = self.run("squeue", "--noheader", "--array", "--states=all", f"--jobs={number}", "--format=%T")
        return listed.stdout.split()

    def ended(self, number: str) -> bool:
        """Whether a job, or all tasks of an array, will never run again."""
        states = self.states(number)
        return bool(states) and not set(states) & set(UNFINISHED)

    def wait_for_end(self, number: str, *, timeout_s: float = 180.0) -> dict[str, str]:
        """Until a job has ended; returns what scontrol tells of it."""
        wait_until(lambda: self.ended(number), f"end of job {number}", timeout_s=timeout_s)
        return self.job(number)


@contextlib.contextmanager
def running_slurm() -> Iterator[SlurmCluster]:
    """Slurm with two nodes of `CPUS_OF_A_NODE` processors; it is gone after the ``with`` block."""
    folder = Path(tempfile.mkdtemp(prefix="cpxt_slurm_", dir="/tmp"))  # short: a socket's path has 108 characters
    cluster = SlurmCluster(folder)
    configuration = folder / "slurm.conf"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _write_configuration(configuration)
        stack.enter_context(_daemon(folder, "munged", *_munged_options(folder)))
        wait_until((folder / "munge.socket").exists, "munged")
        stack.enter_context(_daemon(folder, "slurmctld", "-D", "-i", "-f", configuration))
        for node in NODES:
            stack.enter_context(_daemon(folder, "slurmd", "-D", "-N", node, "-f", configuration))
        stack.callback(_cancel_all, cluster)
        _wait_for_nodes(cluster)
        yield cluster


def _wait_for_nodes(cluster: SlurmCluster) -> None:
    try:
        wait_until(lambda: cluster.run("sinfo", "-h", "-o", "%D %T").stdout.strip() == "2 idle", "nodes", timeout_s=60)
    except AssertionError as error:
        told = [f"{path.name}: {path.read_text()[-1500:]}" for path in cluster.folder.glob("*.out")]
        raise AssertionError("\n".join(["Slurm did not start", *told])) from error


def _write_configuration(path: Path) -> None:
    folder = path.parent
    folder.chmod(0o755)
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    with contextlib.ExitStack() as stack:
        ports = []
        for free in [stack.enter_context(socket.socket()) for _ in ("controller", *NODES)]:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(
        host=host, user=getpass.getuser(), folder=folder, cpus=CPUS_OF_A_NODE,
        controller_port=ports[0], first_job=int.from_bytes(os.urandom(3), "little") + 1,
    )  # fmt: skip
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}\n"
        for node, port in zip(NODES, ports[1:], strict=True)
    ]
    path.write_text(text + "".join(lines))


def _munged_options(folder: Path) -> list[str]:
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    # --force: it dislikes to keep its files below /tmp.
    return ["--foreground", "--force", "--num-threads=2", *(f"--{k}={folder}/munge.{v}" for k, v in places.items())]


@contextlib.contextmanager
def _daemon(folder: Path, name: str, *options: object) -> Iterator[None]:
    program = shutil.which(name, path=DAEMON_PATH)
    with (folder / f"{name}.out").open("ab") as output:
        # It dies with the process of the tests, also where that is killed.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *map(str, options)],
            env=clean_environment(PATH=DAEMON_PATH), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cancel_all(cluster: SlurmCluster) -> None:
    """End all jobs first: their processes are no children of slurmd."""
    cluster.run("scancel", "--quiet", f"--user={getpass.getuser()}")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not cluster.run("squeue", "-h").stdout.strip(), "the end of all jobs", timeout_s=30)
