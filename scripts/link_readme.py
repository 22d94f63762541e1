#!/usr/bin/env python
"""Make the links of README.md absolute, for a release: `python scripts/link_readme.py REPOSITORY TAG`.

PyPI shows the README, but not the files beside it. A checkout keeps relative links, which work at every commit.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def make_absolute(text: str, repository: str, tag: str) -> str:
    """Let relative links of Markdown lead to a repository on GitHub, as it is at a tag; pictures to their bytes."""

    def lead(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({repository}/{kind}/{tag}/{found[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)", lead, text)


if __name__ == "__main__":
    README.write_text(make_absolute(README.read_text(encoding="utf-8"), *sys.argv[1:]), encoding="utf-8")
