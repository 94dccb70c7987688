"""Networks in other systems' formats: ONNX."""
