"""`./run` as a stranger meets it: with or without a fitting Python, alone or twice at once, cut off half-way.

The projects here are small stand-ins with the real script, so that nothing is downloaded.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stand_in_python import stand_in_python
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("sh", "bash", "uname", "readlink", "dirname", "cmp", "cat", "rm", "mkdir", "cp", "mv", "tail")
TESTS = ("tests/bench.py", "tests/faults.py", "tests/fault_matrix.py", "tests/pictures.py")
SHOWS_ITSELF = """
import json, os, sys
import parcel
if "wait" in sys.argv:
    print("waiting", flush=True)
    input()
    import imported_late
    sys.exit(f"imported {imported_late.VERSION}")
print(json.dumps({
    "module": __name__ and sys.modules["__main__"].__spec__.name, "arguments": sys.argv[1:], "folder": os.getcwd(),
    "pid": os.getpid(), "parcel": parcel.VERSION, "data": os.environ.get("OCC_DATA_DIR"),
}))
sys.exit(int(os.environ.get("EXIT", "0")))
"""


@dataclass(frozen=True)
class Project:
    """A checkout with the real script and stand-ins for all that it starts."""

    folder: Path
    python: Path
    """What environments are made with."""

    def run(
        self, *arguments: str, folder: Path | None = None, script: Path | None = None, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [script or self.folder / "run", *arguments],
            cwd=folder or self.folder,
            env={**self.environment(), **environment} if "PATH" not in environment else environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def shown(self, *arguments: str, folder: Path | None = None, script: Path | None = None) -> Mapping[str, object]:
        done = self.run(*arguments, folder=folder, script=script)
        assert done.returncode == 0, done.stderr
        shown: Mapping[str, object] = json.loads(done.stdout)
        return shown

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHON": str(self.python)}

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.folder / "run", *arguments],
            cwd=self.folder,
            env={**self.environment(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def lock(self, name: str, *parcels: Path) -> None:
        lines = [
            f"{parcel.name.split('-')[0]} @ file://{parcel} --hash=sha256:{digest(parcel)}\n" for parcel in parcels
        ]
        (self.folder / name).write_text("".join(lines), encoding="ascii")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages to install: two versions of one, and a stand-in for pytest."""
    shelf = tmp_path_factory.mktemp("shelf")
    for version in ("1", "2"):
        modules = {"parcel.py": f"VERSION = {version}\n", "imported_late.py": f"VERSION = {version}\n"}
        wheel(shelf, "parcel", version, modules)
    wheel(shelf, "pytest", "9", {"pytest/__init__.py": "", "pytest/__main__.py": SHOWS_ITSELF})
    return shelf


@pytest.fixture(scope="module")
def fresh(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(
        tmp_path_factory.mktemp("checkout with a space"), stand_in_python(tmp_path_factory.mktemp("python"))
    )
    shutil.copy(ROOT / "run", project.folder)
    for module in ("occ/cli.py", "occ/local/up.py", "occ/demo/demo.py", *TESTS):
        path = project.folder / module
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(SHOWS_ITSELF, encoding="ascii")
    shutil.copy(ROOT / "occ" / "local" / "packages.py", project.folder / "occ" / "local")
    project.lock("requirements.lock", parcel(shelf, 1))
    project.lock("requirements-dev.lock", parcel(shelf, 1), shelf / "pytest-9-py3-none-any.whl")
    return project


@pytest.fixture(scope="module")
def set_up(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copied(fresh, tmp_path_factory.mktemp("set up"))
    done = project.run("occ")
    assert done.returncode == 0, done.stderr
    return project


@pytest.fixture
def checkout(fresh: Project, tmp_path: Path) -> Project:
    """Nothing installed yet."""
    return copied(fresh, tmp_path)


@pytest.fixture
def installed(set_up: Project, tmp_path: Path) -> Project:
    """What runtime needs is installed."""
    return copied(set_up, tmp_path)


@pytest.mark.end_to_end
def test_the_first_start_installs_and_runs_and_the_second_only_runs(checkout: Project) -> None:
    first = checkout.run("occ", "status", "--json", PYTHON=sys.executable)  # the one real environment, by the real pip
    assert "Setting up .venv" in first.stderr
    assert json.loads(first.stdout)["arguments"] == ["status", "--json"]
    done = (checkout.folder / ".venvs" / "current").stat()
    second = checkout.run("occ", "status", PYTHON="/nowhere/python")
    assert second.stderr == ""
    assert json.loads(second.stdout)["parcel"] == 1
    assert os.path.samestat(done, (checkout.folder / ".venvs" / "current").stat())
    assert (checkout.folder / ".venv" / "bin" / "python").exists()


@pytest.mark.end_to_end
def test_arguments_folder_process_and_exit_code_are_the_callers(installed: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "tasks").mkdir(parents=True)
    (elsewhere / "tasks" / "__init__.py").write_text("raise SystemExit('the wrong tasks')", encoding="ascii")
    link = elsewhere / "occ-connect"
    link.symlink_to("link-to-it")
    (elsewhere / "link-to-it").symlink_to(installed.folder / "run")
    shown = installed.shown("occ", "seal", "m 1", "", "*", folder=elsewhere, script=link)
    assert shown["arguments"] == ["seal", "m 1", "", "*"]
    assert shown["folder"] == str(elsewhere)
    assert shown["data"] == str(installed.folder / ".data")
    assert installed.run("occ", EXIT="7").returncode == 7
    process = installed.start("occ")
    words, _ = process.communicate()
    assert json.loads(words)["pid"] == process.pid


@pytest.mark.end_to_end
def test_a_data_folder_that_is_named_is_kept(installed: Project) -> None:
    assert json.loads(installed.run("occ", OCC_DATA_DIR="there").stdout)["data"] == "there"
    assert json.loads(installed.run("occ", OCC_DATA_DIR_FILE="there").stdout)["data"] is None


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("demo", "occ.demo.demo"),
        ("up", "occ.local.up"),
        ("occ", "occ.cli"),
        ("celery", "occ.cli"),
        ("test", "pytest.__main__"),
        ("bench", "tests.bench"),
        ("faults", "tests.faults"),
        ("fault-matrix", "tests.fault_matrix"),
        ("pictures", "tests.pictures"),
    ],
)
def test_each_command_starts_its_module(installed: Project, command: str, module: str) -> None:
    shown = installed.shown(command, "-x", "--y=1")
    before = ["celery"] if command == "celery" else []
    assert (shown["module"], shown["arguments"]) == (module, [*before, "-x", "--y=1"])


@pytest.mark.end_to_end
def test_a_release_is_made_with_the_installed_python(installed: Project) -> None:
    script = installed.folder / "deploy" / "release"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\nexec "$PYTHON" -c "import parcel, pytest; print(parcel.VERSION)"\n', encoding="ascii")
    script.chmod(0o755)
    done = installed.run("release")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.end_to_end
def test_a_changed_lock_is_installed(installed: Project, shelf: Path) -> None:
    installed.lock("requirements.lock", parcel(shelf, 2))
    assert installed.shown("occ")["parcel"] == 2


@pytest.mark.end_to_end
def test_what_the_tests_need_is_installed_for_them_and_serves_the_rest_too(installed: Project) -> None:
    first = installed.run("test")
    assert "requirements-dev.lock" in first.stderr
    assert [installed.run(command).stderr for command in ("test", "occ")] == ["", ""]


@pytest.mark.end_to_end
def test_a_running_program_keeps_the_packages_it_started_with(installed: Project, shelf: Path) -> None:
    running = installed.start("up", "wait")
    assert running.stdout is not None
    assert running.stdout.readline() == "waiting\n"
    installed.lock("requirements.lock", parcel(shelf, 2))
    assert installed.shown("occ")["parcel"] == 2
    _, said = running.communicate("\n")
    assert said == "imported 1\n"
    installed.lock("requirements.lock", parcel(shelf, 1))
    assert installed.shown("occ")["parcel"] == 1
    assert len(list((installed.folder / ".venvs").glob("[0-9]*"))) == 1


@pytest.mark.end_to_end
def test_an_interrupted_first_installation_is_not_taken_for_a_finished_one(checkout: Project, shelf: Path) -> None:
    pipe = checkout.folder / "parcel-1-py3-none-any.whl"
    os.mkfifo(pipe)
    lock = (checkout.folder / "requirements.lock").read_text(encoding="ascii")
    (checkout.folder / "requirements.lock").write_text(lock.replace(str(parcel(shelf, 1)), str(pipe)), encoding="ascii")
    cut_off = checkout.start("occ")
    writing = opened_for_writing(pipe)  # pip now reads from the pipe, and will until somebody writes
    os.killpg(cut_off.pid, signal.SIGKILL)
    cut_off.communicate()
    os.close(writing)
    (packages,) = (checkout.folder / ".venvs").glob("*/lib/python*/site-packages")
    half_written = packages / "half-written"
    half_written.touch()
    pipe.unlink()
    shutil.copy(parcel(shelf, 1), pipe)
    again = checkout.run("occ")
    assert json.loads(again.stdout)["parcel"] == 1
    assert not half_written.exists()


@pytest.mark.end_to_end
def test_of_several_first_starts_one_installs_and_the_others_wait_for_it(checkout: Project) -> None:
    (checkout.folder / ".venvs").mkdir()
    with (checkout.folder / ".venvs" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as one that is setting up
        starts = [checkout.start("occ") for _ in range(3)]
        for start in starts:
            assert start.stderr is not None
            assert start.stderr.readline().startswith("Waiting for another start")
    outcomes = [(*start.communicate(), start.returncode) for start in starts]
    assert [code for *_, code in outcomes] == [0, 0, 0]
    assert sorted("Setting up" in said for _, said, _ in outcomes) == [False, False, True]


@pytest.mark.end_to_end
def test_an_environment_whose_python_has_gone_is_made_anew(installed: Project) -> None:
    for python in (installed.folder / ".venvs" / "1" / "bin").glob("python*"):
        python.unlink()
        python.symlink_to("/nowhere/python")
    assert installed.shown("occ")["parcel"] == 1


def test_a_python_without_venv_is_named_with_the_package_to_install(fresh: Project, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "ensurepip.py").write_text("raise ImportError", encoding="ascii")
    path = machine(tmp_path / "bin", **{"python3.11": f'PYTHONPATH="{broken}" exec "{sys.executable}" "$@"'})
    done = fresh.run("occ", PATH=path)
    version = ".".join(map(str, sys.version_info[:2]))
    assert done.returncode == 1
    assert f"Python {version} is here, but without its venv" in done.stderr
    assert f"apt-get install python{version}-venv" in done.stderr


def test_an_old_python_is_named_with_what_to_install(fresh: Project, tmp_path: Path) -> None:
    done = fresh.run("demo", PATH=machine(tmp_path, python3="echo 3.9"))
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; python3 is 3.9" in done.stderr
    assert "install" in done.stderr


def test_a_machine_without_python_is_told_what_to_install(fresh: Project, tmp_path: Path) -> None:
    done = fresh.run("test", PATH=machine(tmp_path))
    assert done.returncode == 1
    assert "needs Python 3.11 or newer." in done.stderr
    assert done.stdout == ""


def test_a_name_on_the_path_that_does_not_run_is_passed_over(fresh: Project, tmp_path: Path) -> None:
    path = machine(tmp_path, **{"python3.13": "exit 127", "python3": "echo 3.10"})
    assert "python3 is 3.10" in fresh.run("occ", PATH=path).stderr


def test_the_python_that_is_named_is_the_only_one_tried(fresh: Project, tmp_path: Path) -> None:
    path = machine(tmp_path, python3="echo 3.13", mine="echo 3.8")
    assert "mine is 3.8" in fresh.run("occ", PATH=path, PYTHON="mine").stderr


@pytest.mark.parametrize(("arguments", "code"), [(["help"], 0), (["--help"], 0), ([], 2), (["dmeo"], 2)])
def test_help_needs_nothing_installed(fresh: Project, tmp_path: Path, arguments: list[str], code: int) -> None:
    done = fresh.run(*arguments, PATH=machine(tmp_path))
    assert done.returncode == code
    assert "usage: ./run COMMAND" in (done.stderr if code else done.stdout)


def test_everything_the_product_needs_is_also_in_the_lock_for_its_tests() -> None:
    runtime, development = (pinned(ROOT / name) for name in ("requirements.lock", "requirements-dev.lock"))
    assert runtime <= development


def test_the_scripts_can_be_started() -> None:
    assert all(os.access(ROOT / script, os.X_OK) for script in ("run", ".ci/run"))


def wheel(shelf: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    about = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(shelf / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def parcel(shelf: Path, version: int) -> Path:
    return shelf / f"parcel-{version}-py3-none-any.whl"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def copied(project: Project, to: Path) -> Project:
    shutil.copytree(project.folder, to / "project", symlinks=True)
    return Project(to / "project", project.python)


def machine(folder: Path, **programs: str) -> str:
    """A search path with the usual tools, no Python, and these programs."""
    folder.mkdir(exist_ok=True)
    for tool in TOOLS:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    for name, does in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{textwrap.dedent(does)}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(folder)


def pinned(lock: Path) -> set[str]:
    lines = lock.read_text(encoding="utf-8").splitlines()
    return {line.removesuffix(" \\") for line in lines if "==" in line and not line.lstrip().startswith("#")}


def opened_for_writing(pipe: Path) -> int:
    """A descriptor of a pipe that somebody reads from."""
    opened: list[int] = []

    def somebody_reads() -> bool:
        with suppress(OSError):
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened)

    wait_until(somebody_reads, what="a reader")
    return opened[0]
