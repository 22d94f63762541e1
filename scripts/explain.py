"""Explain every test slice of a dataset: maps, pictures and a page to look through, worst errors first.

python scripts/explain.py --model runs/quickstart --data-dir data/sample --out runs/quickstart/gallery
"""

from stroke_hub.cli.explain import explain_folder

if __name__ == "__main__":
    explain_folder()
