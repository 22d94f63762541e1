"""For a release every link of the README is absolute, and no other word changes."""

import re
from pathlib import Path

from scripts.link_readme import make_absolute

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
PLACE = "https://example.org/owner/name"


def test_links_lead_to_the_tag_and_pictures_to_their_bytes() -> None:
    text = make_absolute(README, PLACE, "v1.0")
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) > 20
    assert all(target.startswith(("https://", "#")) for target in targets)
    assert f"]({PLACE}/raw/v1.0/docs/demo.png)" in text
    assert f"]({PLACE}/blob/v1.0/docs/install.md)" in text
    assert re.sub(rf"{PLACE}/(blob|raw)/v1\.0/", "", text) == README
