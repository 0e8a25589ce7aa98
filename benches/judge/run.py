#!/usr/bin/env python3
"""Judging a large run: a million requests, their spans, fifty objectives. Time and memory.

    cargo build --release --workspace
    python3 benches/judge/run.py [--seconds 500] [--dir DIR]

Runs `scenario.yaml` beside this file against the service, keeps the run directory, and has it judged
three times by the command line alone: with its own objective from the recorded answers, with fifty
objectives that were never asked before and so are put to the recorded evidence, and with those again
after it is known that the file system holds everything in memory. Prints wall time, CPU time and peak
memory of each, and the sizes on disk. The load needs about one core for as long as it lasts.
"""

import argparse, json, os, subprocess, sys, tempfile, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
HARNESS = HERE.parents[1] / "target" / "release" / "harness"

CLIENT = "{{type: LoadClient, spec: {{request: classify{}}}}}"
PROMETHEUS = "{{type: Prometheus, spec: {{query: 'sum(http_server_request_duration_seconds_{})'}}}}"
TEMPO = "{{type: Tempo, spec: {{query: '{{resource.service.name=\"target-service\" && name=\"{}\"{}}} | count_over_time()'}}}}"
JOB = '{{job="target-service", http_route="/predict"{}}}'


def ratio(name, signal, good, total, counter=True, target=0.9, extra=""):
    return f"""apiVersion: openslo/v1
kind: SLO
metadata: {{name: {name}, annotations: {{harness/signal: {signal}{extra}}}}}
spec:
  service: doc-classifier
  indicator:
    metadata: {{name: {name}}}
    spec:
      ratioMetric:
        counter: {str(counter).lower()}
        good: {{metricSource: {good}}}
        total: {{metricSource: {total}}}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{displayName: "{name}", target: {target}}}]
"""


def lines(name, query):
    return f"""apiVersion: openslo/v1
kind: SLO
metadata: {{name: {name}, annotations: {{harness/signal: errors, harness/empty-as: "0", harness/unit: lines}}}}
spec:
  service: doc-classifier
  indicator:
    metadata: {{name: {name}}}
    spec:
      thresholdMetric:
        metricSource: {{type: Loki, spec: {{query: '{query}'}}}}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{displayName: "{name}", op: lte, value: 0, target: 0.9}}]
"""


def objectives():
    """Fifty: twenty of the client, ten each of metrics, traces and logs."""
    out = []
    for ms in range(200, 1200, 50):
        good = CLIENT.format(f', outcome: expected, latency: "<= {ms}ms"')
        out.append(ratio(f"client-{ms}", "latency", good, CLIENT.format("")))
    every = PROMETHEUS.format("count" + JOB.format(""))
    for le in ("0.05", "0.1", "0.25", "0.5", "0.75"):
        good = PROMETHEUS.format("bucket" + JOB.format(f', le="{le}"'))
        out.append(ratio(f"server-{le.replace('.', '-')}", "latency", good, every))
    for status in ("200", "2..", "[12]..", "200|429", "[^5].."):
        good = PROMETHEUS.format("count" + JOB.format(f', http_response_status_code=~"{status}"'))
        out.append(ratio(f"status-{len(out)}", "errors", good, every))
    for span, key in (("queue", "queue"), ("POST /predict", "server")):
        for ms in (50, 100, 200, 400, 800):
            good = TEMPO.format(span, f" && duration <= {ms}ms")
            out.append(ratio(f"{key}-span-{ms}", "saturation", good, TEMPO.format(span, ""), counter=False))
    stream = '{service_name="target-service"}'
    for word in ("panic", "refused", "corrupt", "overflow", "deadline"):
        out.append(lines(f"no-{word}", f'sum(count_over_time({stream} |= "{word}" [$window]))'))
        out.append(lines(f"no-{word}-of-any-case", f'sum(count_over_time({stream} |~ "(?i){word}" [$window]))'))
    return "---\n".join(out)


def measured(command, log):
    begun = time.monotonic()
    with open(log, "w") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return {
        "exit": child.returncode,
        "wall_s": round(time.monotonic() - begun, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": usage.ru_maxrss // 1024,
    }


def show(what, figures):
    print(f"{what}: " + ", ".join(f"{k} {v}" for k, v in figures.items()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=500, help="of load at 2,000/s")
    parser.add_argument("--dir", type=Path, help="where the run goes; default: a temporary directory")
    args = parser.parse_args()
    if not HARNESS.exists():
        sys.exit(f"{HARNESS} is not there: cargo build --release --workspace")
    with tempfile.TemporaryDirectory() as scratch:
        work = args.dir or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        run, fifty = work / "run", work / "fifty.yaml"
        fifty.write_text(objectives())
        seconds = f"spec.loads[0].stages[1].for={args.seconds}s"
        command = [HARNESS, "run", HERE / "scenario.yaml", "--set", seconds, "--out", run, "--quiet"]
        show("run", measured(command, work / "run.txt"))
        if not (run / "report.json").exists():
            sys.exit((work / "run.txt").read_text())
        for what, more in (
            ("its own objective", []),
            ("fifty others, asked of the evidence", ["--slo", fifty]),
            ("once more", ["--slo", fifty]),
        ):
            log = work / f"judged-{len(more)}.txt"
            command = [HARNESS, "judge", run, "--out", work / "judged", *more]
            show(f"judged, {what}", measured(command, log))
            sys.stdout.write("  " + "\n  ".join(log.read_text().splitlines()[:3]) + "\n")
        report = json.loads((work / "judged" / "report.json").read_text())
        verdicts = [o["verdict"] for o in report["objectives"]]
        show("objectives", {v: verdicts.count(v) for v in sorted(set(verdicts))})
        for path in sorted([*run.iterdir(), *(run / "evidence").iterdir()]):
            if path.is_file() and path.stat().st_size > 1 << 20:
                print(f"  {path.relative_to(run)}: {path.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
