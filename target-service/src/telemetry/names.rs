//! Every name the service shows to its observers: metrics, labels, spans, attributes, log events.
//!
//! They live in one file because dashboards, alerts and objectives are written against them by
//! people who never read the code that emits them. `TELEMETRY.md` publishes the same table, and a
//! test holds the two together. Names follow the OpenTelemetry semantic conventions where those
//! have one (HTTP server, resource, process); metrics carry the names Prometheus users see after
//! the conventions' usual translation (`.` to `_`, unit and `_total` suffixes).

/// What a metric is, as `# TYPE` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; restarts at zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets with `_sum` and `_count`.
    Histogram,
}

impl Kind {
    /// The word of the text exposition format.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric family as published.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Family name, without `_bucket`, `_sum` or `_count`.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence, shown as `# HELP`.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $ident:ident = $name:literal, $kind:ident, [$($label:expr),*], $help:literal;)*) => {
        $($(#[$doc])* pub const $ident: Metric = Metric {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        };)*
        /// Every metric family of the service.
        pub const METRICS: &[Metric] = &[$($ident),*];
    };
}

metrics! {
    /// Server latency; its `_count` is the number of requests answered.
    REQUEST_DURATION = "http_server_request_duration_seconds", Histogram,
        [label::METHOD, label::ROUTE, label::STATUS],
        "Time from the request's headers to its response being handed over, seconds.";
    /// Requests between headers and response.
    ACTIVE_REQUESTS = "http_server_active_requests", Gauge, [],
        "Requests being handled right now.";
    /// Requests waiting for a worker.
    QUEUE_DEPTH = "inference_queue_depth", Gauge, [],
        "Requests waiting for inference right now, those being computed not included.";
    /// The bound of the queue.
    QUEUE_CAPACITY = "inference_queue_capacity", Gauge, [],
        "Requests that may wait for inference before load is shed.";
    /// Wait between queue and worker.
    QUEUE_WAIT = "inference_queue_wait_seconds", Histogram, [],
        "Time a request waited for inference, seconds.";
    /// Requests in a batch.
    BATCH_SIZE = "inference_batch_size", Histogram, [],
        "Requests in one batch.";
    /// Tokens in a batch.
    BATCH_TOKENS = "inference_batch_tokens", Histogram, [],
        "Tokens in one batch, padding not included.";
    /// Model time.
    INFERENCE_DURATION = "inference_duration_seconds", Histogram, [],
        "Time the model took for one batch, seconds.";
    /// Load shed and refused.
    REJECTED = "inference_rejected_total", Counter, [label::REASON],
        "Requests refused without an answer from the model.";
    /// What became of spans and log records that never left.
    TELEMETRY_DROPPED = "telemetry_dropped_total", Counter, [label::SIGNAL, label::REASON],
        "Spans and log records that were not delivered.";
    /// Spans and log records delivered.
    TELEMETRY_EXPORTED = "telemetry_exported_total", Counter, [label::SIGNAL],
        "Spans and log records delivered.";
    /// CPU time of the process.
    PROCESS_CPU = "process_cpu_seconds_total", Counter, [],
        "User and system CPU time of the process, seconds.";
    /// Resident memory.
    PROCESS_MEMORY = "process_resident_memory_bytes", Gauge, [],
        "Resident memory of the process, bytes.";
    /// Start of the process.
    PROCESS_START = "process_start_time_seconds", Gauge, [],
        "Start of the process, seconds since 1970.";
    /// Threads.
    PROCESS_THREADS = "process_threads", Gauge, [],
        "Threads of the process.";
    /// File descriptors.
    PROCESS_FDS = "process_open_fds", Gauge, [],
        "Open file descriptors of the process.";
    /// Who is speaking. Its labels are the resource attributes, `.` as `_`.
    TARGET_INFO = "target_info", Gauge,
        ["service_name", "service_version", "service_revision", "service_instance_id"],
        "The resource attributes of this process; always 1.";
    /// CPU quota periods of the cgroup.
    CGROUP_PERIODS = "container_cpu_cfs_periods_total", Counter, [],
        "Periods in which the cgroup's CPU quota was counted; absent without a quota.";
    /// Those in which the quota ran out.
    CGROUP_THROTTLED_PERIODS = "container_cpu_cfs_throttled_periods_total", Counter, [],
        "Periods in which the cgroup's CPU quota ran out.";
    /// Time that the quota cost.
    CGROUP_THROTTLED = "container_cpu_cfs_throttled_seconds_total", Counter, [],
        "Time for which the cgroup's threads were held back by its CPU quota, seconds.";
    /// Embedding requests, by the `GenAI` conventions.
    GEN_AI_DURATION = "gen_ai_server_request_duration_seconds", Histogram,
        [label::OPERATION, label::REQUEST_MODEL, label::ERROR_TYPE],
        "Time of a request for embeddings or for a text, to its last byte, seconds.";
    /// The wait that a reader of a stream sees.
    TIME_TO_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds", Histogram,
        [label::OPERATION, label::REQUEST_MODEL],
        "Time from a request for a text to its first token, seconds.";
    /// The pace that a reader of a stream sees.
    TIME_PER_OUTPUT_TOKEN = "gen_ai_server_time_per_output_token_seconds", Histogram,
        [label::OPERATION, label::REQUEST_MODEL],
        "Time from the first token of a text to its last one, divided by the tokens after the first, seconds.";
    /// Tokens read and written.
    TOKENS = "gen_ai_server_tokens_total", Counter,
        [label::OPERATION, label::REQUEST_MODEL, label::TOKEN_TYPE],
        "Tokens of prompts and documents that were let in, and tokens written.";
    /// Texts being written.
    SEQUENCES = "inference_active_sequences", Gauge, [],
        "Texts being written right now, by all workers together.";
    /// How long the model took to load.
    MODEL_LOAD = "inference_model_load_seconds", Gauge, [label::MODEL_NAME],
        "Time from reading the model's files to warm workers, seconds; absent until it is loaded.";
    /// Which model answers.
    MODEL_INFO = "inference_model_info", Gauge, [label::MODEL_NAME, label::MODEL_REVISION],
        "The model that answers; always 1, absent until it is loaded.";
}

/// Metric labels.
pub mod label {
    /// HTTP method, or `_OTHER`.
    pub const METHOD: &str = "http_request_method";
    /// Route template, or [`super::ROUTE_UNMATCHED`].
    pub const ROUTE: &str = "http_route";
    /// Status as digits; 499 when the client left before the answer.
    pub const STATUS: &str = "http_response_status_code";
    /// Why, one of [`super::reason`].
    pub const REASON: &str = "reason";
    /// `traces` or `logs`.
    pub const SIGNAL: &str = "signal";
    /// What was asked of a generative or embedding model: `embeddings` or `text_completion`.
    pub const OPERATION: &str = "gen_ai_operation_name";
    /// Name of the model that was asked.
    pub const REQUEST_MODEL: &str = "gen_ai_request_model";
    /// Why it failed, one of [`super::reason`]; empty for an answer.
    pub const ERROR_TYPE: &str = "error_type";
    /// `input` or `output`.
    pub const TOKEN_TYPE: &str = "gen_ai_token_type";
    /// Name of the model.
    pub const MODEL_NAME: &str = "model_name";
    /// First digits of the SHA-256 of the weights.
    pub const MODEL_REVISION: &str = "model_revision";
}

/// Values of `reason` and of the attribute `error.type`.
pub mod reason {
    /// The queue was full.
    pub const QUEUE_FULL: &str = "queue_full";
    /// The answer would come, or came, too late.
    pub const DEADLINE: &str = "deadline";
    /// The model is not loaded yet.
    pub const NOT_READY: &str = "not_ready";
    /// The workers have been told to stop.
    pub const SHUTTING_DOWN: &str = "shutting_down";
    /// The model returned an error.
    pub const INFERENCE_FAILED: &str = "inference_failed";
    /// A handler panicked.
    pub const INTERNAL: &str = "internal";
    /// The caller's `x-request-timeout` is no time.
    pub const BAD_TIMEOUT: &str = "bad_timeout";
    /// The body did not arrive in time.
    pub const BODY_TIMEOUT: &str = "body_timeout";
    /// The body could not be read.
    pub const BODY_UNREADABLE: &str = "body_unreadable";
    /// The body is longer than the limit.
    pub const BODY_TOO_LARGE: &str = "body_too_large";
    /// The content type is none the service reads.
    pub const MEDIA_TYPE: &str = "unsupported_media_type";
    /// The text is not UTF-8.
    pub const NOT_UTF8: &str = "not_utf8";
    /// The body is not JSON.
    pub const MALFORMED_JSON: &str = "malformed_json";
    /// The body is JSON of another shape.
    pub const WRONG_SHAPE: &str = "wrong_shape";
    /// There is no text.
    pub const EMPTY_TEXT: &str = "empty_text";
    /// The text has no encoding.
    pub const UNENCODABLE: &str = "unencodable_text";
    /// More documents in one request than may be.
    pub const TOO_MANY_DOCUMENTS: &str = "too_many_documents";
    /// The model that answers is another one.
    pub const NO_SUCH_MODEL: &str = "no_such_model";
    /// Prompt and tokens to be written are more than the model or the service can hold.
    pub const TOO_MANY_TOKENS: &str = "context_length_exceeded";
    /// The model cannot do what is asked.
    pub const UNSUPPORTED: &str = "unsupported_by_model";
    /// No such path.
    pub const NOT_FOUND: &str = "not_found";
    /// The path does not have this method.
    pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
    /// Faults are not allowed, or this one is not.
    pub const FAULT_REFUSED: &str = "fault_refused";
    /// A fault that was asked for.
    pub const FAULT: &str = "fault_injected";
    /// The client closed the connection before the answer.
    pub const CLIENT_CLOSED: &str = "client_closed_request";
    /// The exporter failed.
    pub const EXPORT_FAILED: &str = "export_failed";
    /// Telemetry is cut by a fault.
    pub const CUT: &str = "telemetry_cut";

    /// Reasons of [`super::REJECTED`], all shown from the first scrape.
    pub const REJECTIONS: &[&str] = &[QUEUE_FULL, DEADLINE, NOT_READY, SHUTTING_DOWN];
    /// Reasons of [`super::TELEMETRY_DROPPED`], all shown from the first scrape.
    pub const DROPS: &[&str] = &[QUEUE_FULL, EXPORT_FAILED, CUT];
}

/// Values of the label `signal`.
pub mod signal {
    /// Spans.
    pub const TRACES: &str = "traces";
    /// Log records.
    pub const LOGS: &str = "logs";
    /// Both.
    pub const ALL: &[&str] = &[TRACES, LOGS];
}

/// Route of a request that matched none.
pub const ROUTE_UNMATCHED: &str = "unmatched";
/// Method outside of the registered ones.
pub const METHOD_OTHER: &str = "_OTHER";
/// Instrumentation scope of spans and log records.
pub const SCOPE: &str = "target-service";
/// Default `service.name`.
pub const SERVICE_NAME: &str = "target-service";

/// Span names. The server span is `METHOD route`, or `METHOD` for an unmatched path.
pub mod span {
    /// Text to model input; its children are the model's own stages.
    pub const PREPROCESS: &str = "preprocess";
    /// From the queue's door to a worker.
    pub const QUEUE: &str = "queue";
    /// The model on the batch this request was part of.
    pub const INFERENCE: &str = "inference";
    /// Scores to response.
    pub const POSTPROCESS: &str = "postprocess";
    /// One batch, in a trace of its own; linked with the `inference` span of each request in it.
    pub const BATCH: &str = "batch";
    /// From a worker's taking up a text to its first token.
    pub const PREFILL: &str = "prefill";
    /// From a text's first token to its last.
    pub const DECODE: &str = "decode";
    /// Those under the server span.
    pub const ALL: &[&str] = &[PREPROCESS, QUEUE, INFERENCE, POSTPROCESS];
    /// Those under the span of a generation.
    pub const GENERATION: &[&str] = &[QUEUE, PREFILL, DECODE];
}

/// Attribute keys of spans and log records.
pub mod attribute {
    /// Method.
    pub const METHOD: &str = "http.request.method";
    /// Route template.
    pub const ROUTE: &str = "http.route";
    /// Path as sent.
    pub const PATH: &str = "url.path";
    /// Status, an integer.
    pub const STATUS: &str = "http.response.status_code";
    /// Class of an error, one of [`super::reason`] or the status as digits.
    pub const ERROR_TYPE: &str = "error.type";
    /// Length of the request's body, bytes.
    pub const BODY_SIZE: &str = "http.request.body.size";
    /// Requests in the batch.
    pub const BATCH_SIZE: &str = "inference.batch.size";
    /// Tokens in the batch.
    pub const BATCH_TOKENS: &str = "inference.batch.tokens";
    /// Tokens of this request.
    pub const TOKENS: &str = "inference.tokens";
    /// Kind of a fault that struck this request.
    pub const FAULT: &str = "fault.kind";
    /// Operation of the `GenAI` conventions.
    pub const GEN_AI_OPERATION: &str = "gen_ai.operation.name";
    /// Who provides the model.
    pub const GEN_AI_PROVIDER: &str = "gen_ai.provider.name";
    /// Name of the model that was asked.
    pub const GEN_AI_REQUEST_MODEL: &str = "gen_ai.request.model";
    /// Width of the embeddings.
    pub const GEN_AI_DIMENSIONS: &str = "gen_ai.embeddings.dimension.count";
    /// Tokens of the request.
    pub const GEN_AI_INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
    /// Tokens written.
    pub const GEN_AI_OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
    /// Name of the model that answered.
    pub const GEN_AI_RESPONSE_MODEL: &str = "gen_ai.response.model";
    /// The answer's `id`.
    pub const GEN_AI_RESPONSE_ID: &str = "gen_ai.response.id";
    /// Why the text ended, a list of one.
    pub const GEN_AI_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
    /// Tokens to be written, at most.
    pub const GEN_AI_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
    /// As asked.
    pub const GEN_AI_TEMPERATURE: &str = "gen_ai.request.temperature";
    /// As asked.
    pub const GEN_AI_TOP_P: &str = "gen_ai.request.top_p";
    /// As asked; absent where the service chose one.
    pub const GEN_AI_SEED: &str = "gen_ai.request.seed";
    /// Texts at which to stop.
    pub const GEN_AI_STOPS: &str = "gen_ai.request.stop_sequences";
    /// Seconds from the request to its first token. The conventions have a metric for it and no attribute;
    /// vLLM calls it so.
    pub const GEN_AI_FIRST_TOKEN: &str = "gen_ai.latency.time_to_first_token";
    /// Server-side duration on a log record, seconds.
    pub const DURATION: &str = "duration";
    /// What went wrong, in words, on a log record.
    pub const ERROR_MESSAGE: &str = "error.message";
    /// All of them.
    pub const ALL: &[&str] = &[
        METHOD,
        ROUTE,
        PATH,
        STATUS,
        ERROR_TYPE,
        BODY_SIZE,
        BATCH_SIZE,
        BATCH_TOKENS,
        TOKENS,
        FAULT,
        GEN_AI_OPERATION,
        GEN_AI_PROVIDER,
        GEN_AI_REQUEST_MODEL,
        GEN_AI_DIMENSIONS,
        GEN_AI_INPUT_TOKENS,
        GEN_AI_OUTPUT_TOKENS,
        GEN_AI_RESPONSE_MODEL,
        GEN_AI_RESPONSE_ID,
        GEN_AI_FINISH_REASONS,
        GEN_AI_MAX_TOKENS,
        GEN_AI_TEMPERATURE,
        GEN_AI_TOP_P,
        GEN_AI_SEED,
        GEN_AI_STOPS,
        GEN_AI_FIRST_TOKEN,
        DURATION,
        ERROR_MESSAGE,
    ];
}

/// Resource attribute keys the service sets itself.
pub mod resource {
    /// Name of the service.
    pub const SERVICE_NAME: &str = "service.name";
    /// Version.
    pub const SERVICE_VERSION: &str = "service.version";
    /// Source revision the build was made from.
    pub const SERVICE_REVISION: &str = "service.revision";
    /// Random per process.
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
    /// All of them.
    pub const ALL: &[&str] = &[
        SERVICE_NAME,
        SERVICE_VERSION,
        SERVICE_REVISION,
        SERVICE_INSTANCE_ID,
    ];
}

/// Bodies of log records, which are also their event names.
pub mod event {
    /// One for each request but probes.
    pub const REQUEST: &str = "request completed";
    /// Listeners are bound.
    pub const STARTED: &str = "service started";
    /// The model is loaded and warmed.
    pub const READY: &str = "service ready";
    /// A stop was asked for.
    pub const DRAINING: &str = "service draining";
    /// A fault was asked for.
    pub const FAULT_STARTED: &str = "fault started";
    /// Faults were cleared.
    pub const FAULTS_CLEARED: &str = "faults cleared";
    /// All of them.
    pub const ALL: &[&str] = &[
        REQUEST,
        STARTED,
        READY,
        DRAINING,
        FAULT_STARTED,
        FAULTS_CLEARED,
    ];
}

/// Bucket bounds of request and inference latencies, seconds: those of the conventions.
pub const LATENCY_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Metrics that are there only where the process has a CPU quota.
pub const WITH_QUOTA: &[Metric] = &[CGROUP_PERIODS, CGROUP_THROTTLED_PERIODS, CGROUP_THROTTLED];

/// `gen_ai.operation.name` of embeddings.
pub const EMBEDDINGS: &str = "embeddings";

/// `gen_ai.operation.name` of texts.
pub const TEXT_COMPLETION: &str = "text_completion";

/// Values of the label `gen_ai_token_type`.
pub mod token {
    /// Read.
    pub const INPUT: &str = "input";
    /// Written.
    pub const OUTPUT: &str = "output";
}

/// Bucket bounds that the `GenAI` conventions give for the time to the first token, seconds.
pub const FIRST_TOKEN_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Bucket bounds that the `GenAI` conventions give for the time of a token, seconds.
pub const TOKEN_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
/// Bucket bounds that the `GenAI` conventions give for the time of a request, seconds.
pub const GEN_AI_BUCKETS: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Bucket bounds of the batch size, requests.
pub const BATCH_SIZE_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Bucket bounds of the batch tokens.
pub const BATCH_TOKEN_BUCKETS: &[f64] = &[
    16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
];
