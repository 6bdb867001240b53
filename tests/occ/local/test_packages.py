"""What the locks say is installed, whatever was released since; and no kill leaves less than there was."""

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from signal import SIGKILL

import pip
import pytest

from occ.local import packages
from occ.local.packages import InstallationError
from tests.stand_in_python import stand_in_python

ROOT = Path(__file__).resolve().parents[3]
NEWER = "9999"
PINNED = re.compile(r"^([a-z0-9.-]+)==(\S+)(.*?)((?: \\\n    --hash=sha256:[0-9a-f]+)+)", re.MULTILINE)
HOSTILE = """\
user = true
constraint = /nowhere/constraints.txt
require-virtualenv = true
[install]
target = /nowhere/target
no-binary = :all:
pre = true
"""

KILLED_AT = """
import os, runpy, signal, sys
_, program, at, *sys.argv = sys.argv[0], *sys.argv[1:]
root, at = sys.argv[0], int(at)
sys.argv.insert(0, program)
changes = ("os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "subprocess.Popen", "shutil.copyfile")
seen = 0
def count(event, arguments):
    global seen
    writes = event == "open" and root in str(arguments[0]) and arguments[1] not in (None, "r", "rb")
    if writes or event in changes:
        seen += 1
        if seen == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
runpy.run_path(program, run_name="__main__")
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index, a folder, of everything in the locks and a newer release of each; and the locks with its hashes.

    What requires what, extras too, is as in the environment these tests run in.
    """
    index = tmp_path_factory.mktemp("an index")
    for lock in packages.LOCKS:
        text = (ROOT / lock).read_text("utf-8")
        (index / lock).write_text(PINNED.sub(lambda pin: _released(index, pin), text), encoding="utf-8")
    return index


@pytest.fixture
def only_this_index(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip's settings: the index, and all that could get in the way."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = f"[global]\nindex-url = {index.as_uri()}\n{HOSTILE}"
    (tmp_path / "pip.conf").write_text(settings, encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", index.as_uri())
    monkeypatch.setenv("PIP_PREFIX", "/nowhere/prefix")


@pytest.fixture(scope="module")
def pips(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Wheels of pip: the one Python 3.11.0 came with, and the newest; as far as they can be had."""
    folder = tmp_path_factory.mktemp("pips")
    found = {}
    for name, wanted in {"oldest": "pip==22.3", "newest": "pip"}.items():
        command: list[str | Path]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder / name, wanted]
        subprocess.run(command, check=False, capture_output=True, timeout=180)
        for wheel in (folder / name).glob("*.whl"):
            found[name] = wheel
    return found


@pytest.mark.end_to_end
@pytest.mark.parametrize("lock", packages.LOCKS)
@pytest.mark.usefixtures("only_this_index")
def test_exactly_what_is_locked_comes_though_everything_has_a_newer_release(
    index: Path, tmp_path: Path, lock: str
) -> None:
    subprocess.run([sys.executable, "-I", "-m", "venv", tmp_path / "made"], check=True)
    packages.fill(tmp_path / "made", index / lock, tmp_path / "log")
    _holds_what_is_locked(tmp_path / "made", index / lock)


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("hashes", "reason"), [(" --hash=sha256:" + 64 * "0", "DO NOT MATCH THE HASHES"), ("", "Hashes are required")]
)
def test_what_the_lock_does_not_vouch_for_is_refused(tmp_path: Path, hashes: str, reason: str) -> None:
    made = tmp_path / "made"
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", made], check=True)
    (_site_packages(made) / "pip").symlink_to(Path(pip.__file__).parent)
    wheel = wheel_of(tmp_path / "shelf", "parcel", "1")
    (tmp_path / "lock").write_text(f"parcel @ file://{wheel}{hashes}\n", encoding="utf-8")
    with pytest.raises(InstallationError, match=reason):
        packages.fill(made, tmp_path / "lock", tmp_path / "log")
    assert not list(made.glob("lib/python*/site-packages/parcel*"))


@pytest.mark.end_to_end
@pytest.mark.parametrize("which", ["oldest", "newest"])
@pytest.mark.usefixtures("only_this_index")
def test_the_oldest_and_the_newest_pip_install_the_same(
    pips: Mapping[str, Path], index: Path, tmp_path: Path, which: str
) -> None:
    if which == "oldest" and sys.version_info >= (3, 12):
        pytest.skip("pip 22.3 runs on Python 3.11 only")
    if which not in pips:
        pytest.skip("this pip is not to be had here")
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", tmp_path / "made"], check=True)
    zipfile.ZipFile(pips[which]).extractall(_site_packages(tmp_path / "made"))
    packages.fill(tmp_path / "made", index / "requirements-dev.lock", tmp_path / "log")
    _holds_what_is_locked(tmp_path / "made", index / "requirements-dev.lock")


def test_of_pips_settings_those_are_kept_that_reach_the_index() -> None:
    listed = """
:env:.config-file='/home/me/pip.conf'
:env:.index-url='https://mirror.example/simple'
global.cert='/etc/authorities.pem'
global.extra-index-url='\\nhttps://a.example\\nhttps://b.example'
global.index-url='https://elsewhere.example/simple'
global.user='true'
install.timeout='90'
install.target='/opt/there'
download.no-index='true'
"""
    assert packages.reaching_the_index(listed) == {
        "index-url": "https://mirror.example/simple",
        "cert": "/etc/authorities.pem",
        "extra-index-url": "\nhttps://a.example\nhttps://b.example",
        "timeout": "90",
    }


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_python(tmp_path_factory.mktemp("stand in"))


@pytest.mark.end_to_end
def test_whatever_step_is_cut_off_the_old_one_works_and_the_next_start_works(tmp_path: Path, python: Path) -> None:
    at = 0
    killed = True
    while killed:
        at += 1
        root = tmp_path / str(at)
        root.mkdir()
        _locked(root, 1)
        _ensure(root, python)
        _locked(root, 2)
        with _running_from(root / ".venvs" / "1"):
            command: list[str | Path]
            command = [sys.executable, "-c", KILLED_AT, packages.__file__, str(at), root, "requirements.lock", python]
            ended = subprocess.run(command, check=False, capture_output=True)
            assert ended.returncode in {0, -SIGKILL}, ended.stderr
            killed = ended.returncode == -SIGKILL
            assert _version(root / ".venvs" / "1") == 1
            assert _version(root / ".venvs" / "current") in {1, 2}
            _ensure(root, python)
            assert _version(root / ".venv") == 2
            assert packages.is_ready(root, "requirements.lock")
            assert _version(root / ".venvs" / "1") == 1
            assert len(_installations(root)) == 2
        _ensure(root, python)
        assert [_version(one) for one in _installations(root)] == [2]
    assert at > 15, "this test is to see each step"


@pytest.mark.end_to_end
def test_packages_that_do_not_fit_together_are_refused_and_the_old_ones_stay(tmp_path: Path, python: Path) -> None:
    _locked(tmp_path, 1)
    _ensure(tmp_path, python)
    _locked(tmp_path, 3, {"incomplete.py": ""})
    with pytest.raises(InstallationError, match="requires counterpart, which is not installed"):
        _ensure(tmp_path, python)
    assert [_version(one) for one in _installations(tmp_path)] == [1]
    assert _version(tmp_path / ".venv") == 1


@pytest.mark.end_to_end
def test_the_folder_of_an_earlier_release_stays_while_a_program_runs_from_it(tmp_path: Path, python: Path) -> None:
    _locked(tmp_path, 1)
    former = tmp_path / ".venv"
    (former / "bin").mkdir(parents=True)
    (former / "requirements.lock").touch()
    (former / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    program: list[str | Path] = [former / "bin" / "python", "-c", "print(1, flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        _ensure(tmp_path, python)
        assert former.is_dir()
        assert not former.is_symlink()
        assert _version(tmp_path / ".venvs" / "current") == 1
        running.communicate(b"\n")
    _ensure(tmp_path, python)
    assert _version(former) == 1
    assert len(_installations(tmp_path)) == 1


@pytest.mark.end_to_end
def test_an_environment_somebody_made_for_themselves_is_left_alone(tmp_path: Path, python: Path) -> None:
    for project in ("folder", "link"):
        (tmp_path / project).mkdir()
        _locked(tmp_path / project, 1)
    (tmp_path / "folder" / ".venv" / "mine").mkdir(parents=True)
    (tmp_path / "link" / ".venv").symlink_to(tmp_path / "folder" / ".venv")
    for project in ("folder", "link"):
        _ensure(tmp_path / project, python)
        assert (tmp_path / project / ".venv" / "mine").is_dir()


def _released(index: Path, pin: re.Match[str]) -> str:
    """What a lock says of one package, with the hash of our own; a newer release lies beside it."""
    name, version, marker, _ = pin.groups()
    wheel = wheel_of(index / name, name, version)
    if not (newer := index / name / wheel.name.replace(f"-{version}-", f"-{NEWER}-")).exists():
        assert wheel_of(index / name, name, NEWER) == newer
    links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in (wheel, newer))
    (index / name / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>", encoding="ascii")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version}{marker} \\\n    --hash=sha256:{digest}"


def wheel_of(folder: Path, name: str, version: str, files: Mapping[str, str] | None = None) -> Path:
    """A wheel of this name, the same each time, that requires what the package installed here does."""
    file_name = name.replace("-", "_").replace(".", "_")
    try:
        about = metadata.metadata(name)
        needs = [
            f"{field}: {value}" for field in ("Provides-Extra", "Requires-Dist") for value in about.get_all(field, [])
        ]
    except metadata.PackageNotFoundError:
        needs = []
    info = f"{file_name}-{version}.dist-info"
    content = {
        **(files or {f"{file_name}_stand_in.py": ""}),
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *needs, ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{file_name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in content.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return wheel


def _holds_what_is_locked(installation: Path, lock: Path) -> None:
    """Each package that is there has the locked version; none is missing that this machine needs."""
    there = {_plain(one.name): one.version for one in metadata.distributions(path=[str(_site_packages(installation))])}
    locked = {_plain(name): version for name, version, *_ in PINNED.findall(lock.read_text("utf-8"))}
    ours = {name: version for name, version in there.items() if name not in {"pip", "setuptools"}}
    assert ours.items() <= locked.items()
    unconditional = {
        _plain(name): version for name, version, marker, _ in PINNED.findall(lock.read_text("utf-8")) if not marker
    }
    assert unconditional.items() <= ours.items()
    assert len(unconditional) > 30


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _site_packages(installation: Path) -> Path:
    (folder,) = installation.glob("lib/python*/site-packages")
    return folder


def _locked(root: Path, version: int, files: Mapping[str, str] | None = None) -> None:
    shelf = root / "shelf"
    wheel = wheel_of(shelf, "parcel", str(version), {"parcel.py": f"VERSION = {version}\n", **(files or {})})
    (root / "requirements.lock").write_text(f"parcel @ file://{wheel} --hash=sha256:0\n", encoding="utf-8")


def _ensure(root: Path, python: Path) -> None:
    packages.ensure(root, "requirements.lock", str(python))


def _version(installation: Path) -> int:
    text = "import parcel; print(parcel.VERSION)"
    return int(subprocess.check_output([installation / "bin" / "python", "-I", "-c", text]))


def _installations(root: Path) -> list[Path]:
    return [path for path in (root / ".venvs").iterdir() if path.is_dir() and not path.is_symlink()]


@contextmanager
def _running_from(installation: Path) -> Iterator[None]:
    """As a program that `./run` started holds its installation."""
    with (installation / packages.IN_USE).open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield
