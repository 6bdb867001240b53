"""Installs what a lock says and nothing else, beside what is installed, and swaps it in. Started by `./run`.

    python -I occ/local/packages.py ROOT LOCK PYTHON

Runs before anything is installed: the standard library alone, and no module of ours. In ROOT:

    .venvs/1        an installation: a virtual environment, the locks it holds, `in-use`
    .venvs/current  a link to the one that programs start from; changed in one step
    .venv           a link to that, for people and for units that name `.venv/bin/python`

An installation is never changed once it is `current`. A program that runs from one holds a shared lock on its `in-use`;
who removes one takes that lock for itself first. An installation without `in-use` is unfinished, or was half removed.
"""

import ast
import fcntl
import filecmp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

IN_USE = "in-use"
CURRENT = "current"
LOCKS = ("requirements.lock", "requirements-dev.lock")
"""The later one holds all of the earlier."""

_REACHES_THE_INDEX = re.compile(
    "(index-url|pypi-url|extra-index-url|no-index|find-links|trusted-host|proxy|cert|client-cert|timeout|default-timeout"
    "|retries|cache-dir|no-cache-dir|keyring-provider|use-feature|use-deprecated)"
)
"""What is kept of pip's configuration. The rest (user, target, prefix, constraint, no-binary, ...) is about other
installations and can break this one."""
_TAG = "import sys; print(sys.implementation.cache_tag + sys.abiflags)"
_LAST_LINES = 15


class InstallationError(Exception):
    """The packages cannot be installed. The text says why and what to do."""


def ensure(root: Path, lock: str, python: str) -> None:
    """See to it that `current` is an installation of this lock that works. Raises InstallationError."""
    home = root / ".venvs"
    try:
        home.mkdir(exist_ok=True)
        with _alone(home):
            if not is_ready(root, lock):
                _say(f"Setting up .venv from {lock}; this happens once, and takes about half a minute ...")
                _remove_unused(home)
                _swap_in(home, _installed(root, lock, python))
            _remove_unused(home)
            _link_for_people(root)
    except OSError as error:
        raise InstallationError(f"{home} cannot be written to: {error}.") from None


def is_ready(root: Path, lock: str) -> bool:
    """Whether `current` was made from what the lock says now, by a Python that is still there."""
    installation = root / ".venvs" / CURRENT
    try:
        same = filecmp.cmp(root / lock, installation / lock, shallow=False)
        return same and _tag(installation / "bin" / "python") == (installation / IN_USE).read_text("ascii")
    except OSError:
        return False


def fill(installation: Path, lock: Path, log: Path) -> None:
    """Install what the lock says into a virtual environment that has pip. Raises InstallationError."""
    pip = [str(installation / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    environment = _environment_of_pip(pip)
    # No resolver: a lock is complete, and pip before 23.3 resolves an extra anew and then misses its hash. Wheels only:
    # building from source would run code that no hash covers.
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", str(lock)]
    _carry_out([*pip, "install", *options], log, environment)
    _carry_out([*pip, "check"], log, environment)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Others who start at the same time wait here until we and the pip we have started have ended, in whatever way."""
    with (home / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003 - the standard library's own signature
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Waiting for another start that is setting up .venv ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _installed(root: Path, lock: str, python: str) -> Path:
    """A new installation of the lock, complete, that nobody starts from yet."""
    home = root / ".venvs"
    log = home / "install.log"
    installation = home / str(1 + max((int(path.name) for path in home.iterdir() if path.name.isdecimal()), default=0))
    try:
        log.write_bytes(b"")
        _carry_out([python, "-I", "-m", "venv", str(installation)], log)
        # What is compared later is what was installed now, whatever happens to the lock meanwhile.
        for name in LOCKS[: LOCKS.index(lock) + 1]:
            shutil.copyfile(root / name, installation / name)
        fill(installation, installation / lock, log)
        (installation / IN_USE).write_text(_tag(installation / "bin" / "python"), "ascii")
    except BaseException:
        shutil.rmtree(installation, ignore_errors=True)
        raise
    return installation


def _swap_in(home: Path, installation: Path) -> None:
    _link(home / CURRENT, installation.name)


def _link(place: Path, target: str) -> None:
    """Make a link, or have it point elsewhere, in one step."""
    new = place.with_name(f"{place.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(place)


def _remove_unused(home: Path) -> None:
    """Remove installations that are not current and that no program runs from."""
    current = (home / CURRENT).resolve()
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink() and path != current:
            _remove_if_unused(path)


def _remove_if_unused(installation: Path) -> None:
    in_use = installation / IN_USE
    with suppress(FileNotFoundError, BlockingIOError), in_use.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        in_use.unlink()
    if not in_use.exists():
        shutil.rmtree(installation, ignore_errors=True)


def _link_for_people(root: Path) -> None:
    """Have `.venv` point at what is current, if it is ours to change.

    An earlier release had a folder there. It is moved away once nothing runs from it; such programs hold no lock, so
    the list of processes is asked.
    """
    link, target = root / ".venv", f".venvs/{CURRENT}"
    if link.is_symlink():
        if str(link.readlink()).startswith(".venvs/") and str(link.readlink()) != target:
            _link(link, target)
        return  # a link to elsewhere is somebody's own
    if link.exists():
        if not any((link / name).exists() for name in (*LOCKS, "unfinished")):
            return  # not made by us
        if _something_runs_from(link):
            _say(f"{link} is from an earlier release and a program runs from it: left as it is until the next set-up.")
            return
        aside = root / ".venvs" / "former"
        shutil.rmtree(aside, ignore_errors=True)
        link.rename(aside)
        _link(link, target)
        shutil.rmtree(aside, ignore_errors=True)
        return
    _link(link, target)


def _something_runs_from(folder: Path) -> bool:
    """Whether a program was started from this folder; also true if that cannot be found out."""
    try:
        listed = subprocess.run(["ps", "-A", "-ww", "-o", "args="], capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return True
    return f"{folder}/" in listed.stdout


def _carry_out(command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
    with log.open("ab") as output:
        done = subprocess.run(command, env=environment, stdout=output, stderr=output, close_fds=False, check=False)
    if done.returncode:
        raise InstallationError(_explained(command[0], log))


def _environment_of_pip(pip: list[str]) -> dict[str, str]:
    """Our environment with what is kept of pip's configuration, wherever that stood: files, sections, variables."""
    # These are options of this command as well, and a configuration that sets them would hide the rest from us.
    whole = {**os.environ, **dict.fromkeys(("PIP_USER", "PIP_GLOBAL", "PIP_SITE", "PIP_QUIET", "PIP_VERBOSE"), "0")}
    listed = subprocess.run([*pip, "config", "list"], env=whole, capture_output=True, text=True, check=False).stdout
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    kept = {f"PIP_{name.replace('-', '_').upper()}": value for name, value in reaching_the_index(listed).items()}
    return {**environment, **kept, "PIP_CONFIG_FILE": os.devnull}  # this very path: no file at all is read


def reaching_the_index(listed: str) -> Mapping[str, str]:
    """What `pip config list` says about reaching the index. A variable wins over `install`, and that over `global`."""
    kept: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in listed.splitlines():
            name, _, value = line.removeprefix(section).partition("=")
            if line.startswith(section) and _REACHES_THE_INDEX.fullmatch(name):
                kept[name] = str(ast.literal_eval(value))
    return kept


def _tag(python: Path) -> str:
    """Which Python this is, as far as packages depend on it; OSError if it does not run."""
    asked = subprocess.run([str(python), "-I", "-S", "-c", _TAG], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise OSError(f"{python} does not run")
    return asked.stdout.strip()


def _explained(python: str, log: Path) -> str:
    about = "import platform; print('Python', platform.python_version(), 'on', platform.platform())"
    machine = subprocess.run([python, "-I", "-c", about], capture_output=True, text=True, check=False).stdout.strip()
    lines = log.read_text("utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join(
        [
            *lines,
            "",
            f"Installing the packages did not work; the lines above say why, {log} has all of them.",
            "Is the network there? Mirror and proxy are set as for any pip (PIP_INDEX_URL, pip config, https_proxy).",
            "Ready-made packages exist for Python 3.11 to 3.14 on Linux (x86_64, arm64; glibc) and macOS; you have:",
            f"  {machine}",
            "What was installed before, if anything, is as it was.",
        ]
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a program of its own


def main() -> None:
    """Carry out one command line."""
    root, lock, python = sys.argv[1:]
    try:
        ensure(Path(root), lock, python)
    except InstallationError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
