"""Every figure of the pages is in docs/claims.toml, stands where that says, and is what its check computes."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests import claims

ROOT = Path(__file__).parent.parent
LISTED: dict[str, list[dict[str, Any]]] = tomllib.loads((ROOT / "docs" / "claims.toml").read_text(encoding="utf-8"))
# made from the code, or about other reports than ours
EXEMPT = {"architecture.md", "report-schema.md", "reporting-checklists.md"}
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in EXEMPT)]
TEMPLATES = [ROOT / "model_card.md", ROOT / "stroke_hub" / "report" / "templates" / "report.html"]
WHOLE = r"\d(?:[\d,]*\d)?"
# a decimal, a share or a count of a total, with the interval behind it; "3" alone is no figure
FIGURE = re.compile(rf"(?<![\w.,#/\[-])[+-]?{WHOLE}(?:\.\d+(?:\s%)?|\s%|\sof\s{WHOLE})(?:\s\[[^\]]*\d[^\]]*\])?")
KEYS = {"page", "says", "figures", "command", "takes", "check", "slow"}


def read_lines(page: Path) -> list[tuple[str, str]]:
    """Every line of a page with its heading; code, links' targets and what a template computes are left out."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```|<!--.*?-->|\{[{%#].*?[}%#]\}|<[^>]*>", " ", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    heading, lines = "", []
    for line in text.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        lines.append((heading, line))
    return lines


def find_figures(line: str) -> list[str]:
    return FIGURE.findall(re.sub(r"`[^`]*`", "", line))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def is_listed(page: Path, heading: str, line: str, figure: str) -> bool:
    return (
        any(one.get("page", name(page)) == name(page) and figure in one["figures"] for one in LISTED["constant"])
        or any(one["page"] == name(page) and one.get("heading", heading) == heading for one in LISTED["section"])
        or any(
            one["page"] == name(page) and one["says"] in line and figure in one["figures"]
            for one in LISTED["claim"]
        )
    )


@pytest.mark.parametrize("page", [*PAGES, *TEMPLATES], ids=lambda page: page.name)
def test_every_figure_of_a_page_is_listed(page: Path) -> None:
    missing = [
        (heading, figure)
        for heading, line in read_lines(page)
        for figure in find_figures(line)
        if not is_listed(page, heading, line, figure)
    ]
    assert missing == [], "list them in docs/claims.toml, with the command that gives them"


def test_a_figure_that_is_not_listed_is_found() -> None:
    line = (
        "| AUROC, MR | 0.842 [0.804, 0.877] | 75 % [70, 80] of 281; 7 of 234, [x](a-0.5.md), `0.25` and 20 slices |"
    )
    assert find_figures(re.sub(r"\]\([^)]*\)", "]", line)) == ["0.842 [0.804, 0.877]", "75 % [70, 80]", "7 of 234"]
    page = ROOT / "README.md"
    assert is_listed(
        page,
        "How well it works",
        "| AUROC, simulated CT, sample model | 1.000 [0.852, 1.000] |",
        "1.000 [0.852, 1.000]",
    )
    assert not is_listed(page, "How well it works", "| AUROC, simulated CT, sample model | 0.997 |", "0.997")
    assert not is_listed(
        page, "How well it works", "| AUROC, real CT | 1.000 [0.852, 1.000] |", "1.000 [0.852, 1.000]"
    )


@pytest.mark.parametrize("claim", LISTED["claim"], ids=lambda claim: f"{claim['page']}-{claim['says'][:40]}")
def test_a_claim_stands_in_its_page(claim: dict[str, Any]) -> None:
    assert set(claim) <= KEYS
    assert claim["command"]
    assert claim["takes"]
    lines = [
        line for line in (ROOT / claim["page"]).read_text(encoding="utf-8").splitlines() if claim["says"] in line
    ]
    assert any(all(figure in line for figure in claim["figures"]) for line in lines), lines
    assert claim.get("slow") or "check" in claim, "what is quick has a check"


def test_every_section_is_there_and_has_figures() -> None:
    for section in LISTED["section"]:
        lines = read_lines(ROOT / section["page"])
        found = [line for heading, line in lines if section.get("heading", heading) == heading]
        assert any(re.search(r"\d", line) for line in found), section
        assert section["command"]
        assert section["takes"]
    for constant in LISTED["constant"]:
        assert constant["why"]


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(claim, id=claim["check"], marks=[pytest.mark.slow] if claim.get("slow") else [])
        for claim in LISTED["claim"]
        if "check" in claim
    ],
)
def test_a_check_computes_the_figures(claim: dict[str, Any]) -> None:
    assert getattr(claims, claim["check"])() == claim["figures"]
