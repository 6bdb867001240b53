"""`./run pictures`: makes the pictures of docs/pictures from the running software. Needs Chromium.

Each run shows other times and ids, so pictures are made anew only when what they show has changed.
"""

import argparse
import os
import pty
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from occ.cli.timeline_svg import timeline_svg
from occ.demo.merchants import cast
from occ.local.processes import PROJECT
from tests.browser import NO_CHROMIUM, Browser, chromium
from tests.window import opened, window

FOLDER = PROJECT / "docs" / "pictures"
LARGEST = 150_000
"""Bytes of a picture: a clone should not be about them."""

_COLUMNS = 106


def demo(_: Path) -> Mapping[str, bytes]:
    """What `./run demo` says on a terminal."""
    text = Text.from_ansi(_output_of([sys.executable, "-m", "occ.demo.demo"]))
    console = Console(record=True, width=_COLUMNS, file=Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    with console.file:
        console.print(text)
    svg = console.export_svg(title="./run demo")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # the font would come from elsewhere
    return {"demo.svg": svg.encode()}  # as PNG it is three times as large


def flower(folder: Path) -> Mapping[str, bytes]:
    """Flower's list, the page of a slot that failed; and the timeline of a store that was busy."""
    chosen = {"healthy-1", "busy", "slot-refused"}
    parts = sorted((part for part in cast(8) if part.name in chosen), key=lambda part: part.name == "slot-refused")
    with window(folder / "up", parts) as shown:
        with Browser(folder / "chromium", width=1560, height=900, login=shown.login) as browser:
            opened(browser, shown)
            browser.run("document.activeElement.blur()")
            pictures = {"flower-list.png": browser.picture(height=665)}
            opened(browser, shown, "kwargs:slot=order-update slot_refused")
            browser.run("document.querySelector('#tasks-table tbody a[href*=\"/task/\"]').click()")
            browser.wait_for("document.querySelector('#task-page')")
            pictures["flower-task.png"] = browser.picture(height=640)
        timeline = timeline_svg("busy", shown.records.timeline("busy"))
    return {**pictures, "timeline.png": _drawn(timeline, folder)}


def _output_of(command: Sequence[str]) -> str:
    """What a program writes to a terminal that can only print, colours included."""
    said = bytearray()

    def read(descriptor: int) -> bytes:
        said.extend(part := os.read(descriptor, 65536))
        return part

    os.environ.update(TERM="dumb", COLUMNS=str(_COLUMNS), PYTHONPATH=str(PROJECT))
    status = os.waitstatus_to_exitcode(pty.spawn(list(command), read))
    assert status == 0, f"{command} ended with {status}"
    return said.decode().replace("\r\n", "\n")


def _drawn(svg: str, folder: Path) -> bytes:
    """An SVG as Chromium draws it."""
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    assert box is not None
    width, height = (round(float(size)) for size in box.groups())
    page = folder / "picture.html"
    styled = re.sub(r"<svg ", f'<svg style="display:block;width:{width}px;height:{height}px" ', svg, count=1)
    page.write_text(f'<!doctype html><meta charset="utf-8"><body style="margin:0">{styled}', encoding="utf-8")
    with Browser(folder / "chromium-of-a-picture", width=width, height=height) as browser:
        browser.open(page.as_uri())
        return browser.picture()


SCENES: Mapping[str, Callable[[Path], Mapping[str, bytes]]] = {"demo": demo, "flower": flower}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="./run pictures", description=__doc__)
    parser.add_argument("scenes", nargs="*", choices=[*SCENES, []], help="which (all)")
    chosen = parser.parse_args(arguments).scenes or list(SCENES)
    if chromium() is None:
        parser.error(NO_CHROMIUM)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="occ-pictures-") as folder:
            (Path(folder) / "up").mkdir()
            for picture, content in SCENES[name](Path(folder)).items():
                assert len(content) <= LARGEST, f"{picture} has {len(content)} bytes"
                (FOLDER / picture).write_bytes(content)
                sys.stdout.write(f"docs/pictures/{picture}  {len(content):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
