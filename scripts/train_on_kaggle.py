# /// script
# requires-python = ">=3.11"
# dependencies = ["stroke-hub[train]"]
# ///
"""Train the full preset on the Kaggle dataset, evaluate and publish it: one line on any machine.

uv run scripts/train_on_kaggle.py --repo owner/name
hf jobs uv run --flavor l4x1 --timeout 6h --secrets HF_TOKEN --secrets KAGGLE_API_TOKEN \
    --volume hf://buckets/owner/runs:/runs scripts/train_on_kaggle.py --repo owner/name --run-dir /runs/full

The same line again goes on where a training was interrupted, as long as its run folder is there: on a machine that
is lent, keep it in a volume. Other data and presets go too: --data sample --preset tiny. The package must be on the
index that uv asks, or in a folder given as --find-links.
"""

import argparse
import sys

from stroke_hub.cli.train import train_and_push


def main() -> None:
    """Train and publish, by the command `stroke-hub train`."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s --repo OWNER/NAME [OPTIONS]",
        description=(__doc__ or "").partition("\n")[0],
        epilog="Further options are those of stroke-hub train:",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--repo", required=True, metavar="OWNER/NAME", help="publish as this Hub repository")
    if not {"-h", "--help"}.isdisjoint(sys.argv):
        parser.print_help()
        train_and_push(["--help"])
    own, rest = parser.parse_known_args()
    # the last of an option given twice counts, so that these can be changed
    train_and_push(["--data", "kaggle", "--preset", "full", "--push-to", own.repo, *rest])


if __name__ == "__main__":
    main()
