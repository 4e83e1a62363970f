"""Example reports and their pictures: ``docs/examples`` and ``docs/pictures``.

python -m docs.pictures                         # makes the pages from the runs, and pictures of those that changed
python -m docs.pictures --check                 # fails if a page or a picture is not up to date
python -m docs.pictures add NAME RUN [RUN ...]  # takes runs (folders of `modyn-client run`) into docs/examples/NAME

An example is a folder with the report and the pipeline of each run. Its pages are the comparison of all of them and
the report of the first.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from modyn.client.comparison import compare
from modyn.client.html import comparison_html, report_html
from modyn.client.runfolder import read_report
from modyn.core.report import Report
from tests.helpers.chromium import Browser, chromium, find_chromium

DOCS = Path(__file__).parent

RUNS = "runs"
REPORT = "report.json.gz"
PIPELINE = "pipeline.yaml"
SOURCES = "sources.json"
"""Beside the pictures: the SHA-256 of the page that each was taken of."""

SCREENS = {"desktop": (1280, 1500, False), "phone": (390, 1500, False), "dark": (1280, 1500, True)}
"""Width, height and whether it is dark."""

Say = Callable[[str], object]


def runs_of(example: Path) -> list[tuple[Report, str]]:
    """Report and resolved pipeline of each run of an example, by the names of their folders."""
    return [
        (
            Report.model_validate_json(gzip.decompress((folder / REPORT).read_bytes())),
            (folder / PIPELINE).read_text(encoding="utf-8"),
        )
        for folder in sorted((example / RUNS).iterdir())
    ]


def pages(docs: Path = DOCS) -> Iterator[tuple[Path, str]]:
    """Path and text of every page."""
    for example in sorted((docs / "examples").glob("*/")):
        runs = runs_of(example)
        yield example / "report.html", report_html(*runs[0])
        if len(runs) > 1:
            reports, yamls = [report for report, _ in runs], [yaml for _, yaml in runs]
            yield example / "comparison.html", comparison_html(compare(reports, yamls=yamls), yamls)


def add(name: str, folders: Sequence[Path], docs: Path = DOCS) -> None:
    """Takes runs into an example, in place of those that it had.

    Args:
        name: of the example.
        folders: of ``modyn-client run``, in the order in which they are to be compared.
        docs: where examples are.
    """
    taken = [(folder, read_report(folder), (folder / PIPELINE).read_bytes()) for folder in folders]
    example = docs / "examples" / name
    shutil.rmtree(example / RUNS, ignore_errors=True)
    for number, (folder, report, pipeline) in enumerate(taken, 1):
        home = example / RUNS / f"{number}-{folder.resolve().name}"
        home.mkdir(parents=True)
        (home / REPORT).write_bytes(gzip.compress(report.model_dump_json().encode(), mtime=0))
        (home / PIPELINE).write_bytes(pipeline)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def pictures_of(page: Path, docs: Path = DOCS) -> dict[str, Path]:
    """The pictures of a page by screen."""
    name = f"{page.parent.name}-{page.stem}"
    return {screen: docs / "pictures" / f"{name}-{screen}.png" for screen in SCREENS}


def outdated(docs: Path = DOCS) -> list[str]:
    """What ``make docs`` would change, as messages."""
    found = []
    sources = _sources(docs)
    for page, text in pages(docs):
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            found.append(f"{page.relative_to(docs.parent)} is not what its runs and the code say")
        found += [
            f"{picture.relative_to(docs.parent)} was not taken of the page as it is"
            for picture in pictures_of(page, docs).values()
            if not picture.exists() or sources.get(picture.name) != digest(text)
        ]
    return found


def make(docs: Path = DOCS, say: Say = sys.stdout.write) -> None:
    """Writes pages that changed and takes pictures of them; without Chromium pictures are left as they are."""
    changed: list[tuple[Path, str]] = []
    sources = _sources(docs)
    current: dict[str, str] = {}
    for page, text in pages(docs):
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")
            say(f"wrote: {page.relative_to(docs.parent)}\n")
        files = pictures_of(page, docs).values()
        current |= {file.name: digest(text) for file in files}
        if any(not file.exists() or sources.get(file.name) != digest(text) for file in files):
            changed.append((page, text))
    if not changed:
        return
    path = find_chromium()
    if path is None:
        say("Chromium is not installed, so pictures of reports were not taken (apt-get install chromium)\n")
        return
    (docs / "pictures").mkdir(exist_ok=True)
    with chromium(path) as browser:
        for page, _ in changed:
            for screen, file in pictures_of(page, docs).items():
                file.write_bytes(take(browser, page, screen))
                say(f"wrote: {file.relative_to(docs.parent)}\n")
    text = json.dumps(current, indent=2, sort_keys=True) + "\n"
    (docs / "pictures" / SOURCES).write_text(text, encoding="utf-8")


def take(browser: Browser, page: Path, screen: str) -> bytes:
    """The top of a page as a small PNG."""
    width, height, dark = SCREENS[screen]
    browser.open(page, width=width, height=height, dark=dark)
    shot = browser.screenshot(clip={"x": 0, "y": 0, "width": width, "height": height})
    data = io.BytesIO()
    # 64 colours are enough for lines and letters, and a fifth of the size.
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return data.getvalue()


def _sources(docs: Path) -> dict[str, str]:
    file = docs / "pictures" / SOURCES
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def main(arguments: Sequence[str], docs: Path = DOCS, say: Say = sys.stdout.write) -> int:
    """See the top of this file."""
    if arguments[:1] == ["add"] and len(arguments) > 2:
        add(arguments[1], [Path(argument) for argument in arguments[2:]], docs)
    elif arguments not in ([], ["--check"]):
        say(f"{__doc__}\n")
        return 2
    if arguments != ["--check"]:
        make(docs, say)
        return 0
    found = outdated(docs)
    for message in found:
        say(f"{message}\n")
    if found:
        say("run `make docs` where Chromium is installed, and commit the result\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
