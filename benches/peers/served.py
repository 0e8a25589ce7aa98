#!/usr/bin/env python3
"""all-MiniLM-L6-v2 served: target-service beside ONNX Runtime behind BentoML, one core each time.

    python3 -m pip install bentoml onnxruntime onnx safetensors tokenizers numpy
    bash target-service/models/fetch-minilm.sh target-service/models/all-MiniLM-L6-v2
    cargo build --release --workspace
    python3 benches/peers/served.py [--seconds 20] [--rates 8,16]

Each service has core 0 and one thread to compute, batches of at most eight documents, and gets the documents of
scenarios/data/documents.jsonl at /embed as JSON from harness on core 1: first from 16 users that never pause, which
is its capacity, then at each rate of a Poisson stream. Latency runs from when a request was due; telemetry is off.
"""

import argparse, json, os, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

from objective import slo

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """apiVersion: harness/v1
kind: Scenario
metadata: {{name: served}}
spec:
  seed: 42
  slo: [slo.yaml]
  target: {{url: "{url}", timeout: 20s}}
  trace: {{sampled: 0.0}}
  requests:
    - name: embed
      method: POST
      path: /embed
      headers: {{content-type: application/json}}
      data: {{dataset: "{documents}", order: shuffled}}
      body: {{json: {{texts: ["{{{{ text }}}}"]}}}}
      expect: {{status: 200}}
  loads:
    - name: load
      mix: {{embed: 1}}
      {load}
"""
CLOSED = """executor: constant-vus
      vus: 16
      stages: [{{phase: warmup, for: 5s}}, {{phase: measure, for: {seconds}s}}]"""
OPEN = """executor: constant-arrival-rate
      spacing: poisson
      maxInFlight: 512
      stages: [{{phase: warmup, rate: {rate}/s, for: 5s}}, {{phase: measure, rate: {rate}/s, for: {seconds}s}}]"""
def wait_for(url):
    body = json.dumps({"texts": ["The goalie"]}).encode()
    request = urllib.request.Request(url + "/embed", body, {"content-type": "application/json"})
    for _ in range(300):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                json.load(answer)
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{url} does not answer")


def resident(pid):
    """MiB of a process and all below it."""
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    own = sum(int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
              if line.startswith("VmRSS:")) / 1024
    return own + sum(resident(int(child)) for child in children)


def measure(args, url, load):
    with tempfile.TemporaryDirectory() as folder:
        documents = ROOT / "scenarios/data/documents.jsonl"
        Path(folder, "scenario.yaml").write_text(SCENARIO.format(url=url, documents=documents, load=load))
        Path(folder, "slo.yaml").write_text(slo("embed"))
        ran = subprocess.run(["taskset", "-c", "1", str(args.harness), "run", f"{folder}/scenario.yaml", "--quiet",
                              "--out", f"{folder}/run"], capture_output=True, text=True)
        report = Path(folder, "run/report.json")
        if not report.exists():
            sys.exit(ran.stdout + ran.stderr)
        load = json.loads(report.read_text())["load"][-1]
    outcomes = dict(map(tuple, load["outcomes"]))
    good, ms = outcomes.pop("expected", 0), {key: load["latency"][key] * 1e3 for key in ("p50", "p99")}
    return good / args.seconds, ms, outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "target-service/models/all-MiniLM-L6-v2")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rates", default="8,16")
    parser.add_argument("--harness", type=Path, default=ROOT / "target/release/harness")
    parser.add_argument("--service", type=Path, default=ROOT / "target/release/target-service")
    args = parser.parse_args()
    here = Path(__file__).parent
    env = {**os.environ, "MODEL": str(args.model.resolve()), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
           "BENTOML_DO_NOT_TRACK": "True", "OTEL_LOGS_EXPORTER": "none"}
    services = {
        "target-service": (["--listen", "127.0.0.1:3010", "--model", str(args.model)], args.service, 3010),
        "ONNX Runtime behind BentoML": (["-m", "bentoml", "serve", "bento_service:Embedder", "--port", "3011"],
                                        Path(sys.executable), 3011),
    }
    print("| | capacity, documents/s | " + " | ".join(f"at {rate}/s: p50, p99 ms" for rate in args.rates.split(","))
          + " | MiB |\n|---|---|" + "---|" * (args.rates.count(",") + 2))
    for name, (command, program, port) in services.items():
        service = subprocess.Popen(["taskset", "-c", "0", str(program), *command], cwd=here, env=env,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url)
            most, _, bad = measure(args, url, CLOSED.format(seconds=args.seconds))
            cells = [f"{most:.1f}" + (f" ({bad})" if bad else "")]
            for rate in args.rates.split(","):
                _, ms, bad = measure(args, url, OPEN.format(rate=rate, seconds=args.seconds))
                cells.append(f"{ms['p50']:.0f}, {ms['p99']:.0f}" + (f" ({bad})" if bad else ""))
            cells.append(f"{resident(service.pid):.0f}")
        finally:
            service.terminate()
            service.wait()
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


main()
