"""all-MiniLM-L6-v2 by ONNX Runtime behind BentoML, which batches by itself; for served.py."""

import os
import pathlib

import bentoml
import numpy as np
import onnxruntime
from onnx_runtime import graph
from tokenizers import Tokenizer

DIRECTORY = pathlib.Path(os.environ["MODEL"])


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Embedder:
    def __init__(self):
        self.tokenizer = Tokenizer.from_file(str(DIRECTORY / "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(graph(DIRECTORY), options, providers=["CPUExecutionProvider"])

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=30000, route="/embed")
    def embed(self, texts: list[str]) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded], np.int32)
        mask = np.array([one.attention_mask for one in encoded], np.int32)
        rows = self.session.run(None, {"ids": ids, "mask": mask})[0]
        pooled = (rows * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
