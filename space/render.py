"""Fill a page template of templates/ with values, all of them escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stroke_hub.report.formatting import NUMBER_FILTERS

__all__ = ["render"]

ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names of files, notes and reports come from anywhere
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= NUMBER_FILTERS


def render(template: str, **values: Any) -> Markup:
    """Fill `template` with `values`; the result counts as escaped where another template takes it."""
    return Markup(ENVIRONMENT.get_template(template).render(values))  # noqa: S704  autoescape is on
