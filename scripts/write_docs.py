"""Write the parts of docs/ that are made from the code: the tree of modules, and the keys of report.json."""

import ast
import inspect
import re
import sys
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from stroke_hub.runs.report import Report

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


def describe_schema() -> str:
    """Describe every key of report.json, a table a record, from the records' docstrings."""
    records, sections = [Report], []
    for record in records:  # grows by the records that its fields name
        fields = record.__pydantic_fields__
        known = _find_records([field.annotation for field in fields.values()])
        records += [found for found in known if found not in records]
        summary, rows = _read_record(record)
        if [name for names, _ in rows for name in names] != list(fields):
            raise ValueError(f"{record.__name__}: its docstring names other keys than it has.")
        lines = [f"## {record.__name__}", "", summary, "", "| key | type | what |", "|---|---|---|"]
        for names, words in rows:
            keys = ", ".join(f"`{fields[name].serialization_alias or name}`" for name in names)
            missing = "" if fields[names[0]].is_required() else "; may be missing"
            lines.append(f"| {keys} | {_name_type(fields[names[0]].annotation)}{missing} | {words} |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


def _read_record(record: type) -> tuple[str, list[tuple[list[str], str]]]:
    """Read the docstring of a record: its first line, and for each line below it the keys and what they are."""
    summary, _, rest = inspect.cleandoc(record.__doc__ or "").partition("\n\n")
    lines = [line.partition(" : ") for line in re.sub(r"\n +", " ", rest).splitlines()]
    return summary, [(names.split(", "), words.removesuffix(".")) for names, _, words in lines]


def _name_type(kind: Any) -> str:
    """Name a type as the JSON has it, with links to the records."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _name_type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_name_type(one) for one in inner))
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    if origin is list:
        return f"list of {_name_type(inner[0])}"
    if origin is dict:
        return "object" if inner[1] is Any else f"by name: {_name_type(inner[1])}"
    if is_dataclass(kind):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return {str: "text", int: "whole number", float: "number", NoneType: "`null`"}[kind]


def _find_records(kinds: Any) -> list[Any]:
    """Find the records that types are made of, in their order."""
    found = [
        [kind] if isinstance(kind, type) and is_dataclass(kind) else _find_records(get_args(kind)) for kind in kinds
    ]
    return list(dict.fromkeys(one for several in found for one in several))


def fill(page: str, made: str) -> str:
    """Put what was made between the two marks of a page."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + made + END + rest.split(END, 1)[1]


def write_pages() -> dict[Path, str]:
    """Make the pages, by file, as they should stand."""
    architecture = ROOT / "docs" / "architecture.md"
    tree = f"```text\n{list_modules(ROOT / 'stroke_hub')}\n```\n"
    schema = ROOT / "docs" / "report-schema.md"
    return {
        architecture: fill(architecture.read_text(encoding="utf-8"), tree),
        schema: fill(schema.read_text(encoding="utf-8"), describe_schema()),
    }


if __name__ == "__main__":
    stale = {file: text for file, text in write_pages().items() if file.read_text(encoding="utf-8") != text}
    if sys.argv[1:] == ["--check"]:
        sys.exit(", ".join(str(file.relative_to(ROOT)) for file in stale) or 0)
    for file, text in stale.items():
        file.write_text(text, encoding="utf-8")
