"""The pages: their Python runs as printed, their commands exist, their links resolve, their sentences are short."""

import functools
import io
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from stroke_hub import Records

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
MADE = {"installations.md", "recipe.md", "report-schema.md"}  # written by programs: tables, not prose
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PROSE = [page for page in [*PAGES, *GUIDES] if page.name not in MADE]


def find_blocks(page: Path, info: str) -> list[str]:
    """List the code blocks of a page whose info string is `info`."""
    return re.findall(rf"^```{info}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def list_blocks(info: str) -> list[object]:
    """List the code blocks of all pages with one info string, as parameters of a test."""
    blocks = [(page, block) for page in PAGES for block in find_blocks(page, info)]
    return [pytest.param(block, id=f"{page.stem}-{i}") for i, (page, block) in enumerate(blocks)]


def list_commands() -> list[str]:
    lines = [line for page in [*PAGES, *GUIDES] for b in find_blocks(page, "bash") for line in b.splitlines()]
    listed = tomllib.loads((ROOT / "docs" / "claims.toml").read_text(encoding="utf-8"))
    lines += [one["command"] for one in (*listed["claim"], *listed["section"])]
    return list(dict.fromkeys(line.split(" #")[0].strip() for line in lines if line and line[0] != "#"))


# blocks marked "python demo" and "sh demo" ask a running demo: tests/demo/test_api.py runs them
@pytest.mark.parametrize("block", list_blocks("python"))
def test_python_runs(
    block: str, run_dir: Path, sample: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(run_dir)
    (tmp_path / "scan.png").symlink_to(next((sample.root / "test").rglob("*.png")))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102


def test_every_block_is_of_a_kind_that_a_test_looks_at() -> None:
    kinds = {
        (page.name, info) for page in PAGES for info in re.findall(r"^```(.+)", page.read_text(), re.MULTILINE)
    }
    assert {info for _, info in kinds} <= {"python", "python demo", "bash", "sh", "sh demo", "text"}
    assert {name for name, info in kinds if info.endswith("demo")} == {"call-the-api.md"}


@functools.cache
def read_help(program: str, *words: str) -> str:
    """Read the help of a program, in this process: an interpreter that imports torch takes seconds."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(text):
        patched.syspath_prepend(str((ROOT / program).parent))
        patched.setattr(sys, "argv", [program, *words, "--help"])
        run, where = (runpy.run_path, str(ROOT / program)) if "/" in program else (runpy.run_module, program)
        with pytest.raises(SystemExit) as left:
            run(where, run_name="__main__")
    assert not left.value.code
    return text.getvalue()


def has_option(text: str, option: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text) is not None


@pytest.mark.parametrize("command", list_commands())
def test_commands_exist(command: str) -> None:
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if words[0] == ".":
        assert words == [".", ".venv/bin/activate"]
        return
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        assert set(words[1:]) <= targets
        return
    if words[0] in ("du", "npm"):
        return
    if words[0] == "pytest":
        assert (ROOT / words[1]).exists()
        return
    if words[0] in ("torchrun", "uv", "hf"):  # their own options are not ours
        words = ["python", *words[next(i for i, word in enumerate(words) if word.startswith("scripts/")) :]]
    if words[0] == "stroke-hub":
        text = read_help("stroke_hub", *words[1:2])
    else:
        assert words[0] == "python", command
        assert words[1].startswith(("scripts/", "space/", "tests/"))
        assert (ROOT / words[1]).is_file()
        if len(words) == 2:
            return
        # a benchmark's options stand in the help of its subcommand
        text = read_help(words[1], *[word for word in words[2:3] if words[1] == "scripts/benchmark.py"])
    options = [word for word in words if word.startswith("--")]
    assert [option for option in options if not has_option(text, option)] == []


def test_an_option_is_not_found_in_a_longer_one() -> None:
    assert has_option("--data-dir FOLDER, --data {sample}", "--data")
    assert not has_option("--data-dir FOLDER", "--data")


@pytest.mark.parametrize("page", [*PAGES, *GUIDES], ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    files = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [file for file in files if not (page.parent / file).exists()] == []


def test_readme_is_short_begins_with_python_and_leads_to_every_page() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
    assert lines.index("```python") < 30
    links = set(re.findall(r"\]\((docs/[^)\s#]+\.md)\)", "\n".join(lines)))
    assert links == {f"docs/{page.name}" for page in PAGES[1:]}


def split_sentences(text: str) -> list[str]:
    """Split a page into sentences, without its code, tables, headings, comments and links' targets."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^[|#].*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`", "code", text)
    blocks = re.split(r"\n\s*\n|\n\s*(?=(?:[-*]|\d+\.) )", text)
    return [s for block in blocks for s in re.split(r"(?<=[.!?])[*)\"]*\s+", " ".join(block.split())) if s]


def test_answers_of_the_checklists_are_counted_right() -> None:
    text = (ROOT / "docs" / "reporting-checklists.md").read_text(encoding="utf-8")
    summary, *lists = text.split("\n## ")
    answers = [re.findall(r"^\| \d\S* \| [^|]+ \| ([^|]+) \|", one, flags=re.MULTILINE) for one in lists]
    assert [len(one) for one in answers] == [52, 44, 48]
    for answer, *counts in re.findall(r"^\| ([a-z ]+) \| (\d+) \| (\d+) \| (\d+) \|$", summary, re.MULTILINE):
        assert [int(count) for count in counts] == [one.count(answer) for one in answers], answer
    assert {answer for one in answers for answer in one} == {"reported", "in part", "missing", "not applicable"}


def count_words(sentence: str) -> int:
    return sum(any(c.isalnum() for c in word) for word in sentence.split())


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_sentences_have_at_most_25_words(page: Path) -> None:
    sentences = split_sentences(page.read_text(encoding="utf-8"))
    assert [sentence for sentence in sentences if count_words(sentence) > 25] == []


def test_a_long_sentence_is_found() -> None:
    long = " ".join(["word"] * 26)
    page = f"# {long}\n\n| {long} |\n\n- One two. {long},\n  [{long}](x.md).\n- Three.\n\n```sh\n{long}\n```\n"
    assert [count_words(sentence) for sentence in split_sentences(page)] == [2, 52, 1]


def test_architecture_names_files_and_names_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("\n## The tree")[0]
    named = re.findall(r"((?:\w+/)+\w+\.(?:py|html|css|json))`?(?:: ((?:`?\w+`?(?:, )?)+))?", text)
    files = [(ROOT / f if (ROOT / f).is_file() else ROOT / "stroke_hub" / f, names) for f, names in named]
    assert [str(file) for file, _ in files if not file.is_file()] == []
    names = [(file, name) for file, names in files for name in re.findall(r"\w+", names)]
    assert len(names) > 10
    assert [(f.name, n) for f, n in names if not re.search(rf"\b{n}\b", f.read_text(encoding="utf-8"))] == []


def test_pages_made_from_the_code_are_up_to_date() -> None:
    script = [sys.executable, str(ROOT / "scripts" / "write_docs.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run python scripts/write_docs.py: {done.stderr}"
