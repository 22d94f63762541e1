"""Data -> training -> evaluation -> explanation -> run folder -> (with --push-to) the Hub.

python scripts/train_and_push.py --data sample --preset tiny --epochs 12
python scripts/train_and_push.py --data kaggle --push-to owner/name
"""

from stroke_hub.cli.train import train_and_push

if __name__ == "__main__":
    train_and_push()
