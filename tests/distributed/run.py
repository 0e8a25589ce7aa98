#!/usr/bin/env python3
"""Shards against a real object storage: as processes, and as hosts of their own.

    apt-get install ceph-mon ceph-osd radosgw ceph-common faketime iproute2
    cargo build --workspace
    python3 tests/distributed/run.py [--bin target/debug] [--work DIR] [CASE…]

Starts Ceph's S3 gateway over a small cluster in memory, `target-service`, and `harness stack` as its
telemetry. Every case is a run of four shards, and a gate that waits for them: as processes, then with each
shard in a network namespace with an address of its own, and then with what may go wrong on the way.
Namespaces need root. Everything listens on loopback, or on a bridge that leads nowhere else.

Exit code 0 when every case ends as it must. The table goes to stdout, everything else to `--work`.
"""

import argparse, base64, collections, contextlib, hashlib, hmac, json, os, shutil, signal, socket, struct
import subprocess, sys, tempfile, time, urllib.error, urllib.parse, urllib.request, zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARDS = 4
KEYS = {"AWS_ACCESS_KEY_ID": "distributed", "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anybody"}
BRIDGE, NET = "hdist0", "10.77.13"
BUCKET = "results"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def sh(*command, check=True, quiet=True, **more):
    done = subprocess.run([str(c) for c in command], text=True, capture_output=quiet, **more)
    if check and done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
    return done


def wait_for(what, probe, within=60):
    until = time.monotonic() + within
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            if probe():
                return
        time.sleep(0.3)
    sys.exit(f"{what} did not come up within {within} s")


def answers(url):
    with urllib.request.urlopen(url, timeout=2) as answer:
        return answer.status == 200


class Ceph:
    """One monitor, one OSD that keeps its objects in memory, and the S3 gateway."""

    def __init__(self, dir, address):
        self.dir, self.children = dir, []
        for name in ("mon", "osd", "log", "run", "rgw"):
            (dir / name).mkdir(parents=True)
        fsid = Path("/proc/sys/kernel/random/uuid").read_text().strip()
        mon, self.port = free_port(), free_port()
        self.conf, self.keyring = dir / "ceph.conf", dir / "keyring"
        self.url = f"http://{address}:{self.port}"
        self.conf.write_text(f"""[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{mon}/0
mon initial members = a
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 2147483648
ms bind msgr1 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
run dir = {dir}/run
pid file = {dir}/run/$name.pid
log file = {dir}/log/$name.log
mon cluster log file = {dir}/log/cluster.log
mon data = {dir}/mon
osd data = {dir}/osd
crash dir = {dir}/run
keyring = {dir}/keyring
""")
        self.address, self.mon, self.fsid = address, mon, fsid

    def start(self):
        dir, address, mon, fsid = self.dir, self.address, self.mon, self.fsid
        caps = {"mon.": ["mon", "allow *"], "client.admin": ["mon", "allow *", "osd", "allow *"],
                "osd.0": ["mon", "allow profile osd", "osd", "allow *"], "client.rgw": ["mon", "allow *", "osd", "allow *"]}
        for number, (name, cap) in enumerate(caps.items()):
            pairs = [x for a, b in zip(cap[::2], cap[1::2]) for x in ("--cap", a, b)]
            sh("ceph-authtool", *(["--create-keyring"] if not number else []), self.keyring, "--gen-key", "-n", name, *pairs)
        monmap = dir / "monmap"
        sh("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon}/0]", monmap)
        sh("ceph-mon", "-c", self.conf, "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", self.keyring)
        self.daemon("ceph-mon", "-i", "a", "-f")
        wait_for("the monitor", lambda: self.admin("ceph", "osd", "create", check=False).returncode == 0)
        sh("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs")
        self.daemon("ceph-osd", "-i", "0", "-f")
        self.daemon("radosgw", "-n", "client.rgw", "-f", "--rgw-data", dir / "rgw", "--rgw-frontends",
                    f"beast endpoint={address}:{self.port}" + ("" if address == "127.0.0.1" else f" endpoint=127.0.0.1:{self.port}"))
        wait_for("the gateway", lambda: answers(self.url), within=120)
        self.radosgw("user", "create", "--uid", "harness", "--display-name", "harness",
                     "--access-key", KEYS["AWS_ACCESS_KEY_ID"], "--secret-key", KEYS["AWS_SECRET_ACCESS_KEY"])
        self.version = sh("radosgw", "--version").stdout.strip()

    def daemon(self, name, *args):
        log = open(self.dir / "log" / f"{name}.out", "ab")
        self.children.append(subprocess.Popen([name, "-c", str(self.conf), *map(str, args)], stdout=log, stderr=log))

    def admin(self, *command, check=True):
        return sh(command[0], "-c", self.conf, "--connect-timeout", "5", *command[1:], check=check)

    def radosgw(self, *command):
        return sh("radosgw-admin", "-c", self.conf, "-n", "client.rgw", *command).stdout

    def ask(self, method, path, body=b"", **headers):
        """One request, signed (AWS Signature Version 4); status and body of the answer."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = "/" + urllib.parse.quote(path)
        signed = {"host": self.url.split("//")[1], "x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "x-amz-date": now}
        names = ";".join(sorted(signed))
        lines = [method, path, "", *(f"{name}:{signed[name]}" for name in sorted(signed)), "", names, signed["x-amz-content-sha256"]]
        scope = [now[:8], "us-east-1", "s3", "aws4_request"]
        text = "\n".join(["AWS4-HMAC-SHA256", now, "/".join(scope), hashlib.sha256("\n".join(lines).encode()).hexdigest()])
        key = b"AWS4" + KEYS["AWS_SECRET_ACCESS_KEY"].encode()
        for part in scope:
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = KEYS["AWS_ACCESS_KEY_ID"] + "/" + "/".join(scope)
        signed["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"
        request = urllib.request.Request(self.url + path, data=body if method == "PUT" else None, method=method,
                                         headers={**signed, **{k.replace("_", "-"): v for k, v in headers.items()}})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def keys(self, bucket, prefix):
        listed = json.loads(self.radosgw("bucket", "list", f"--bucket={bucket}", "--max-entries=100000"))
        return [one["name"] for one in listed if one["name"].startswith(prefix + "/")]

    def get(self, bucket, key):
        status, body = self.ask("GET", f"{bucket}/{key}")
        expect(status == 200, f"{key} cannot be fetched: {status}")
        return body

    def stop(self):
        for child in reversed(self.children):
            child.kill()
            child.wait()


class Network:
    """A bridge, and a namespace with a link to it for each shard."""

    def __enter__(self):
        self.__exit__()
        sh("ip", "link", "add", BRIDGE, "type", "bridge")
        sh("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        sh("ip", "link", "set", BRIDGE, "up")
        for i in range(SHARDS):
            sh("ip", "netns", "add", f"hshard{i}")
            sh("ip", "link", "add", f"hveth{i}", "type", "veth", "peer", "name", "eth0", "netns", f"hshard{i}")
            sh("ip", "link", "set", f"hveth{i}", "master", BRIDGE, "up")
            sh("ip", "-n", f"hshard{i}", "addr", "add", f"{NET}.{10 + i}/24", "dev", "eth0")
            for dev in ("eth0", "lo"):
                sh("ip", "-n", f"hshard{i}", "link", "set", dev, "up")
        return self

    def __exit__(self, *_):
        for i in range(SHARDS):
            sh("ip", "netns", "del", f"hshard{i}", check=False)
            sh("ip", "link", "del", f"hveth{i}", check=False)
        sh("ip", "link", "del", BRIDGE, check=False)

    def link(self, index, state):
        sh("ip", "link", "set", f"hveth{index}", state)


class World:
    def __init__(self, args, work):
        self.bin, self.work, self.children = Path(args.bin).resolve(), work, []
        self.args, self.address = args, f"{NET}.1"
        self.ceph = Ceph(work / "ceph", self.address)

    def build(self):
        args, work = self.args, self.work
        self.ceph.start()
        for bucket in (BUCKET, "full"):
            status, body = self.ceph.ask("PUT", bucket)
            expect(status == 200, f"no bucket: {status} {body}")
        ports = {name: free_port() for name in ("prometheus", "loki", "tempo", "otlp-grpc", "otlp-http", "service", "metrics")}
        at = {name: f"{self.address}:{port}" for name, port in ports.items()}
        stack = [self.bin / "harness", "stack", "--scrape", f"target-service=http://{at['metrics']}/metrics"]
        for name in ("prometheus", "loki", "tempo", "otlp-grpc", "otlp-http"):
            stack += [f"--{name}", at[name]]
        self.start("stack", stack)
        wait_for("the stack", lambda: answers(f"http://{at['prometheus']}/-/ready"))
        otlp = f"http://{at['otlp-grpc']}"
        env = {"OTEL_SERVICE_NAME": "target-service", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
               "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": otlp, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": otlp,
               "OTEL_BSP_SCHEDULE_DELAY": "500", "OTEL_BSP_MAX_QUEUE_SIZE": "32768",
               "OTEL_BLRP_SCHEDULE_DELAY": "500", "OTEL_BLRP_MAX_QUEUE_SIZE": "32768"}
        self.start("service", [Path(args.service or self.bin / "target-service"), "--model", "tfidf", "--listen", at["service"], "--metrics", at["metrics"]], env)
        wait_for("the service", lambda: answers(f"http://{at['service']}/readyz"))
        self.scenario = work / "scenario.yaml"
        self.scenario.write_text(f"""apiVersion: harness/v1
kind: Scenario
metadata: {{name: distributed}}
spec:
  seed: 42
  slo: [slo.yaml]
  target: {{url: "http://{at['service']}", timeout: 5s}}
  telemetry:
    service: target-service
    prometheus: {{url: "http://{at['prometheus']}"}}
    loki: {{url: "http://{at['loki']}"}}
    tempo: {{url: "http://{at['tempo']}"}}
    otlp: {otlp}
  requests:
    - name: classify
      method: POST
      path: /predict
      body: {{dataset: {ROOT}/scenarios/data/documents.jsonl, field: text, order: shuffled}}
      expect: {{status: 200, json: {{"$.result": "{{{{ answer }}}}"}}}}
  loads:
    - name: steady
      mix: {{classify: 1}}
      executor: constant-arrival-rate
      spacing: poisson
      stages: [{{phase: warmup, rate: 20/s, for: 2s}}, {{phase: measure, rate: 100/s, for: 6s}}]
  # What is tried is the way of the results, on a machine that does other things as well.
  validity: {{lateSends: {{over: 2s, share: 50%}}, stall: 20s, traceCoverage: 90%}}
""")
        (work / "slo.yaml").write_text("""apiVersion: openslo/v1
kind: SLO
metadata: {name: served}
spec:
  service: target-service
  indicator:
    metadata: {name: served}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: LoadClient, spec: {request: classify, outcome: expected}}}
        total: {metricSource: {type: LoadClient, spec: {request: classify}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: 60 % answered rightly, target: 0.6}]
""")

    def start(self, name, command, env={}):
        log = open(self.work / f"{name}.log", "ab")
        self.children.append(subprocess.Popen([str(c) for c in command], env={**os.environ, **env}, stdout=log, stderr=log))

    def stop(self):
        for child in self.children:
            child.kill()
            child.wait()
        self.ceph.stop()

    def env(self):
        return {**os.environ, **KEYS, "AWS_ENDPOINT_URL": self.ceph.url, "AWS_REGION": "us-east-1", "NO_COLOR": "1"}

    def spawn(self, command, log):
        out = open(log, "wb")
        return subprocess.Popen([str(c) for c in command], env=self.env(), stdout=out, stderr=subprocess.STDOUT)


class Run:
    """Four shards and what became of them."""

    def __init__(self, world, name, bucket=BUCKET, before=lambda index: [], within="90s"):
        self.world, self.name, self.bucket = world, name, bucket
        self.place, self.dir = f"s3://{bucket}/runs/{name}", world.work / name
        self.dir.mkdir()
        self.shards = []
        for index in range(SHARDS):
            command = [*before(index), world.bin / "harness", "run", world.scenario, "--quiet", "--shard", f"{index}/{SHARDS}",
                       "--results", self.place, "--start-within", within, "--out", self.shard(index)]
            self.shards.append(world.spawn(command, self.dir / f"shard-{index}.log"))

    def shard(self, index):
        return self.dir / f"shard-{index}"

    def told(self, name):
        return (self.dir / f"{name}.log").read_text()

    def rows_of(self, index):
        file = self.shard(index) / "requests.jsonl"
        return file.read_bytes().splitlines() if file.exists() else []

    def sending(self, index):
        wait_for(f"shard {index} sending", lambda: self.rows_of(index), within=120)

    def ended(self):
        return [child.wait(timeout=240) for child in self.shards]

    def gate(self, name="merged", wait="5s", *more, frm=None):
        command = [self.world.bin / "harness", "merge", *(frm or [self.place]), "--wait", wait, "--quiet", "--out", self.dir / name, *more]
        code = self.world.spawn(command, self.dir / f"{name}.log").wait(timeout=300)
        return code, self.told(name)

    def nothing_is_lost(self):
        """Every object of every manifest that is there is there as the shard left it."""
        ceph, prefix, count = self.world.ceph, f"runs/{self.name}", 0
        for key in ceph.keys(self.bucket, f"{prefix}/manifests"):
            manifest = json.loads(ceph.get(self.bucket, key))
            stem = key.rsplit("/", 1)[1].removesuffix(".json")
            for file, object in manifest["objects"].items():
                body = ceph.get(self.bucket, f"{prefix}/shards/{stem}/{file}")
                expect(hashlib.sha256(body).hexdigest() == object["sha256"], f"{stem}/{file} is not what was uploaded")
                count += 1
        return count


def expect(holds, why):
    if not holds:
        raise AssertionError(why)


def refused(run, says, **more):
    code, told = run.gate(**more)
    expect(code == 12 and says in told, f"gate: exit {code}, `{says}` is not in: {told}")
    line = next(line for line in told.splitlines() if says in line)
    return line.removeprefix("harness: invalid run: ")[:150]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        # Eight bytes of seven bits, and a ninth of eight.
        if shift == 56:
            return value | byte << shift, at
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def histograms(file):
    """Tag → bucket index → count, of an HdrHistogram log (V2, deflated)."""
    found = {}
    for line in file.read_text().splitlines():
        if not line.startswith("Tag="):
            continue
        tag, rest = line.split(",", 1)
        packed = base64.b64decode(rest.rsplit(",", 1)[1])
        cookie, length = struct.unpack(">II", packed[:8])
        expect(cookie & ~0xF0 == 0x1C849304, f"{file}: cookie {cookie:x}")
        data = zlib.decompress(packed[8 : 8 + length])
        cookie, length, offset, digits, lowest, highest, _ = struct.unpack(">IiiiQQd", data[:40])
        expect((cookie & ~0xF0, offset, digits, lowest) == (0x1C849303, 0, 3, 1), f"{file}: another kind of histogram")
        counts, index, at = collections.Counter(), 0, 40
        while at < 40 + length:
            value, at = varint(data, at)
            value = (value >> 1) ^ -(value & 1)
            if value < 0:
                index -= value
            else:
                counts[index] = value
                index += 1
        found[tag.removeprefix("Tag=")] = +counts
    return found


def bucket_of(micros):
    """Index of a value in a histogram of three digits from 1 on: HdrHistogram's own arithmetic."""
    magnitude = max(micros | 2047, 1).bit_length() - 11
    return (magnitude + 1) * 1024 + (micros >> magnitude) - 1024


def same_histogram(run):
    """The merged histogram is the sum of the shards', and that of one process over all observations."""
    merged = histograms(run.dir / "merged" / "latency.hlog")
    total = collections.defaultdict(collections.Counter)
    rows = []
    for index in range(SHARDS):
        for tag, counts in histograms(run.shard(index) / "latency.hlog").items():
            total[tag].update(counts)
        rows += run.rows_of(index)
    expect(dict(total) == merged, "the merged histograms are not the sum of the shards'")
    kept = (run.dir / "merged" / "requests.jsonl").read_bytes().splitlines()
    expect(sorted(kept) == sorted(rows), "the merged rows are not those of the shards")
    anew = collections.defaultdict(collections.Counter)
    for line in kept:
        row = json.loads(line)["row"]
        if row["outcome"] == "expected":
            tag = f"{row['phase']}/classify/expected/latency"
            anew[tag][bucket_of(max((row["done"] - row["due"]) // 1000, 1))] += 1
    for tag, counts in anew.items():
        expect(counts == merged[tag], f"{tag}: one process records other counts than the merged run holds")
    return len(kept), sum(len(c) for c in merged.values())


def passes(run):
    code, told = run.gate(wait="120s")
    codes = run.ended()
    expect(codes == [0] * SHARDS, f"shards exit {codes}: " + "\n".join(run.told(f"shard-{i}") for i in range(SHARDS)))
    expect(code == 0, f"gate: exit {code}: {told}")
    rows, buckets = same_histogram(run)
    code, told = run.gate("again")
    expect(code == 0, f"again: exit {code}: {told}")
    reports = [json.loads((run.dir / name / "report.json").read_text()) for name in ("merged", "again")]
    for report in reports:
        report["judged_at"] = None
    expect(reports[0] == reports[1], "the gate on stored results gives another report")
    return f"pass; {rows} rows, {buckets} filled buckets equal to one process'; the same report again"


def processes(world):
    return passes(Run(world, "processes"))


def in_namespace(index):
    return ["ip", "netns", "exec", f"hshard{index}"]


def namespaces(world):
    return passes(Run(world, "namespaces", before=in_namespace))


def killed(world):
    run = Run(world, "killed", before=in_namespace)
    run.sending(2)
    # `ip netns exec` becomes the program itself.
    run.shards[2].send_signal(signal.SIGKILL)
    codes = run.ended()
    expect(codes == [0, 0, -9, 0], f"shards exit {codes}")
    why = refused(run, "shard 2/4 is missing")
    expect(run.nothing_is_lost() >= 18, "three shards' objects")
    return why


def partition(world):
    run = Run(world, "partition", before=in_namespace)
    run.sending(3)
    world.network.link(3, "down")
    codes = run.ended()
    world.network.link(3, "up")
    expect(codes[:3] == [0, 0, 0] and codes[3] not in (0, 10, 11), f"shards exit {codes}")
    expect("could not be delivered" in run.told("shard-3") and run.rows_of(3), run.told("shard-3"))
    why = refused(run, "shard 3/4 is missing")
    expect(run.nothing_is_lost() >= 18, "three shards' objects")
    return f"{why} (its {len(run.rows_of(3))} rows are on its own disk)"


def skewed(world):
    faked = lambda index: [*in_namespace(index), *(["faketime", "-f", "+10s"] if index == 1 else [])]
    run = Run(world, "skewed", before=faked)
    codes = run.ended()
    expect(codes == [12] * SHARDS, f"shards exit {codes}")
    expect(not any(run.rows_of(i) for i in range(SHARDS)), "nobody sent anything")
    return refused(run, "the clocks of the shards may lie")


def duplicate(world):
    run = Run(world, "duplicate")
    expect(run.gate(wait="120s")[0] == 0, "the run itself")
    run.ended()
    ceph, prefix = world.ceph, f"runs/{run.name}"
    before = run.nothing_is_lost()
    first = next(key for key in ceph.keys(run.bucket, f"{prefix}/manifests") if "/00001." in key)
    copy = ceph.get(run.bucket, first)
    other = first.replace("distributed-", "distributed-again-")
    # The place itself does not let one shard's manifest be replaced.
    over = ceph.ask("PUT", f"{run.bucket}/{first}", b"another", If_None_Match="*")
    expect(over[0] == 412, over)
    put = ceph.ask("PUT", f"{run.bucket}/{other}", copy)
    expect(put[0] == 200, put)
    why = refused(run, "shard 1/4 was delivered twice", name="twice")
    ceph.ask("DELETE", f"{run.bucket}/{other}")
    expect(run.nothing_is_lost() == before, "what was there stays")
    expect(run.gate("after")[0] == 0, "without it the same verdict again")
    return why


def full_bucket(world):
    ceph = world.ceph
    # Room for who is ready, the start and little more.
    ceph.radosgw("quota", "set", "--quota-scope=bucket", "--bucket=full", f"--max-objects={SHARDS + 4}")
    ceph.radosgw("quota", "enable", "--quota-scope=bucket", "--bucket=full")
    run = Run(world, "full", bucket="full")
    codes = run.ended()
    expect(all(code == 12 for code in codes), f"shards exit {codes}")
    expect("could not be delivered" in run.told("shard-1") and "QuotaExceeded" in run.told("shard-1"), run.told("shard-1"))
    why = refused(run, "is missing: it took part in the start")
    by_hand = run.gate("by-hand", "0s", frm=[run.shard(i) for i in range(SHARDS)])
    expect(by_hand[0] == 0, f"merged from the disks: exit {by_hand[0]}: {by_hand[1]}")
    return f"{why} (merged by hand from the four disks: pass)"


CASES = {"processes": processes, "namespaces": namespaces, "killed": killed, "partition": partition,
         "skewed": skewed, "duplicate": duplicate, "full_bucket": full_bucket}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default=str(ROOT / "target/debug"), help="where harness and target-service are")
    parser.add_argument("--service", help="target-service, where it is not beside harness")
    parser.add_argument("--work", help="a directory to keep; a temporary one by default")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], metavar="CASE", help=", ".join(CASES))
    args = parser.parse_args()
    for tool in ("radosgw", "ceph-mon", "ceph-osd", "ceph", "faketime", "ip"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed; see the top of this file")
    keep = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="distributed-"))
    keep.mkdir(parents=True, exist_ok=True)
    wrong = 0
    with Network() as network:
        world = None
        try:
            world = World(args, keep)
            world.build()
            world.network = network
            print(f"{world.ceph.version}\n{SHARDS} shards; addresses {NET}.10 to {NET}.{9 + SHARDS}, results at {NET}.1\n", flush=True)
            for name in args.cases or CASES:
                began = time.monotonic()
                try:
                    outcome = "ok    " + CASES[name](world)
                except AssertionError as why:
                    wrong += 1
                    outcome = f"WRONG {why}"
                print(f"{name:12} {time.monotonic() - began:5.1f} s  {outcome}", flush=True)
        finally:
            if world:
                world.stop()
    print("\nAll cases ended as they must." if not wrong else f"\n{wrong} cases did not; see {keep}")
    if not wrong and not args.work:
        shutil.rmtree(keep)
    sys.exit(1 if wrong else 0)


main()
