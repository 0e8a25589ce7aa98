// A second opinion on what is a query: the grammars of Grafana's query editors against our parsers.
//
//   npm install && node check.mjs [RUNNER] [-v]
//
// RUNNER is the built conformance example (default ../../../../target/release/examples/conformance).
// Queries are those of our own cases and, where it is present, of the conformance scripts and recorded
// corpora in $HARNESS_SHARED (default ../shared beside the repository). An editor's grammar checks
// words, not meaning: a query that only our side refuses is listed by the reason we give.

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parser as promql } from "@prometheus-io/lezer-promql";
import { parser as logql } from "@grafana/lezer-logql";
import { parser as traceql } from "@grafana/lezer-traceql";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "../../../..");
const args = process.argv.slice(2);
const verbose = args.includes("-v");
const runner = args.find((a) => a !== "-v") ?? join(root, "target/release/examples/conformance");
const shared = process.env.HARNESS_SHARED ?? join(root, "../shared");

// ---- queries

const files = (dir) =>
  existsSync(dir) ? readdirSync(dir).filter((f) => f.endsWith(".test")).map((f) => join(dir, f)) : [];

// The query of an `eval` line, whatever stands before it.
const heads = {
  promql: /^eval\S*\s+(?:instant\s+at\s+\S+|range\s+from\s+\S+\s+to\s+\S+\s+step\s+\S+)\s+(.*)$/,
  logql:
    /^eval\S*\s+(?:instant\s+at\s+\S+|range\s+from\s+\S+\s+to\s+\S+\s+step\s+\S+|lines\s+from\s+\S+\s+to\s+\S+(?:\s+limit\s+\d+)?(?:\s+forward)?)\s+(.*)$/,
  traceql:
    /^eval\s+(?:search|sets|show|instant\s+from\s+\S+\s+to\s+\S+|range\s+from\s+\S+\s+to\s+\S+\s+step\s+\S+)\s+(.*)$/,
};

const fromScripts = (paths, head) =>
  paths.flatMap((path) =>
    readFileSync(path, "utf8")
      .split("\n")
      .map((line) => head.exec(line.trim())?.[1])
      .filter((query) => query),
  );

const fromCases = (name) => {
  const path = join(shared, "corpus/cases", `${name}.jsonl`);
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .split("\n")
    .filter((line) => line)
    .map((line) => JSON.parse(line))
    .filter((c) => !/\/(labels?|series|tags?|values)\b/.test(c.path))
    .map((c) => c.params.query ?? c.params.q)
    .filter((query) => query);
};

const src = join(here, "../../src");
const languages = {
  promql: {
    parser: promql,
    queries: [
      ...fromScripts(files(join(src, "promql/tests")), heads.promql),
      ...fromScripts(files(join(shared, "conformance/promql")), heads.promql),
      ...fromCases("prometheus"),
    ],
  },
  logql: {
    parser: logql,
    queries: [...fromScripts(files(join(src, "logql/tests")), heads.logql), ...fromCases("loki")],
  },
  traceql: {
    parser: traceql,
    queries: [
      ...fromScripts(files(join(src, "traceql/scripts")), heads.traceql),
      ...fromCases("tempo3"),
      ...fromCases("tempo2"),
    ],
  },
};

// ---- verdicts

const grammarAccepts = (parser, query) => {
  let ok = true;
  parser.parse(query).iterate({ enter: (node) => void (ok &&= !node.type.isError) });
  return ok;
};

const weAnswer = (language, queries) =>
  execFileSync(runner, ["parse", language], {
    input: queries.map((q) => JSON.stringify(q)).join("\n") + "\n",
    maxBuffer: 1 << 28,
    encoding: "utf8",
  })
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

for (const [language, { parser, queries }] of Object.entries(languages)) {
  const all = [...new Set(queries)];
  const ours = weAnswer(language, all);
  const count = { both: 0, neither: 0, onlyGrammar: [], onlyUs: [] };
  all.forEach((query, i) => {
    const theirs = grammarAccepts(parser, query);
    const error = ours[i].error;
    if (theirs && error === null) count.both++;
    else if (!theirs && error !== null) count.neither++;
    else if (theirs) count.onlyGrammar.push([query, error]);
    else count.onlyUs.push([query, ""]);
  });
  console.log(
    `${language}: ${all.length} queries, both accept ${count.both}, both refuse ${count.neither}, ` +
      `only the grammar accepts ${count.onlyGrammar.length}, only we accept ${count.onlyUs.length}`,
  );
  const reasons = new Map();
  for (const [, error] of count.onlyGrammar) {
    const reason = error
      .replace(/^\d+:\d+: |^parse error( at line \d+, col \d+)? ?:? ?/, "")
      .replace(/"[^"]*"|`[^`]*`|'[^']*'/g, "…")
      .slice(0, 90);
    reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
  }
  for (const [reason, n] of [...reasons].sort((a, b) => b[1] - a[1])) console.log(`  ${n} × ${reason}`);
  for (const [query] of count.onlyUs) console.log(`  only we accept: ${query}`);
  if (verbose) for (const [query, error] of count.onlyGrammar) console.log(`  refused: ${query}\n    ${error}`);
}
