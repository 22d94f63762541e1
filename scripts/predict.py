"""Predict image files and folders of them into a CSV.

python scripts/predict.py scan.png data/sample/deep/test --model runs/quickstart --out predictions.csv
"""

from stroke_hub.inspection import predict_files

if __name__ == "__main__":
    predict_files()
