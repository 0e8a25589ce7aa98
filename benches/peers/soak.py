#!/usr/bin/env python3
"""A soak: half an hour at 2,000/s, and how much memory the generator has all the while.

    cargo build --release -p harness && cargo build --release -p harness-benches --examples
    python3 benches/peers/soak.py [--seconds 1800] [--rate 2000] [--out benches/peers/results/soak.json]

The target is the null target on loopback. Every ten seconds the resident memory is read; the last tenth
of the load must not have more than 1.2 times what the second tenth had (the first fills the pools),
or 16 MiB more: after a stall as many connections as `maxInFlight` are open, and keep their buffers.
Reading the rows back and judging them after the load takes memory by the row; its peak is told apart.
"""

import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

from objective import slo

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = """apiVersion: harness/v1
kind: Scenario
metadata: {{name: soak}}
spec:
  seed: 42
  slo: [slo.yaml]
  target: {{url: "{url}", timeout: 10s}}
  trace: {{sampled: 1.0}}
  requests: [{{name: null-request, method: GET, path: /, expect: {{status: 200}}}}]
  loads:
    - name: load
      mix: {{null-request: 1}}
      executor: constant-arrival-rate
      spacing: poisson
      maxInFlight: 512
      stages: [{{phase: measure, rate: {rate}/s, for: {seconds}s}}]
"""
def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("--rate", type=int, default=2000)
    parser.add_argument("--harness", type=Path, default=ROOT / "target/release/harness")
    parser.add_argument("--target", type=Path, default=ROOT / "target/release/examples/null_target")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    server = subprocess.Popen([str(args.target), "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        url = f"http://{server.stdout.readline().strip()}"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "scenario.yaml").write_text(SCENARIO.format(url=url, rate=args.rate, seconds=args.seconds))
            Path(folder, "slo.yaml").write_text(slo("null-request"))
            child = subprocess.Popen([str(args.harness), "run", f"{folder}/scenario.yaml", "--out", f"{folder}/run", "--quiet"])
            begun, samples = time.monotonic(), []
            while True:
                time.sleep(10)
                at = time.monotonic() - begun
                if at > args.seconds:
                    break
                samples.append([round(at), resident_mib(child.pid)])
                print(*samples[-1], flush=True)
            _, status, usage = os.wait4(child.pid, 0)
            report = json.loads(Path(folder, "run/report.json").read_text())
            generator = json.loads(Path(folder, "run/run.json").read_text())["generator"]
            size = Path(folder, "run/requests.jsonl").stat().st_size
    finally:
        server.kill()
        server.wait()
    tenth = max(1, len(samples) // 10)
    mean = lambda part: sum(mib for _, mib in part) / len(part)
    early, late = mean(samples[tenth:2 * tenth] or samples), mean(samples[-tenth:])
    load = report["load"][0]
    result = {
        "seconds": args.seconds, "rate": args.rate, "exit": os.waitstatus_to_exitcode(status),
        "requests": load["scheduled"], "outcomes": load["outcomes"], "latency": load["latency"],
        "resident_mib_second_tenth": round(early, 1), "resident_mib_last_tenth": round(late, 1),
        "peak_mib_with_judging": round(usage.ru_maxrss / 1024, 1),
        "requests_jsonl_mib": round(size / 2**20, 1),
        "generator": generator, "validity": report.get("validity"), "resident_mib": samples,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "resident_mib"}, indent=1))
    if late > max(early * 1.2, early + 16):
        sys.exit(f"memory grew from {early:.1f} to {late:.1f} MiB")


main()
