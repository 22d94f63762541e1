"""The environment of all templates."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["make_environment"]


def make_environment(
    *, finalize: Callable[[object], object] | None = None, keep_trailing_newline: bool = False
) -> Environment:
    """Make the environment that loads the templates of this folder, with all that is printed escaped.

    Parameters
    ----------
    finalize : what a printed value becomes.
    keep_trailing_newline : keep the line end of a template's last line.
    """
    return Environment(
        loader=PackageLoader("stroke_hub.report"),
        autoescape=True,  # names and notes come from anywhere
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=keep_trailing_newline,
    )
