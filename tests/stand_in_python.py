"""A Python whose virtual environments are made in no time, with a stand-in for pip: for tests of what surrounds it."""

import sys
from pathlib import Path

_PIP = """
import json, os, re, sys, zipfile
from pathlib import Path
command = next(word for word in sys.argv[1:] if not word.startswith("-"))
packages = Path(__file__).parents[1]
if command == "install":
    (packages / "half").touch()
    for path in re.findall(r"@ file://(.*) --hash", Path(sys.argv[-1]).read_text()):
        with open(path, "rb") as wheel, zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    (packages / "half").unlink()
if command == "check" and (packages / "incomplete.py").exists():
    sys.exit("parcel 3 requires counterpart, which is not installed.")
"""
_PYTHON = """#!/bin/sh
if [ "$2 $3" = "-m venv" ]; then
    mkdir "$4" && exec cp -R "{prepared}/." "$4"
fi
exec "{python}" "$@"
"""


def stand_in_python(folder: Path) -> Path:
    """The program; everything but making environments is the real one's."""
    prepared = folder / "prepared"
    packages = prepared / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "pip").mkdir(parents=True)
    (packages / "pip" / "__init__.py").touch()
    (packages / "pip" / "__main__.py").write_text(_PIP, encoding="ascii")
    real = Path(sys.executable).resolve()
    (prepared / "bin").mkdir()
    (prepared / "bin" / "python").symlink_to(real)
    (prepared / "pyvenv.cfg").write_text(f"home = {real.parent}\ninclude-system-site-packages = false\n", "utf-8")
    program = folder / "python"
    program.write_text(_PYTHON.format(prepared=prepared, python=real), encoding="utf-8")
    program.chmod(0o755)
    return program
