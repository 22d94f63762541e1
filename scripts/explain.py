"""Draw the explanation figures of an evaluated run folder again.

python scripts/explain.py runs/quickstart --data-dir data/sample
"""

from stroke_hub.commands import explain_run

if __name__ == "__main__":
    explain_run()
