"""What transformers passes on when it loads something: accepted where it changes nothing, refused otherwise."""

from collections.abc import Mapping
from typing import Any

__all__ = ["refuse_options"]

# no code of a repository is run, only safetensors are read, and there is one way to make pixels
HARMLESS = {"adapter_kwargs", "backend", "code_revision", "trust_remote_code", "use_fast", "use_safetensors"}


def refuse_options(options: Mapping[str, Any]) -> None:
    """Refuse options that ask for what these models cannot do; those of transformers' own begin with "_".

    Raises
    ------
    ValueError : there is one.
    """
    asked = {name for name, value in options.items() if value not in (None, False, "") and name[0] != "_"}
    if unknown := sorted(asked - HARMLESS):
        raise ValueError(f"{', '.join(unknown)}: a model of stroke_hub has no such option; leave it out.")
