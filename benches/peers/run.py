#!/usr/bin/env python3
"""Load generators side by side: CPU a request, reached rate, latency, memory.

    cargo build --release -p harness && cargo build --release -p harness-benches --examples
    python3 benches/peers/run.py [--seconds 8] [--rate 5000] [--connections 64] [--out benches/peers/results]

Targets on loopback: `null` (benches/examples/null_target.rs) and nginx answering `return 200`. Peers
are taken from PATH (oha, wrk, wrk2, k6); those that are absent are named and left out. Every peer sends
`traceparent` and `baggage`; ours differ in each request, theirs are constant. Target and generator are
pinned to one core each where `taskset` is there.

CPU is user + system time of the generator's process as the kernel counts it (wait4), divided by the
requests it completed. For harness that includes reading the rows back, judging and writing the reports
after the load; `cpu_us_load` is the part during the load, by its own record.
"""

import argparse, json, os, platform, re, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path

from objective import slo

ROOT = Path(__file__).resolve().parents[2]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BAGGAGE = "harness.run.id=peers"


def pinned(core, command):
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        return ["taskset", "-c", str(core), *command]
    return command


def measured(command, **more):
    """Runs a command; its output, wall seconds, CPU seconds and peak memory in MiB."""
    with tempfile.TemporaryFile("w+") as out:
        begun = time.monotonic()
        child = subprocess.Popen(pinned(1, command), stdout=out, stderr=subprocess.STDOUT, **more)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return {
            "text": out.read(),
            "code": child.returncode,
            "wall": time.monotonic() - begun,
            "cpu": usage.ru_utime + usage.ru_stime,
            "memory_mib": round(usage.ru_maxrss / 1024, 1),
        }


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[unit]


def row(run, requests, seconds, p50, p99, p999, errors, **more):
    return {
        "requests": requests,
        "rate": round(requests / seconds, 1),
        "cpu_us": round(run["cpu"] / max(requests, 1) * 1e6, 2),
        "p50_ms": p50, "p99_ms": p99, "p999_ms": p999,
        "errors": errors, "memory_mib": run["memory_mib"], **more,
    }


def wrk(name, url, args):
    command = [name, "-t1", f"-c{args.connections}", f"-d{args.seconds}s",
               "-H", f"traceparent: {TRACE}", "-H", f"baggage: {BAGGAGE}"]
    if name == "wrk2":
        command += [f"-R{args.rate}", "--latency"]
    else:
        command += ["--latency"]
    run = measured([*command, url])
    text = run["text"]
    requests, seconds = re.search(r"(\d+) requests in ([\d.]+)s", text).groups()
    at = lambda q: (m := re.search(rf"^\s*{q}%\s+([\d.]+\w+)", text, re.M)) and milliseconds(m[1])
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout|responses:) (\d+)", text)))
    p50, p99, p999 = at(r"50(?:\.000)?"), at(r"99(?:\.000)?"), at(r"99\.9(?:00)?")
    return row(run, int(requests), float(seconds), p50, p99, p999, errors), text


def oha(url, args, full):
    command = ["oha", "--no-tui", "--output-format", "json", "-z", f"{args.seconds}s",
               "-c", str(args.connections), "-H", f"traceparent: {TRACE}", "-H", f"baggage: {BAGGAGE}"]
    if not full:
        command += ["-q", str(args.rate), "--latency-correction"]
    run = measured([*command, url], env={**os.environ, "TOKIO_WORKER_THREADS": "1"})
    found = json.loads(run["text"])
    requests = sum(found["statusCodeDistribution"].values())
    # It cuts requests off at the end; they are no errors of the target.
    errors = sum(n for what, n in found["errorDistribution"].items() if "deadline" not in what)
    at = lambda q: round(found["latencyPercentiles"][q] * 1e3, 3)
    rows = row(run, requests, found["summary"]["total"], at("p50"), at("p99"), at("p99.9"), errors)
    return rows, run["text"]


def k6(url, args, full):
    shape = (f"executor: 'constant-vus', vus: {args.connections}" if full else
             f"executor: 'constant-arrival-rate', rate: {args.rate}, timeUnit: '1s', preAllocatedVUs: {args.connections}")
    script = (f"import http from 'k6/http';\nexport const options = {{discardResponseBodies: true, "
              f"summaryTrendStats: ['med', 'p(99)', 'p(99.9)'], scenarios: {{a: {{{shape}, duration: '{args.seconds}s'}}}}}};\n"
              f"export default () => http.get('{url}', {{headers: {{traceparent: '{TRACE}', baggage: '{BAGGAGE}'}}}});\n")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.js").write_text(script)
        summary = Path(folder, "summary.json")
        run = measured(["k6", "run", "--quiet", "--no-usage-report", "--summary-export", str(summary), f"{folder}/a.js"])
        found = json.loads(summary.read_text())["metrics"]
    took = found["http_req_duration"]
    requests = found["http_reqs"]["count"]
    seconds = requests / found["http_reqs"]["rate"]
    dropped = found.get("dropped_iterations", {}).get("count", 0)
    ms = lambda q: round(took[q], 3)
    return row(run, requests, seconds, ms("med"), ms("p(99)"), ms("p(99.9)"), dropped), run["text"]


def client(kind, url, args):
    program = ROOT / "target/release/examples/clients"
    run = measured([str(program), kind, url, str(args.seconds), str(args.connections)])
    found = json.loads(run["text"])
    return row(run, found["requests"], found["seconds"], None, None, None, found["failed"]), run["text"]


SCENARIO = """apiVersion: harness/v1
kind: Scenario
metadata: {{name: peers}}
spec:
  seed: 42
  slo: [slo.yaml]
  target: {{url: "{url}", timeout: 10s}}
  trace: {{sampled: 1.0}}
  requests: [{{name: null-request, method: GET, path: /, expect: {{status: 200}}}}]
  loads:
    - name: load
      mix: {{null-request: 1}}
      {shape}
  validity: {{lateSends: {{over: 1s, share: 100%}}}}
"""
def harness(url, args, full):
    open_loop = (f"executor: constant-arrival-rate\n      spacing: even\n      maxInFlight: {args.connections}\n"
                 f"      stages: [{{phase: measure, rate: {args.rate}/s, for: {args.seconds}s}}]")
    closed = (f"executor: constant-vus\n      vus: {args.connections}\n"
              f"      stages: [{{phase: measure, for: {args.seconds}s}}]")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "scenario.yaml").write_text(SCENARIO.format(url=url.rstrip("/"), shape=closed if full else open_loop))
        Path(folder, "slo.yaml").write_text(args.slo)
        out = Path(folder, "run")
        run = measured([str(args.harness), "run", f"{folder}/scenario.yaml", "--out", str(out)])
        if not (out / "report.json").exists():
            sys.exit(f"harness left no report:\n{run['text']}")
        report = json.loads((out / "report.json").read_text())
        own = json.loads((out / "run.json").read_text())["generator"]
        late = sorted(lateness(out / "requests.jsonl"))
    load = report["load"][0]
    requests = load["scheduled"]
    errors = requests - dict(map(tuple, load["outcomes"])).get("expected", 0)
    ms = lambda q: round(load["latency"][q] * 1e3, 3)
    at = lambda q: round(late[min(len(late) - 1, int(q * len(late)))] / 1e6, 3)
    rows = row(run, requests, args.seconds, ms("p50"), ms("p99"), ms("p999"), errors,
               cpu_us_load=round(own["cpu_seconds"] / requests * 1e6, 2),
               lateness_p50_ms=at(0.5), lateness_p99_ms=at(0.99), lateness_max_ms=round(late[-1] / 1e6, 3))
    return rows, json.dumps(own)


def lateness(path):
    for line in path.open():
        seen = json.loads(line)["row"]
        yield seen.get("sent", seen["done"]) - seen["due"]


def null_target(_folder):
    server = subprocess.Popen(pinned(0, [str(ROOT / "target/release/examples/null_target"), "127.0.0.1:0"]),
                              stdout=subprocess.PIPE, text=True)
    return server, f"http://{server.stdout.readline().strip()}/"


def nginx_target(folder):
    port = free_port()
    conf = Path(folder, "nginx.conf")
    conf.write_text(f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
                    "events { worker_connections 4096; }\n"
                    f"http {{ access_log off; keepalive_requests 1000000000;\n"
                    f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'ok'; }} }} }}\n")
    server = subprocess.Popen(pinned(0, ["nginx", "-c", str(conf), "-p", folder, "-e", f"{folder}/error.log"]))
    wait_for(port)
    return server, f"http://127.0.0.1:{port}/"


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    import socket
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit("the target does not listen")


def machine():
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    version = lambda *command: (subprocess.run(command, capture_output=True, text=True).stdout.strip().splitlines() or ["?"])[0]
    return {
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20, 1),
        "kernel": platform.release(),
        "rustc": version("rustc", "--version"),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load_before": os.getloadavg()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--targets", default="null,nginx")
    parser.add_argument("--only", default="", help="peers to run, with commas; default all that are there")
    parser.add_argument("--harness", type=Path, default=ROOT / "target/release/harness")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.slo = slo("null-request")
    only = set(filter(None, args.only.split(",")))
    peers = {
        "harness": (lambda url, full: harness(url, args, full)),
        "wrk2": (lambda url, full: None if full else wrk("wrk2", url, args)),
        "wrk": (lambda url, full: wrk("wrk", url, args) if full else None),
        "oha": (lambda url, full: oha(url, args, full)),
        "k6": (lambda url, full: k6(url, args, full)),
        # What a request costs when a general client sends it and nothing is recorded.
        "reqwest": (lambda url, full: client("reqwest", url, args) if full else None),
        "hyper": (lambda url, full: client("hyper", url, args) if full else None),
    }
    built = {"harness": args.harness, "reqwest": ROOT / "target/release/examples/clients",
             "hyper": ROOT / "target/release/examples/clients"}
    has = lambda name: built[name].exists() if name in built else shutil.which(name)
    there = [name for name in peers if (not only or name in only) and has(name)]
    absent = [name for name in peers if not has(name)]
    if absent:
        print(f"not on PATH or not built, left out: {', '.join(absent)}")
    results, raw = [], {}
    for target, start in (("null", null_target), ("nginx", nginx_target)):
        if target not in args.targets.split(","):
            continue
        if target == "nginx" and not shutil.which("nginx"):
            print("nginx is not on PATH: that target is left out")
            continue
        with tempfile.TemporaryDirectory() as folder:
            server, url = start(folder)
            try:
                for full in (False, True):
                    for name in there:
                        found = peers[name](url, full)
                        if found is None:
                            continue
                        mode = "full speed" if full else f"{args.rate}/s"
                        results.append({"target": target, "load": mode, "peer": name, **found[0]})
                        raw[f"{target}, {mode}, {name}"] = found[1]
                        print(line(results[-1]), flush=True)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait()
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps({"machine": machine(), "results": results}, indent=1) + "\n")
        (args.out / "raw.json").write_text(json.dumps(raw, indent=1) + "\n")
        (args.out / "README.md").write_text(table(machine(), results))


COLUMNS = ["target", "load", "peer", "rate", "cpu_us", "cpu_us_load", "p50_ms", "p99_ms", "p999_ms",
           "lateness_p99_ms", "memory_mib", "errors"]


def line(result):
    return "  ".join(f"{name}={result[name]}" for name in COLUMNS if name in result)


def table(where, results):
    head = (f"Measured {where['date']} on {where['cores']} cores of {where['cpu']}, {where['memory_gib']} GiB, "
            f"Linux {where['kernel']}, {where['rustc']}, by `benches/peers/run.py`.\n\n")
    rows = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    rows += ["| " + " | ".join(str(result.get(name, "–")) for name in COLUMNS) + " |" for result in results]
    return "# Load generators side by side\n\n" + head + "\n".join(rows) + "\n"


main()
