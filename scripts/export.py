"""Write a run's model as ONNX, prediction and explanation, in fp32 and int8: for use without PyTorch.

python scripts/export.py --model runs/quickstart --data-dir data/sample
"""

from stroke_hub.cli.export import export_model

if __name__ == "__main__":
    export_model()
