"""The README's Python runs as printed, its commands exist, and the pages made from the code are up to date."""

import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def find_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in find_blocks("bash") for line in block.splitlines() if line and line[0] != "#"]


# what asks the demo runs in test_space_api.py, beside one
@pytest.mark.parametrize("block", [block for block in find_blocks("python") if "gradio_client" not in block])
def test_python_runs(
    block: str, run_dir: Path, sample: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(run_dir)
    (tmp_path / "scan.png").symlink_to(next((sample.root / "test").rglob("*.png")))  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102


@functools.cache
def read_help(*words: str) -> str:
    done = subprocess.run([sys.executable, *words, "--help"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command: str) -> None:
    words = shlex.split(command.split("#")[0])
    if words[0] == "torchrun":  # its own options are not ours
        words = ["python", *words[next(i for i, word in enumerate(words) if word.startswith("scripts/")) :]]
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        assert set(words[1:]) <= targets
        return
    assert words[0] in {"python", ".venv/bin/python"}, command
    assert words[1].startswith(("scripts/", "tests/"))
    flags = [word for word in words if word.startswith("--")]
    # a benchmark's options stand in the help of its subcommand
    text = read_help(words[1], *[word for word in words[2:3] if words[1] == "scripts/benchmark.py"])
    assert [flag for flag in flags if flag not in text] == [], f"{words[1]} does not have them"


def test_pages_made_from_the_code_are_up_to_date() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "write_docs.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run python scripts/write_docs.py: {done.stderr}"
