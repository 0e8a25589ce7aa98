#!/usr/bin/env python3
"""A soak of target-service: ten minutes at 80 % of its capacity, and how much memory it has all the while.

    cargo build --release --workspace && cargo build --release -p target-service --example overload
    python3 benches/service/soak.py [--seconds 600] [--share 0.8] [--model bert]

The capacity is what `overload` measures first. Service and generator have a core of their own each (`taskset`), so
that neither takes the other's time. Then scenarios/quickstart.yaml is sent at that share of it, with its telemetry
collected and its verdict. The last tenth must not have more than 1.2 times the memory of the second tenth (the first
fills pools and buffers).
"""

import argparse, json, os, re, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def status(pid, key):
    """A number of /proc, or None of a process that is ending."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(key + ":")), None)


def capacity(args):
    command = ["taskset", "-c", "0", str(args.service), "--listen", "127.0.0.1:0", "--model", args.model]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = json.loads(service.stdout.readline())["http"]
        time.sleep(3)
        # Lines of its log must not fill the pipe.
        subprocess.Popen(["cat"], stdin=service.stdout, stdout=subprocess.DEVNULL)
        idle = status(service.pid, "VmRSS") / 1024
        told = subprocess.run(
            ["taskset", "-c", "1", str(args.overload), "--url", url, "--factors", "1", "--seconds", "1",
             "--documents", str(ROOT / "scenarios/data/documents.jsonl")],
            check=True, capture_output=True, text=True).stdout
    finally:
        service.terminate()
        service.wait()
    found = re.match(r"capacity (\d+)/s", told)
    if not found:
        sys.exit(f"{args.overload} tells no capacity:\n{told}")
    return int(found[1]), round(idle, 1)


def child_of(pid, name):
    """The process of this name below `pid`; `taskset` becomes what it starts."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            stat = (process / "stat").read_text()
        except OSError:
            continue
        if f"({name})" in stat and stat.rsplit(")", 1)[1].split()[1] == str(pid):
            return int(process.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    release = ROOT / "target/release"
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--model", default="bert")
    parser.add_argument("--harness", type=Path, default=release / "harness")
    parser.add_argument("--service", type=Path, default=release / "target-service")
    parser.add_argument("--overload", type=Path, default=release / "examples/overload")
    args = parser.parse_args()
    most, idle = capacity(args)
    rate = round(most * args.share)
    print(f"capacity {most}/s; {rate}/s for {args.seconds} s; idle {idle} MiB", flush=True)
    start = f'[taskset, -c, "0", "{args.service.resolve()}", --listen, "127.0.0.1:0", --model, "{args.model}"]'
    with tempfile.TemporaryDirectory() as folder:
        harness = subprocess.Popen(
            ["taskset", "-c", "1", str(args.harness), "run", str(ROOT / "scenarios/quickstart.yaml"), "--quiet",
             "--out", f"{folder}/run", "--set", f"target.start.command={start}",
             "--set", f"loads.steady.stages[1].rate={rate}/s", "--set", f"loads.steady.stages[1].for={args.seconds}s"])
        begun, samples = time.monotonic(), []
        try:
            while time.monotonic() - begun < args.seconds and harness.poll() is None:
                time.sleep(min(10, args.seconds / 10))
                service = child_of(harness.pid, "target-service")
                resident, threads = service and status(service, "VmRSS"), service and status(service, "Threads")
                if resident and threads:
                    samples.append([round(time.monotonic() - begun), round(resident / 1024, 1), threads])
                    print(*samples[-1], flush=True)
            code = harness.wait()
        finally:
            harness.terminate()
        report = Path(folder, "run/report.json")
        if not report.exists() or len(samples) < 5:
            sys.exit(f"it ended too early, with {code}")
        load = json.loads(report.read_text())["load"][-1]
    tenth = max(1, len(samples) // 10)
    mean = lambda part: sum(row[1] for row in part) / len(part)
    early, late = mean(samples[tenth:2 * tenth]), mean(samples[-tenth:])
    print(json.dumps({"exit": code, "scheduled": load["scheduled"], "outcomes": load["outcomes"], "latency": load["latency"]}))
    print(f"resident: idle {idle}, second tenth {early:.1f}, last tenth {late:.1f}, most {max(row[1] for row in samples)} MiB")
    if code != 0:
        sys.exit(f"the verdict was {code}")
    if late > early * 1.2:
        sys.exit("memory grew")


main()
