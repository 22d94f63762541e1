"""The command push-space: put the demo into a Space."""

from typing import Annotated

import tyro

from stroke_hub.cli.common import (
    program,
)
from stroke_hub.progress import say

__all__ = ["publish_space"]


@program
def publish_space(
    *,
    repo_id: Annotated[str, tyro.conf.arg(metavar="OWNER/SPACE")],
    model: Annotated[str, tyro.conf.arg(metavar="OWNER/NAME")],
    revision: Annotated[str, tyro.conf.arg(metavar="COMMIT")] = "main",
    private: bool = False,
) -> None:
    """Put the demo into a Gradio Space, with the package beside it and the model pinned to a commit.

    Args:
        repo_id: the Space; made where there is none.
        model: the model on the Hub.
        revision: the Space shows the commit that this is now.
        private: of a Space that is made here.
    """
    from stroke_hub.deploy.hub import check_access
    from stroke_hub.deploy.space import push_space

    check_access(repo_id)
    say(f"Space: {push_space(repo_id, model, revision=revision, private=private)}")
