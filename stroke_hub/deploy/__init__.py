"""What leaves the house: ONNX, the Hub, a Space."""
