"""Measure any run or Hub model on any dataset in the Kaggle layout.

python scripts/evaluate.py --model runs/quickstart --data-dir data/sample --out runs/again
python scripts/evaluate.py --model owner/name --revision COMMIT --data-dir FOLDER --out runs/external
"""

from stroke_hub.cli.evaluate import evaluate_model

if __name__ == "__main__":
    evaluate_model()
