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
    static: bool = False,
    private: bool = False,
) -> None:
    """Put the demo into a Gradio Space, with the package beside it and the model pinned to a commit.

    Args:
        repo_id: the Space; made where there is none.
        model: the model on the Hub; with --static also "sample".
        revision: the Space shows the commit that this is now.
        static: push the page that runs the model's export in the visitor's browser, and uploads nothing.
        private: of a Space that is made here.
    """
    from stroke_hub.deploy.hub import check_access

    check_access(repo_id)
    if static:
        from stroke_hub.deploy.static_space import push_static_space as push
    else:
        from stroke_hub.deploy.space import push_space as push
    say(f"Space: {push(repo_id, model, revision=revision, private=private)}")
