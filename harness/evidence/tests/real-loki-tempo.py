#!/usr/bin/env python3
"""Puts the recorded questions to a real Loki or Tempo over fresh data, and its answers to this crate.

    real-loki-tempo.py [--loki URL] [--tempo URL --otlp URL] [--shared DIR] [--runner PATH]

The recorded corpus is some days old, and real servers refuse or hide what is old. So the same data are
made for now (`corpus/make_data.py` with another base time), sent to a server that is empty, and every
question is asked with its times moved; what the server answers becomes a file of cases, which the
conformance runner replays against this crate. Start the servers yourself, empty and on loopback; Tempo
with `query_frontend.query_end_cutoff: 0s` and, in each `wal`, `ingestion_time_range_slack: 12h`, as the corpus was
recorded.

SHARED holds corpus/ (default $HARNESS_SHARED, else ../shared beside the repository). Exit code 1 when
any answer differs.
"""

import argparse, json, os, subprocess, sys, tempfile, time
import urllib.error, urllib.parse, urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DIGITS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}


def moved(value, old, delta):
    """A time of the corpus, in any unit, moved by `delta` seconds; anything else as it is."""
    if isinstance(value, list):
        return [moved(each, old, delta) for each in value]
    whole, point, fraction = str(value).partition(".")
    unit = DIGITS.get(len(whole), 0) if whole.isdigit() else 0
    if not unit or abs(int(whole) // unit - old) > 10**6 or not (fraction or "0").isdigit():
        return value
    return str(int(whole) + delta * unit) + point + fraction


def send(url, path):
    request = urllib.request.Request(url, path.read_bytes(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()


def answer(url, case):
    query = urllib.parse.urlencode(case["params"], doseq=True)
    body = query.encode() if case["method"] == "POST" else None
    address = url + case["path"] + ("?" + query if query and body is None else "")
    try:
        got = urllib.request.urlopen(urllib.request.Request(address, body), timeout=90)
    except urllib.error.HTTPError as error:
        got = error
    text = got.read().decode()
    try:
        answered = json.loads(text)
    except ValueError:
        answered = text
    # Left out of the corpus too: they say how the answer was found.
    if isinstance(answered, dict):
        answered.pop("metrics", None)
        if isinstance(answered.get("data"), dict):
            answered["data"].pop("stats", None)
    return {"status": got.status, "content_type": got.headers.get("Content-Type", ""), "response": answered}


def until_shown(name, url, data):
    """Waits until a search finds every trace that was sent: half a minute, or minutes on a busy machine. Loki
    shows lines at once, and its index within some seconds."""
    if name == "loki":
        return time.sleep(25)
    sent = json.loads((data / "traces.otlp.json").read_text())
    spans = [s for r in sent["resourceSpans"] for scope in r["scopeSpans"] for s in scope["spans"]]
    traces, found, now = {s["traceId"] for s in spans}, 0, int(time.time())
    query = urllib.parse.urlencode({"q": "{ duration >= 0ns }", "limit": 9999, "start": now - 7200, "end": now + 600})
    for _ in range(120):
        time.sleep(5)
        found = len(json.load(urllib.request.urlopen(f"{url}/api/search?{query}"))["traces"])
        if found >= len(traces):
            return time.sleep(5)
    sys.exit(f"{url} shows {found} of {len(traces)} traces after ten minutes")


def compared(name, url, feed, args):
    corpus = args.shared / "corpus"
    old = json.loads((corpus / "data/manifest.json").read_text())["base_unix_seconds"]
    base = (int(time.time()) - 600) // 60 * 60
    with tempfile.TemporaryDirectory() as work:
        data, cases = Path(work) / "data", Path(work) / "cases.jsonl"
        data.mkdir()
        make = [sys.executable, corpus / "make_data.py", str(base), data]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        for address, file in feed:
            send(address, data / file)
        until_shown(name, url, data)
        with cases.open("w") as out:
            for line in (corpus / f"cases/{name}.jsonl").open():
                case = json.loads(line)
                params = (case.get("params") or {}).items()
                case["params"] = {k: moved(v, old, base - old) for k, v in params}
                out.write(json.dumps(case | answer(url, case)) + "\n")
        print(f"== {name} at {url}", flush=True)
        return subprocess.run([args.runner, "replay", "--data", data, "--cases", cases]).returncode


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--loki")
    parse.add_argument("--tempo")
    parse.add_argument("--otlp", help="where that Tempo takes OTLP over HTTP")
    parse.add_argument("--shared", type=Path, default=Path(os.environ.get("HARNESS_SHARED", ROOT.parent / "shared")))
    parse.add_argument("--runner", type=Path, default=ROOT / "target/release/examples/conformance")
    args = parse.parse_args()
    if not (args.loki or args.tempo) or bool(args.tempo) != bool(args.otlp):
        parse.error("--loki, or --tempo with --otlp, or all three")
    codes = []
    if args.loki:
        feed = [(args.loki + "/otlp/v1/logs", "logs.otlp.json"), (args.loki + "/loki/api/v1/push", "logs.push.json")]
        codes.append(compared("loki", args.loki, feed, args))
    if args.tempo:
        codes.append(compared("tempo3", args.tempo, [(args.otlp + "/v1/traces", "traces.otlp.json")], args))
    sys.exit(max(codes))


main()
