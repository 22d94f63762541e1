#!/usr/bin/env python
"""Install the wheel into empty environments, and write what comes along and under which licences.

    python scripts/installations.py --out docs/installations.md

Needs gigabytes and minutes. Sizes are of everything in site-packages but pip, compiled modules included.
"""

import json
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Annotated, NamedTuple, TypedDict

import tyro

from stroke_hub.progress import say, track

ROOT = Path(__file__).parent.parent
KINDS = {"": "the core", "demo": "`[demo]`", "all": "`[all]`"}
TOOLS = {"pip", "setuptools"}  # of a new environment
# strong copyleft; LGPL and MPL bind the library alone
GPL = re.compile(r"(?<!L)GPL|(?<!Lesser )General Public License", re.IGNORECASE)

LIST = """
import json
from importlib.metadata import distributions
found = []
for one in distributions():
    size = sum(file.locate().stat().st_size for file in one.files or () if file.locate().is_file())
    words = [one.metadata.get("License-Expression") or "", *one.metadata.get_all("Classifier", [])]
    found.append({
        "name": one.name, "version": one.version, "size": size, "license": one.metadata.get("License") or "",
        "expression": words[0],
        "classified": [word.split(" :: ")[-1] for word in words[1:] if word.startswith("License ::")],
    })
print(json.dumps(found))
"""
FIRST = """
import time
from stroke_hub import Predictor, load_slices
from stroke_hub.models.sample import EXAMPLE
predictor = Predictor.from_pretrained("sample")
predictor.explain(load_slices(EXAMPLE)[0]).overlay()
print(time.process_time())
"""


class Package(TypedDict):
    """What the metadata of an installed package say."""

    name: str
    version: str
    size: int
    license: str
    expression: str
    classified: list[str]


class Installation(NamedTuple):
    """An environment: its packages, and the CPU seconds from a fresh interpreter to the first explanation."""

    packages: list[Package]
    seconds: float


def install(wheel: Path, extra: str, folder: Path) -> Installation:
    """Install the wheel with an extra into a new environment, and look at what is there."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    _run(python, "-m", "pip", "install", "--quiet", wanted)
    return look(python)


def look(python: Path) -> Installation:
    """List the packages of an environment, and time its first explanation."""
    found: list[Package] = json.loads(_run(python, "-I", "-c", LIST))
    seconds = min(float(_run(python, "-I", "-c", FIRST)) for _ in range(3))
    packages = [one for one in found if one["name"] not in TOOLS]
    return Installation(sorted(packages, key=lambda one: one["name"].lower()), seconds)


def _run(python: Path, *words: str) -> str:
    done = subprocess.run([python, *words], check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        sys.exit(f"error: {done.stderr.strip()}")
    return done.stdout


def find_license(package: Package) -> str:
    """Find in a few words what a package says of its licence."""
    first = next((line.strip() for line in package["license"].splitlines() if line.strip()), "")
    return package["expression"] or ", ".join(package["classified"]) or first or "not stated"


def write_page(found: dict[str, Installation]) -> str:
    """Write the page: a table of the installations, and one of all packages with their licences."""
    lines = ["# Installations", "", "Written by `python scripts/installations.py`; on Linux, x86-64, "
             f"Python {sys.version_info.major}.{sys.version_info.minor}.", "",
             "| installation | packages | MB | CPU seconds to the first explanation | under the GPL |",
             "|---|---|---|---|---|"]  # fmt: skip
    for extra, one in found.items():
        free = [package["name"] for package in one.packages if GPL.search(find_license(package))]
        size = sum(package["size"] for package in one.packages) / 1e6
        figures = [str(len(one.packages)), f"{size:,.0f}", f"{one.seconds:.1f}", ", ".join(free) or "none"]
        lines.append(f"| {KINDS[extra]} | {' | '.join(figures)} |")
    lines += ["", "The package itself is counted. The licences are what the metadata of each package say.", "",
              "| package | version | MB | licence | in |", "|---|---|---|---|---|"]  # fmt: skip
    widest = max(found.values(), key=lambda one: len(one.packages))
    names = {extra: {package["name"] for package in one.packages} for extra, one in found.items()}
    for package in widest.packages:
        inside = [KINDS[extra] for extra in found if package["name"] in names[extra]]
        text = find_license(package).replace("|", "/")[:90]
        size = package["size"] / 1e6
        lines.append(f"| {package['name']} | {package['version']} | {size:.1f} | {text} | {inside[0]} |")
    return "\n".join(lines) + "\n"


def main(*, out: Annotated[Path, tyro.conf.arg(metavar="FILE.md")] = Path("docs/installations.md")) -> None:
    """Measure all installations and write the page."""
    with tempfile.TemporaryDirectory() as place:
        _run(Path(sys.executable), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", place, str(ROOT))
        (wheel,) = Path(place).glob("*.whl")
        found = {e: install(wheel, e, Path(place) / (e or "core")) for e in track(list(KINDS), "installing")}
    out.write_text(write_page(found), encoding="utf-8")
    say(f"page: {out}")


if __name__ == "__main__":
    tyro.cli(main)
