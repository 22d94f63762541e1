"""Predict files, folders, zips, parquet tables and lists of any size into a CSV or parquet table.

python scripts/predict.py scan.png data/sample/deep/test --model runs/quickstart --out predictions.csv
"""

from stroke_hub.cli.predict import predict_files

if __name__ == "__main__":
    predict_files()
