"""Write a run's report.html again from its report.json, or compare two runs on the slices that both measured.

python scripts/report.py runs/quickstart
python scripts/report.py --compare runs/a runs/b --out runs/a-and-b
"""

from stroke_hub.cli.report import report_runs

if __name__ == "__main__":
    report_runs()
