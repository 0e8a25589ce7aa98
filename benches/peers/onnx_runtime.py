"""A model of the BERT layout by ONNX Runtime and by target-service, one after the other, several times; medians and
ratios. Made for all-MiniLM-L6-v2; target-service/models/bert is of this layout, too.

    python3 -m pip install onnxruntime onnx safetensors tokenizers numpy
    cargo build --release -p target-service --example speed
    python3 benches/peers/onnx_runtime.py --model target-service/models/all-MiniLM-L6-v2

The graph holds ONNX Runtime's own fused operators (Attention, SkipLayerNormalization, BiasGelu), which is what its
optimiser makes of an exported model; fp32, the weights of the same file. Batches of one length are alike for both.
Real documents are those of scenarios/data/documents.jsonl, or the lines of --texts: ONNX Runtime takes them padded to
the longest of a batch, in order of length, as who serves with it would; ours as they come. In the end what both make
of each document is compared, labels too where the model has a head.

The third column is candle's own operators in batches of at most four, as text-embeddings-inference computes on a
processor (its router cannot be built from crates.io alone); once, since it is slow.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).parents[2]
MS = "com.microsoft"


def graph(directory):
    config = json.loads((directory / "config.json").read_text())
    layers, heads, width = (config[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    epsilon = config["layer_norm_eps"]
    weights = load_file(directory / "model.safetensors")
    weights = {k.removeprefix("bert."): v.astype(np.float32) for k, v in weights.items() if v.dtype != np.int64}
    constants, nodes = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(kind, inputs, outputs, **more):
        nodes.append(helper.make_node(kind, inputs, outputs, domain=MS if kind != "MatMul" else "", **more))

    embedded = lambda name: weights[f"embeddings.{name}"]
    # The embedding of text type 0 is added to those of the positions beforehand.
    positions = embedded("position_embeddings.weight") + embedded("token_type_embeddings.weight")[0]
    node("EmbedLayerNormalization",
         ["ids", "", constant("we", embedded("word_embeddings.weight")), constant("pe", positions), "",
          constant("eg", embedded("LayerNorm.weight")), constant("eb", embedded("LayerNorm.bias"))],
         ["x0", "mask_index"], epsilon=epsilon)
    x = "x0"
    for at in range(layers):
        layer = lambda name: weights[f"encoder.layer.{at}.{name}"]
        parts = ["query", "key", "value"]
        qkv = np.concatenate([layer(f"attention.self.{n}.weight").T for n in parts], 1)
        bias = np.concatenate([layer(f"attention.self.{n}.bias") for n in parts])
        node("Attention", [x, constant(f"qkv{at}", qkv), constant(f"qb{at}", bias), "mask"], [f"a{at}"], num_heads=heads)
        node("MatMul", [f"a{at}", constant(f"o{at}", layer("attention.output.dense.weight").T)], [f"ao{at}"])
        norm = lambda kind, name, n: [constant(f"{kind}_scale{at}", layer(f"{name}.LayerNorm.weight")),
                                      constant(f"{kind}_shift{at}", layer(f"{name}.LayerNorm.bias")),
                                      constant(f"{kind}_bias{at}", layer(f"{n}.bias"))]
        node("SkipLayerNormalization", [f"ao{at}", x, *norm("a", "attention.output", "attention.output.dense")],
             [f"n{at}"], epsilon=epsilon)
        node("MatMul", [f"n{at}", constant(f"w{at}", layer("intermediate.dense.weight").T)], [f"wi{at}"])
        node("BiasGelu", [f"wi{at}", constant(f"wb{at}", layer("intermediate.dense.bias"))], [f"ge{at}"])
        node("MatMul", [f"ge{at}", constant(f"d{at}", layer("output.dense.weight").T)], [f"na{at}"])
        node("SkipLayerNormalization", [f"na{at}", f"n{at}", *norm("b", "output", "output.dense")],
             [f"x{at + 1}"], epsilon=epsilon)
        x = f"x{at + 1}"
    info = helper.make_tensor_value_info
    made = helper.make_graph(nodes, "bert", [info("ids", TensorProto.INT32, ["b", "s"]),
                                               info("mask", TensorProto.INT32, ["b", "s"])],
                             [info(x, TensorProto.FLOAT, ["b", "s", width])], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)])
    model.ir_version = 8
    return model.SerializeToString()


def check(session, tokenizer):
    """The graph must embed all-MiniLM-L6-v2 as the reference does, or its speed says nothing."""
    with open(ROOT / "target-service/models/minilm-reference.jsonl") as lines:
        for row in map(json.loads, lines):
            ids = np.array([tokenizer.encode(row["text"]).ids], np.int32)
            got = session.run(None, {"ids": ids, "mask": np.ones_like(ids)})[0][0].mean(0)
            want = np.array(row["embedding"])
            cosine = got @ want / np.linalg.norm(got) / np.linalg.norm(want)
            assert cosine > 0.999999, f"{row['text']!r}: cosine {cosine}"


def onnx_round(session, documents, least, span):
    cells, rates = {}, {}
    for tokens in (16, 64, 256):
        for size in (1, 8, 32):
            ids = np.array([[1000 + (at * 7919 + i * 104729) % span for i in range(tokens)] for at in range(size)],
                           np.int32)
            feed = {"ids": ids, "mask": np.ones_like(ids)}
            for _ in range(3):
                session.run(None, feed)
            times, start = [], time.perf_counter()
            while time.perf_counter() - start < least or len(times) < 3:
                one = time.perf_counter()
                session.run(None, feed)
                times.append((time.perf_counter() - one) * 1e3)
            cells[tokens, size] = statistics.median(times)
    by_length = sorted(documents, key=len)
    for size in (1, 8, 32):
        start = time.perf_counter()
        for at in range(0, len(by_length), size):
            batch = by_length[at:at + size]
            ids = np.zeros((len(batch), max(map(len, batch))), np.int32)
            mask = np.zeros_like(ids)
            for row, document in enumerate(batch):
                ids[row, :len(document)], mask[row, :len(document)] = document, 1
            session.run(None, {"ids": ids, "mask": mask})
        rates[size] = len(documents) / (time.perf_counter() - start)
    return cells, rates


def our_round(args, path, *more, least=None):
    command = [args.ours, "--model", args.model, "--documents", path, "--threads", str(args.threads),
               "--time", str(int((args.least if least is None else least) * 1000)), *more]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    cells = {(r["tokens"], r["size"]): statistics.median(r["ms"]) for r in rows if "ms" in r}
    return cells, {r["size"]: r["rate"] for r in rows if "rate" in r}, [r for r in rows if "embedding" in r]


def compare(session, directory, documents, answers):
    """The worst cosine of the embeddings, how many labels are the same, and the worst score."""
    config = json.loads((directory / "config.json").read_text())
    own = directory / "head.safetensors"
    head = load_file(own if own.exists() else directory / "model.safetensors")
    worst, same, off = 1.0, 0, 0.0
    for document, answer in zip(documents, answers):
        ids = np.array([document], np.int32)
        pooled = session.run(None, {"ids": ids, "mask": np.ones_like(ids)})[0][0].mean(0).astype(np.float64)
        unit = pooled / np.linalg.norm(pooled)
        worst = min(worst, unit @ np.array(answer["embedding"]))
        if answer["scores"]:
            judged = unit if config.get("classifier_input") == "embedding" else pooled
            scores = np.exp(head["classifier.weight"] @ judged + head["classifier.bias"])
            scores /= scores.sum()
            same += int(scores.argmax() == np.argmax(answer["scores"]))
            off = max(off, np.abs(scores - answer["scores"]).max())
    print(f"\nEmbeddings of {len(documents)} documents: cosine at least {worst:.9f}")
    if answers[0]["scores"]:
        print(f"labels: {same} of {len(documents)} the same, scores at most {off:.1e} apart")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--ours", default=str(ROOT / "target/release/examples/speed"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=1.0, help="seconds of each measurement")
    parser.add_argument("--documents", type=int, default=96, help="how many real documents")
    parser.add_argument("--texts", help="a file with a text a line, in place of the scenarios' documents")
    args = parser.parse_args()
    directory = pathlib.Path(args.model)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    if args.texts:
        texts = open(args.texts, encoding="utf-8").read().splitlines()
    else:
        texts = [json.loads(line)["text"] for line in open(ROOT / "scenarios/data/documents.jsonl", encoding="utf-8")]
    documents = [tokenizer.encode(text).ids for text in texts[:args.documents]]
    # Tokens of the batches of one length are from 1,000 on.
    span = min(28000, json.loads((directory / "config.json").read_text())["vocab_size"] - 1000)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = args.threads, 1
    session = onnxruntime.InferenceSession(graph(directory), options, providers=["CPUExecutionProvider"])
    if session.get_outputs()[0].shape[2] == 384:
        check(session, tokenizer)
    theirs, ours = [], []
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(documents, file)
        file.flush()
        for _ in range(args.rounds):
            theirs.append(onnx_round(session, documents, args.least, span))
            ours.append(our_round(args, file.name, "--span", str(span)))
        candle = our_round(args, file.name, "--span", str(span), "--operators", least=0)
    print(f"ONNX Runtime {onnxruntime.__version__}, {args.threads} threads, medians of {args.rounds} rounds\n")
    print("| tokens, documents | ONNX Runtime, ms | target-service, ms | ratio | ratios of the rounds | candle's operators, ms |")
    print("|---|---|---|---|---|---|")
    for cell in ours[0][0]:
        pairs = [(t[0][cell], o[0][cell]) for t, o in zip(theirs, ours)]
        t, o = (statistics.median(side) for side in zip(*pairs))
        each = ", ".join(f"{o / t:.2f}" for t, o in pairs)
        print(f"| {cell[0]}, {cell[1]} | {t:.1f} | {o:.1f} | {o / t:.2f} | {each} | {candle[0][cell]:.1f} |")
    mean = statistics.mean(map(len, documents))
    print(f"\n{len(documents)} real documents, {mean:.0f} tokens in the mean\n")
    print("| in a batch | ONNX Runtime, documents/s | target-service, documents/s | times as fast | candle's operators |")
    print("|---|---|---|---|---|")
    for size in (1, 8, 32):
        t, o = (statistics.median(r[1][size] for r in side) for side in (theirs, ours))
        print(f"| {size} | {t:.1f} | {o:.1f} | {o / t:.2f} | {candle[1][size]:.1f} |")
    compare(session, directory, documents, ours[0][2])


if __name__ == "__main__":
    main()
