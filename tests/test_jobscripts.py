"""What the job scripts decide, without a Slurm: launcher, requeue, messages. Its commands are stand-ins here."""

import re
import signal
import subprocess
import time

import pytest
from fit_job import clean_environment
from job_clone import JOBSCRIPTS, make_clone, write_program

MPICH = "MPICH Version:      5.0.2\nMPICH Release date: unreleased"
OPEN_MPI = "Open MPI v5.0.11, package: Open MPI"


class Job:
    """A clone whose program and whose Slurm are stand-ins; what they are called with is kept."""

    def __init__(self, folder, *, plugins="none pmi2", library=MPICH, program="exit 0"):
        self.scripts = make_clone(folder / "my clone")
        self.calls = folder / "calls"
        self.calls.touch()
        self.bin = folder / "bin"
        self.venv = self.scripts.parent / ".venv"
        self.ini = folder / "a cluster" / "cluster.ini"
        self.ini.parent.mkdir()
        self.ini.touch()
        noted = f'printf "%s\\n" "$(basename "$0") $*" >> {str(self.calls)!r}'
        show = 'case $1 in show) echo "JobState=RUNNING Requeue=1" ;; esac'
        write_program(self.bin / "scontrol", f"{noted}\n{show}")
        known = f'case " {plugins} " in *" ${{1#--mpi=}} "*) exit 0 ;; *) exit 1 ;; esac'
        trial = f'if [ "${{4:-}}" = true ]; then {known}; fi'
        started = 'while [ "${1#-}" != "$1" ]; do case $1 in -n | --bind-to) shift ;; esac; shift; done\nexec "$@"'
        write_program(self.bin / "srun", f"{trial}\n{noted}\n{started}")
        write_program(self.bin / "mpiexec", f"{noted}\n{started}")
        write_program(self.venv / "bin" / "mpiexec", f"{noted}\n{started}")
        write_program(self.venv / "bin" / "python", f"printf '%b\\n' {library!r}")
        write_program(self.venv / "bin" / "cpxt-fit", f"{noted}\n{program}")

    def start(self, *arguments, script="fit.slurm", **environment):
        known = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_NNODES": "1"} | environment
        return subprocess.Popen(
            ["bash", self.scripts / script, *map(str, arguments)],
            env=clean_environment(PATH=f"{self.bin}:/usr/bin:/bin", **{k: v for k, v in known.items() if v}),
            cwd=self.ini.parent.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *arguments, **environment):
        job = self.start(*arguments, **environment)
        output, _ = job.communicate(timeout=60)
        return job.returncode, output

    def called(self, name):
        return [line.partition(" ")[2] for line in self.calls.read_text().splitlines() if line.split()[0] == name]

    def wait_until_ready(self):
        deadline = time.monotonic() + 60
        while not (self.ini.parent / "ready").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)


UNTIL_SIGNAL = """
trap 'exit 75' USR1 TERM
touch "$(dirname "$1")/ready"
for i in {1..600}; do sleep 0.1; done"""


@pytest.mark.parametrize(
    ("library", "plugins", "environment", "expected"),
    [
        (MPICH, "none pmi2", {}, r"srun --mpi=pmi2 --kill-on-bad-exit=0 --ntasks=4"),
        (MPICH, "none pmix pmix_v4", {}, r"\S.*my clone/\.venv/bin/mpiexec -n 4"),
        (MPICH, "none pmi2", {"CPXT_LAUNCHER": "mpiexec"}, r"\S.*my clone/\.venv/bin/mpiexec -n 4"),
        (OPEN_MPI, "none pmi2 pmix_v4 pmix", {}, r"srun --mpi=pmix --kill-on-bad-exit=0 --ntasks=4"),
        (OPEN_MPI, "none pmi2", {}, r"\S.*my clone/\.venv/bin/mpiexec --bind-to none -n 4"),
        (MPICH, "none", {"CPXT_LAUNCHER": "srun --mpi=cray_shasta"}, r"srun --mpi=cray_shasta"),
    ],
)
def test_the_launcher_fits_the_mpi_library(tmp_path, library, plugins, environment, expected):
    job = Job(tmp_path, library=library, plugins=plugins)
    code, output = job.run(job.ini, "--resolution", "3", **environment)
    assert code == 0, output
    assert re.search(rf"started by: {expected}$", output, re.MULTILINE), output
    assert job.called("cpxt-fit") == [f"{job.ini} --resolution 3"]


def test_one_task_needs_no_launcher(tmp_path):
    job = Job(tmp_path)
    assert job.run(job.ini, SLURM_NTASKS="1")[0] == 0
    assert not job.called("srun") and not job.called("mpiexec")


def test_without_mpiexec_in_the_environment_that_of_the_loaded_module_is_taken(tmp_path):
    job = Job(tmp_path, library=OPEN_MPI, plugins="none")
    (job.venv / "bin" / "mpiexec").unlink()
    code, output = job.run(job.ini)
    assert code == 0
    assert f"started by: {job.bin}/mpiexec --bind-to none -n 4" in output


@pytest.mark.parametrize("code", [0, 1, 2, 3, 5, 6, 7])
def test_what_the_fit_says_is_the_exit_code_of_the_job(tmp_path, code):
    job = Job(tmp_path, program=f"exit {code}")
    assert job.run(job.ini)[0] == code
    assert len(job.called("cpxt-fit")) == 1


@pytest.mark.parametrize("launcher", ["srun", "mpiexec", ""])
def test_the_signal_before_the_wall_time_stops_the_fit_and_requeues_the_job(tmp_path, launcher):
    job = Job(tmp_path, program=UNTIL_SIGNAL)
    running = job.start(job.ini, CPXT_LAUNCHER=launcher, SLURM_NTASKS="4" if launcher else "1")
    job.wait_until_ready()
    running.send_signal(signal.SIGUSR1)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 75
    assert job.called("scontrol") == ["show job 77", "requeue 77"]
    assert "requeued (restart 1 of at most 20)" in output


def test_a_task_of_an_array_is_requeued_alone(tmp_path):
    job = Job(tmp_path, program=UNTIL_SIGNAL)
    array = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "8"}
    array |= {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "7", "SLURM_NTASKS": "1"}
    running = job.start(job.ini, script="fit_array.slurm", **array)
    job.wait_until_ready()
    running.send_signal(signal.SIGUSR1)
    running.communicate(timeout=60)
    assert job.called("scontrol") == ["show job 70_7", "requeue 70_7"]


@pytest.mark.parametrize("signals", [["TERM"], ["USR1", "TERM"]])
def test_a_cancelled_job_is_not_requeued(tmp_path, signals):
    slowly = UNTIL_SIGNAL.replace("'exit 75'", "'sleep 1; exit 75'")
    job = Job(tmp_path, program=slowly)
    running = job.start(job.ini)
    job.wait_until_ready()
    for name in signals:
        running.send_signal(signal.Signals[f"SIG{name}"])
        time.sleep(0.3)
    running.communicate(timeout=60)
    assert running.returncode == 75
    assert not job.called("scontrol")


def test_a_job_that_slurm_has_cancelled_meanwhile_is_not_requeued(tmp_path):
    job = Job(tmp_path, program="trap '' USR1; kill -USR1 $PPID; sleep 0.5; exit 75")
    write_program(job.bin / "scontrol", "echo JobState=CANCELLED")
    code, output = job.run(job.ini, SLURM_NTASKS="1")
    assert code == 75
    assert "not requeued: it was cancelled meanwhile" in output


def test_the_number_of_restarts_is_limited(tmp_path):
    job = Job(tmp_path, program="trap '' USR1; kill -USR1 $PPID; sleep 0.5; exit 75")
    more = {"SLURM_NTASKS": "1", "SLURM_RESTART_COUNT": "3"}
    assert "requeued (restart 4 of at most 20)" in job.run(job.ini, **more)[1]
    code, output = job.run(job.ini, CPXT_MAX_RESTARTS="3", **more)
    assert code == 75
    assert "not requeued: CPXT_MAX_RESTARTS=3 is reached; submit it again: it continues" in output


def test_a_fit_that_has_ended_when_the_signal_comes_is_not_requeued(tmp_path):
    job = Job(tmp_path, program="trap '' USR1; kill -USR1 $PPID; sleep 0.5; exit 5")
    assert job.run(job.ini, SLURM_NTASKS="1")[0] == 5
    assert not job.called("scontrol")


def test_a_signal_before_the_start_requeues_without_starting(tmp_path):
    job = Job(tmp_path)
    write_program(job.venv / "bin" / "python", f"touch '{job.ini.parent}/ready'; sleep 1; echo MPICH")
    running = job.start(job.ini)
    job.wait_until_ready()
    running.send_signal(signal.SIGUSR1)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 75, output
    assert not job.called("cpxt-fit")
    assert job.called("scontrol")[-1] == "requeue 77"


def test_a_job_that_lost_a_rank_starts_again_three_times_at_most(tmp_path):
    job = Job(tmp_path, program='[ "$(grep -c ^cpxt-fit "$CALLS")" -ge 3 ] || kill -KILL $$')
    code, output = job.run(job.ini, CALLS=str(job.calls))
    assert code == 0, output
    assert output.count("a rank was lost") == 2
    write_program(job.venv / "bin" / "cpxt-fit", "kill -KILL $$")
    code, output = job.run(job.ini)
    assert code == 137
    assert output.count("a rank was lost") == 3


def test_a_job_of_one_process_that_is_killed_is_not_started_again(tmp_path):
    job = Job(tmp_path, program="kill -KILL $$")
    code, output = job.run(job.ini, SLURM_NTASKS="1")
    assert code == 137
    assert "a rank was lost" not in output


def test_a_restart_under_srun_first_removes_what_a_killed_start_left(tmp_path):
    job = Job(tmp_path)
    job.run(job.ini)
    assert len(job.called("srun")) == 1
    job.run(job.ini, SLURM_RESTART_COUNT="1")
    assert job.called("srun")[1].startswith("--mpi=none --nodes=1 --ntasks=1 --ntasks-per-node=1 bash -c")


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (["nowhere.ini"], {}, 3, r"nowhere.ini: there is no such file \(looked for from .*\)"),
        ([], {}, 3, r"cluster.ini: there is no such file"),
        (
            ["{ini}"],
            {"CPXT_VENV": "/nowhere"},
            3,
            r"no environment in /nowhere. Make it with: bash jobscripts/setup.sh",
        ),
        (["{ini}"], {"SLURM_JOB_ID": ""}, 2, r"this is a job for Slurm. Submit it: sbatch"),
        (["{ini}"], {"SLURM_ARRAY_TASK_ID": "3"}, 2, r"Take jobscripts/fit_array.slurm"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path, arguments, environment, code, message):
    job = Job(tmp_path)
    found, output = job.run(*[a.format(ini=job.ini) for a in arguments], **environment)
    assert found == code
    assert re.search(message, output), output
    assert not job.called("cpxt-fit")


def test_an_mpi_that_cannot_be_loaded_is_said(tmp_path):
    job = Job(tmp_path)
    write_program(job.venv / "bin" / "python", "exit 1")
    code, output = job.run(job.ini)
    assert code == 3
    assert "MPI cannot be loaded. Load the module that was loaded at the set-up" in output


def test_an_array_with_gaps_must_say_how_many_shares_there_are(tmp_path):
    job = Job(tmp_path)
    gaps = {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "17", "SLURM_ARRAY_TASK_COUNT": "2"}
    gaps |= {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "17", "SLURM_NTASKS": "1"}
    code, output = job.run(job.ini, script="fit_array.slurm", **gaps)
    assert code == 2
    assert "CPXT_PIECES=N sbatch" in output
    assert job.run(job.ini, script="fit_array.slurm", CPXT_PIECES="20", **gaps)[0] == 0
    code, output = job.run(job.ini, script="fit_array.slurm")
    assert code == 2
    assert "sbatch --array=0-19" in output


def test_all_job_scripts_find_their_folder_in_the_same_way():
    found = set()
    for script in JOBSCRIPTS.glob("*.slurm"):
        text = script.read_text()
        found.add(text[text.index("\nwall_time=''") : text.index("exit 3; }")])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolution", "4"], "--resolution 4: expected 1, 2 or 3"),
        (["--resolution"], "--resolution needs a value"),
        (["-n", "3"], "unknown option '-n'. sbatch's options go behind --all"),
        (["{ini}", "{ini}"], "one cluster.ini, please"),
        (["nowhere.ini"], "nowhere.ini: there is no such file"),
        (["{ini}"], "there is no sbatch here"),
    ],
)
def test_the_chain_says_what_is_wrong_with_its_arguments(tmp_path, arguments, message):
    job = Job(tmp_path)
    without_slurm = tmp_path / "plain"
    without_slurm.mkdir()
    for name in ("bash", "dirname", "basename", "id", "mkdir", "sed", "flock"):
        (without_slurm / name).symlink_to(f"/usr/bin/{name}")
    ended = subprocess.run(
        ["/bin/bash", job.scripts / "chain.sh", *[a.format(ini=job.ini) for a in arguments]],
        env=clean_environment(PATH=str(without_slurm)), cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == (3 if "there is no" in message else 2)
    assert ended.stderr.startswith(f"chain: {message}") or message in ended.stderr
