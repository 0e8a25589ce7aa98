#!/usr/bin/env python3
"""One run, two witnesses: is a verdict the same by the embedded evidence and by real backends?

    cargo build --release --workspace && cargo build --release -p harness-tests --example twin
    python3 tests/twin/run.py --loki PATH --tempo PATH [--prometheus PATH] [--cases] [SCENARIO…]

Starts a Prometheus, a Loki and a Tempo of your own on loopback, and `harness stack`. Each scenario of
`scenarios/` is run against the real ones, while the same telemetry reaches the embedded ones: spans
through a tee of OTLP/gRPC, log lines from one collector that pushes each batch to both, metrics by two
scrapers, each at its own instants. The run is judged by the real backends as any run is; then its very
questions are put to the embedded ones (`twin judge`), and both reports are laid side by side.

With `--cases`, evidence that is missing is tried too: each backend unreachable, empty, killed in the
middle of the load, and asked in the name of another tenant.

The programs are not part of this project; give their paths. All listens on 127.0.0.1 alone. Exit code 0
when every verdict is the same and as expected. The tables go to stdout, run directories to `--work`.
"""

import argparse, contextlib, json, os, shutil, signal, socket, subprocess, sys, tempfile, threading, time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = {"quickstart": 0, "overload": 10, "blind": 11, "starved": 12, "seed-locust": 0}
SERVICE = "target-service"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(url, timeout=5, **headers):
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    return None, ""


class Process:
    """A child with its output in a file."""

    def __init__(self, command, log, **more):
        self.log = Path(log)
        self.child = subprocess.Popen(command, stdout=open(log, "ab"), stderr=subprocess.STDOUT, **more)

    def ready(self, url, within=90):
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self.child.poll() is not None:
                break
            if get(url)[0] == 200:
                return self
            time.sleep(0.2)
        sys.exit(f"{self.log.stem} is not ready at {url}:\n{self.log.read_text()[-3000:]}")

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()


def prometheus(program, work, scrape):
    port, home = free_port(), work / f"prometheus-{free_port()}"
    home.mkdir()
    jobs = ""
    if scrape:
        jobs = f"scrape_configs: [{{job_name: {SERVICE}, static_configs: [{{targets: ['{scrape}']}}]}}]\n"
    (home / "prometheus.yml").write_text("global: {scrape_interval: 1s}\n" + jobs)
    process = Process(
        [program, f"--config.file={home}/prometheus.yml", f"--storage.tsdb.path={home}/data",
         f"--web.listen-address=127.0.0.1:{port}"], home / "prometheus.log")
    process.url = f"http://127.0.0.1:{port}"
    return process.ready(process.url + "/-/ready")


def loki(program, work, tenants=False):
    port, grpc, home = free_port(), free_port(), work / f"loki-{free_port()}"
    home.mkdir()
    (home / "loki.yaml").write_text(f"""
auth_enabled: {str(tenants).lower()}
server: {{http_listen_address: 127.0.0.1, http_listen_port: {port}, grpc_listen_address: 127.0.0.1, grpc_listen_port: {grpc}, log_level: warn}}
common:
  instance_addr: 127.0.0.1
  path_prefix: {home}
  replication_factor: 1
  storage: {{filesystem: {{chunks_directory: {home}/chunks, rules_directory: {home}/rules}}}}
  ring: {{kvstore: {{store: inmemory}}}}
schema_config: {{configs: [{{from: 2020-10-24, store: tsdb, object_store: filesystem, schema: v13, index: {{prefix: index_, period: 24h}}}}]}}
analytics: {{reporting_enabled: false}}
""")
    process = Process([program, f"-config.file={home}/loki.yaml"], home / "loki.log")
    process.url = f"http://127.0.0.1:{port}"
    return process.ready(process.url + "/ready")


def tempo(program, work, tenants=False, cutoff="0s"):
    port, grpc, otlp, gossip, home = free_port(), free_port(), free_port(), free_port(), work / f"tempo-{free_port()}"
    home.mkdir()
    (home / "tempo.yaml").write_text(f"""
multitenancy_enabled: {str(tenants).lower()}
server: {{http_listen_address: 127.0.0.1, http_listen_port: {port}, grpc_listen_address: 127.0.0.1, grpc_listen_port: {grpc}, log_level: warn}}
distributor: {{receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{otlp}"}}}}}}}}}}
memberlist: {{bind_addr: [127.0.0.1], bind_port: {gossip}, advertise_addr: 127.0.0.1}}
query_frontend: {{query_end_cutoff: {cutoff}}}
backend_scheduler: {{local_work_path: {home}/work}}
live_store: {{wal: {{path: {home}/live}}, shutdown_marker_dir: {home}/marker}}
block_builder: {{wal: {{path: {home}/builder}}}}
storage: {{trace: {{backend: local, wal: {{path: {home}/wal}}, local: {{path: {home}/blocks}}}}}}
usage_report: {{reporting_enabled: false}}
""")
    process = Process([program, f"-config.file={home}/tempo.yaml"], home / "tempo.log")
    process.url, process.otlp = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{otlp}"
    return process.ready(process.url + "/ready")


def stack(harness, work, scrape):
    """The embedded backends; their addresses are on stderr."""
    command = [harness, "stack", "--scrape", f"{SERVICE}=http://{scrape}/metrics"]
    for name in ("prometheus", "loki", "tempo", "otlp-grpc", "otlp-http"):
        command += [f"--{name}", "127.0.0.1:0"]
    process = Process(command, work / "stack.log")
    names = {}
    until = time.monotonic() + 20
    while len(names) < 5 and time.monotonic() < until:
        time.sleep(0.1)
        names = dict(line.split() for line in process.log.read_text().splitlines() if "http://" in line)
    process.urls = names
    return process


class Collector(threading.Thread):
    """What Alloy or Promtail does: reads the service's stdout as it is written and pushes it to Loki."""

    def __init__(self, file, loki_urls, tenant=None):
        super().__init__(daemon=True)
        self.file, self.loki_urls, self.tenant = Path(file), loki_urls, tenant
        self.over, self.lost = threading.Event(), set()

    def run(self):
        while not self.file.exists():
            if self.over.wait(0.05):
                return
        with open(self.file, "rb") as lines:
            rest = b""
            while True:
                last = self.over.is_set()
                *whole, rest = (rest + lines.read()).split(b"\n")
                self.push([line for line in whole if line])
                if last:
                    return
                self.over.wait(0.2)

    def push(self, lines):
        streams = {}
        for line in lines:
            try:
                read = json.loads(line)
                at = nanoseconds(read["timestamp"])
            except (ValueError, KeyError, TypeError):
                continue
            meta = {k: read[k] for k in ("trace_id", "span_id", "severity_text") if isinstance(read.get(k), str)}
            streams.setdefault(SERVICE, []).append([str(at), line.decode(), meta])
        if not streams:
            return
        body = json.dumps({"streams": [{"stream": {"service_name": s}, "values": v} for s, v in streams.items()]})
        for url in self.loki_urls:
            headers = {"Content-Type": "application/json"}
            if self.tenant:
                headers["X-Scope-OrgID"] = self.tenant
            request = urllib.request.Request(url + "/loki/api/v1/push", body.encode(), headers)
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except OSError as error:
                if url not in self.lost:
                    print(f"collector: {url}: {error}", file=sys.stderr)
                self.lost.add(url)


def nanoseconds(text):
    """RFC 3339 in UTC, with all of its nine digits."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    seconds = int(time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) - time.timezone)
    return seconds * 10**9 + int(fraction.ljust(9, "0")[:9] or 0)


class Twin:
    def __init__(self, args, work):
        self.args, self.work = args, work
        self.harness = str(args.bin / "harness")
        self.twin = str(args.bin / "examples" / "twin")
        self.metrics = f"127.0.0.1:{free_port()}"
        self.running = []

    def start(self, process):
        self.running.append(process)
        return process

    def tee(self, first, second, tenant=None):
        number = len(list(self.work.glob("tee-*")))
        process = self.start(Process([self.twin, "tee", first, second, *([tenant] if tenant else [])], self.work / f"tee-{number}.log"))
        until = time.monotonic() + 20
        while time.monotonic() < until:
            for line in process.log.read_text().splitlines():
                if line.startswith("http://"):
                    process.url = line
                    return process
            time.sleep(0.1)
        sys.exit("the tee does not start:\n" + process.log.read_text())

    def command(self, scenario, more=""):
        """The scenario's own command with a fixed metrics port, for Prometheus to scrape."""
        text = (ROOT / "scenarios" / f"{scenario}.yaml").read_text()
        line = next(line for line in text.splitlines() if line.strip().startswith("command: ["))
        listed = line.strip().removeprefix("command: ").rstrip("]") + f', --metrics, "{self.metrics}"{more}]'
        return f"spec.target.start.command={listed}"

    def run(self, scenario, name, urls, otlp, collect, tenant=None, sets=(), during=None, more=""):
        """One `harness run`: exit code and run directory."""
        out = self.work / name
        command = [self.harness, "run", str(ROOT / "scenarios" / f"{scenario}.yaml"), "--out", str(out), "--quiet",
                   "--format", "json", "--set", self.command(scenario, more)]
        for kind, url in urls.items():
            command += [f"--{kind}", url]
        command += ["--otlp", otlp] if otlp else []
        for one in sets:
            command += ["--set", one]
        collector = Collector(out / "target.stdout.log", collect, tenant)
        collector.start()
        log = open(self.work / f"{name}.log", "wb")
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            if during:
                during(out)
            return child.wait(), out
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
                child.wait()
            collector.over.set()
            collector.join()

    def judge(self, out, urls):
        command = [self.twin, "judge", str(out)]
        for kind in ("prometheus", "loki", "tempo"):
            command += [f"--{kind}", urls[kind]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"twin judge: {done.stderr}")
        return json.loads(done.stdout)

    def stop(self):
        for process in reversed(self.running):
            process.stop()


def number(value, unit=None):
    if value is None:
        return "missing"
    if unit == "ratio":
        return f"{value * 100:.4g} %"
    return f"{value:.5g}"


def told(objective):
    """Value, interval and counts of one objective in one report."""
    if objective["samples"] is not None:
        low, high = objective["interval"] or (None, None)
        said = f"{objective['good']:,} of {objective['samples']:,}"
        if low is not None:
            said += f" [{low * 100:.2f}, {high * 100:.2f}] %"
        return said
    unit = objective.get("unit")
    return number(objective["value"], unit) + (f" {unit}" if unit and unit != "ratio" else "")


def compare(scenario, code, real, embedded):
    """A table of one scenario, and whether both agree and are as expected."""
    lines = [f"\n### {scenario}: exit {code} by the real backends, {embedded['exit_code']} by the embedded ones\n",
             "| | source | real | embedded | verdicts |", "|---|---|---|---|---|"]
    same = code == embedded["exit_code"] == EXPECTED.get(scenario, code)
    for a, b in zip(real["objectives"], embedded["objectives"]):
        if a["source"] == "client":
            assert (a["value"], a["verdict"]) == (b["value"], b["verdict"])
            continue
        same &= a["verdict"] == b["verdict"]
        verdicts = a["verdict"] if a["verdict"] == b["verdict"] else f"**{a['verdict']}, {b['verdict']}**"
        lines.append(f"| {a['name']} | {a['source']} | {told(a)} | {told(b)} | {verdicts} |")
    for a, b in zip(real["coverage"]["sources"], embedded["coverage"]["sources"]):
        found = [number(s["found"]) for s in (a, b)]
        full = [f"{n} of {s['expected']:,}" for n, s in zip(found, (a, b))]
        state = ["complete" if s["complete"] else "incomplete" for s in (a, b)]
        both = state[0] if state[0] == state[1] else f"**{state[0]}, {state[1]}**"
        same &= state[0] == state[1]
        lines.append(f"| coverage | {a['backend']} | {full[0]} | {full[1]} | {both} |")
    codes = [r["reason_code"] or "none" for r in (real, embedded)]
    lines.append(f"| reason | | {codes[0]} | {codes[1]} | {real['verdict']}, {embedded['verdict']} |")
    for name, report in (("real", real), ("embedded", embedded)):
        for finding in report["findings"]:
            if "apart" in finding["code"] or "clock" in finding["code"]:
                lines.append(f"\n{name}: {finding['said']}")
    return "\n".join(lines), same


def twins(twin, args):
    work = twin.work
    emb = twin.start(stack(twin.harness, work, twin.metrics))
    prom = twin.start(prometheus(args.prometheus, work, twin.metrics))
    log_store = twin.start(loki(args.loki, work))
    traces = twin.start(tempo(args.tempo, work))
    tee = twin.tee(traces.otlp, emb.urls["otlp-grpc"])
    urls = {"prometheus": prom.url, "loki": log_store.url, "tempo": traces.url}
    well = True
    for scenario in args.scenario or EXPECTED:
        for nth in range(args.times):
            name = f"{scenario}-{nth + 1}"
            code, out = twin.run(scenario, name, urls, tee.url, [log_store.url, emb.urls["loki"]])
            real = json.loads((out / "report.json").read_text())
            embedded = twin.judge(out, emb.urls)
            (out.parent / f"{name}.embedded.json").write_text(json.dumps(embedded, indent=1))
            again = subprocess.run([twin.harness, "judge", str(out), "--format", "json"], capture_output=True, text=True)
            table, same = compare(scenario, code, real, embedded)
            offline = json.loads(again.stdout)
            offline["judged_at"] = real["judged_at"]
            same &= offline == real
            print(table, f"\nJudged again offline: {'the same' if offline == real else '**another report**'}. "
                  f"Settled in {settled(out)} s.", flush=True)
            well &= same
    if args.cases:
        well &= cases(twin, args, emb, prom, log_store, traces, tee, urls)
    return well


def settled(out):
    facts = json.loads((out / "run.json").read_text())
    return f"{facts['settled']['waited_seconds']:.1f}"


def cases(twin, args, emb, prom, log_store, traces, tee, urls):
    """Evidence that is missing: never a pass. By the small model, whose objectives any machine meets."""
    work = twin.work
    print("\n### Evidence that is missing\n\n| case | exit | expected | reason |\n|---|---|---|---|")
    short = ["spec.loads.steady.stages[1].for=25s", "spec.settle=15s", "spec.requests.classify.expect={status: 200}"]
    well = True
    collect = [log_store.url, emb.urls["loki"]]

    def case(name, expected, urls, otlp=tee.url, collect=collect, backend=None, **more):
        nonlocal well
        sets = short + list(more.pop("sets", []))
        code, out = twin.run("quickstart", "case-" + name.replace(" ", "-"), urls, otlp, collect, sets=sets, more=", --model, tfidf", **more)
        report = json.loads((out / "report.json").read_text())
        reasons = [r for r in report["reasons"] if backend is None or backend in r]
        right = code == expected and (backend is None or bool(reasons))
        well &= right
        said = (reasons or report["reasons"])[0].replace("|", "\\|")
        mark = "" if right else " **wrong**"
        print(f"| {name} | {code}{mark} | {expected} | `{report['reason_code']}`: {said[:220]} |", flush=True)

    case("everything there, 25 s", 0, urls)
    for kind in urls:
        nowhere = f"http://127.0.0.1:{free_port()}"
        case(f"{kind} unreachable", 13, {**urls, kind: nowhere}, backend=kind)
    empty = {"prometheus": lambda: prometheus(args.prometheus, work, None), "loki": lambda: loki(args.loki, work),
             "tempo": lambda: tempo(args.tempo, work)}
    for kind, begin in empty.items():
        other = begin()
        case(f"{kind} empty", 11, {**urls, kind: other.url}, backend=kind)
        other.stop()
    full = {"prometheus": lambda: prometheus(args.prometheus, work, twin.metrics), **{k: empty[k] for k in ("loki", "tempo")}}
    for kind, begin in full.items():
        other = begin()
        otlp = twin.tee(other.otlp, emb.urls["otlp-grpc"]) if kind == "tempo" else tee

        def die(out, other=other):
            until = time.monotonic() + 60
            log = out / "requests.jsonl"
            while time.monotonic() < until and not (log.exists() and log.stat().st_size > 0):
                time.sleep(0.1)
            time.sleep(12)
            other.kill()

        to = [other.url, emb.urls["loki"]] if kind == "loki" else collect
        case(f"{kind} killed during the load", 11, {**urls, kind: other.url}, otlp.url, to, backend=kind, during=die)
        if kind == "tempo":
            otlp.stop()
    other = loki(args.loki, work, tenants=True)
    to = [other.url, emb.urls["loki"]]
    right = f"spec.telemetry.loki={{url: '{other.url}', tenant: ours}}"
    wrong = f"spec.telemetry.loki={{url: '{other.url}', tenant: theirs}}"
    without = {k: u for k, u in urls.items() if k != "loki"}
    case("loki with the right tenant", 0, without, collect=to, tenant="ours", sets=[right])
    case("loki with another tenant", 11, without, collect=to, tenant="ours", sets=[wrong], backend="loki")
    case("loki without a tenant", 11, {**urls, "loki": other.url}, collect=to, tenant="ours", backend="loki")
    other.stop()
    other = tempo(args.tempo, work, cutoff="30s")
    otlp = twin.tee(other.otlp, emb.urls["otlp-grpc"])
    case("tempo's shipped cutoff, settle 15s", 11, {**urls, "tempo": other.url}, otlp.url, backend="tempo")
    case("tempo's shipped cutoff, settle 60s", 0, {**urls, "tempo": other.url}, otlp.url, sets=["spec.settle=60s"])
    otlp.stop()
    other.stop()
    other = tempo(args.tempo, work, tenants=True)
    otlp = twin.tee(other.otlp, emb.urls["otlp-grpc"], "ours")
    right, wrong = (f"spec.telemetry.tempo={{url: '{other.url}', tenant: {t}}}" for t in ("ours", "theirs"))
    without = {k: u for k, u in urls.items() if k != "tempo"}
    case("tempo with the right tenant", 0, without, otlp.url, sets=[right])
    case("tempo with another tenant", 11, without, otlp.url, sets=[wrong], backend="tempo")
    case("tempo without a tenant", 11, {**urls, "tempo": other.url}, otlp.url, backend="tempo")
    otlp.stop()
    other.stop()
    return well


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", help="of scenarios/, without .yaml; all five by default")
    parser.add_argument("--prometheus", default=shutil.which("prometheus"), help="program")
    parser.add_argument("--loki", required=True, help="program")
    parser.add_argument("--tempo", required=True, help="program")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", help="where harness and target-service are")
    parser.add_argument("--times", type=int, default=1, help="runs of each scenario")
    parser.add_argument("--cases", action="store_true", help="missing evidence, too")
    parser.add_argument("--only-cases", action="store_true", help="missing evidence alone")
    parser.add_argument("--work", type=Path, help="where everything is kept; else a folder that is removed")
    args = parser.parse_args()
    os.environ["TZ"] = "UTC"
    time.tzset()
    work = args.work or Path(tempfile.mkdtemp(prefix="twin-"))
    work.mkdir(parents=True, exist_ok=True)
    if args.only_cases:
        args.cases, args.times = True, 0
    twin = Twin(args, work)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        well = twins(twin, args)
    finally:
        twin.stop()
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    print("\nAll verdicts are the same and as expected." if well else "\n**Something differs.**")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
