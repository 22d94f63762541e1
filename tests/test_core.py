"""The core works where nothing is installed that it does not ask for, and each missing package has a name."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from stroke_hub.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

HIDE = """
import importlib.util, runpy, sys
gone = set(sys.argv[1].split())
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in gone:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.split(".")[0] in gone else find(name, package)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_core_works_by_itself() -> None:
    command = [sys.executable, "-c", HIDE, " ".join(EXTRAS), str(ROOT / "tests" / "bare.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the core works by itself" in done.stdout


def test_every_optional_package_has_its_extra() -> None:
    """What EXTRAS names is what pyproject.toml brings, and nothing of the core."""
    brought = PROJECT["optional-dependencies"]
    known = packages_distributions()
    for module, extra in EXTRAS.items():
        names = {re.match(r"[\w.-]+", line)[0].lower() for line in brought[extra]}  # type: ignore[index]
        of = {name.lower() for name in known.get(module, [])}
        assert of & names or module == "mcp", (module, of, names)  # gradio[mcp] brings that one
    core = {re.match(r"[\w.-]+", line)[0] for line in PROJECT["dependencies"]}  # type: ignore[index]
    assert not core & {"torch", "opencv-python-headless", "scipy", "matplotlib"}
