"""Readers for other frameworks' model files. Each is imported on demand: `dlk.importers.onnx`
(needs the `onnx` package), `dlk.importers.torch` and `dlk.importers.safetensors` (need nothing).
"""
