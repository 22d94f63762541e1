"""Look for leaks in a dataset: one picture twice, one patient on both sides, uneven classes.

python scripts/audit.py --data-dir data/sample --out runs/audit
"""

from stroke_hub.cli.audit import audit_folder

if __name__ == "__main__":
    audit_folder()
