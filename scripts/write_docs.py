"""Write the parts of docs/ that are made from the code: the tree of modules in docs/architecture.md."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- begin: python scripts/write_docs.py -->\n", "<!-- end -->\n"


def list_modules(folder: Path) -> str:
    """List the rooms and modules of a package, each with the first line of its docstring."""
    lines = []
    for room in [folder, *sorted(path.parent for path in folder.rglob("__init__.py") if path.parent != folder)]:
        indent = "  " * len(room.relative_to(folder.parent).parts[1:])
        lines.append(f"{indent}{room.name}/".ljust(24) + _read_summary(room / "__init__.py"))
        modules = [path for path in sorted(room.glob("*.py")) if path.name != "__init__.py"]
        lines += [f"{indent}  {path.name}".ljust(24) + _read_summary(path) for path in modules]
    return "\n".join(lines)


def _read_summary(file: Path) -> str:
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]


def fill(page: str, made: str) -> str:
    """Put what was made between the two marks of a page."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + made + END + rest.split(END, 1)[1]


def write_pages() -> dict[Path, str]:
    """Make the pages, by file, as they should stand."""
    architecture = ROOT / "docs" / "architecture.md"
    tree = f"```text\n{list_modules(ROOT / 'stroke_hub')}\n```\n"
    return {architecture: fill(architecture.read_text(encoding="utf-8"), tree)}


if __name__ == "__main__":
    stale = {file: text for file, text in write_pages().items() if file.read_text(encoding="utf-8") != text}
    if sys.argv[1:] == ["--check"]:
        sys.exit(", ".join(str(file.relative_to(ROOT)) for file in stale) or 0)
    for file, text in stale.items():
        file.write_text(text, encoding="utf-8")
