"""Networks from other systems' formats: ONNX."""
