//! The two parts of the twin comparison (`tests/twin/run.py`) that need the harness' own code.
//!
//! `twin tee FIRST SECOND [TENANT]` takes traces over OTLP/gRPC and hands every request to both addresses,
//! to the first in the name of a tenant if one is given; what the first answers is what the sender hears.
//! It prints its own address.
//!
//! `twin judge RUN_DIR --prometheus URL --loki URL --tempo URL` puts every question of a finished run
//! anew, to these backends, and prints the report that their answers give: rows, facts, objectives and
//! questions are the run's own, the answers alone are others.

use std::process::ExitCode;

use harness::backends::Backends;
use harness_core::judge::{self, RunRecord};
use harness_core::query::{Backend, Query};
use harness_core::record::{AnswerBook, BackendUsed};
use harness_core::scenario::{BackendAddress, Scenario};
use harness_core::{objective, report};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

type Wrong = Box<dyn std::error::Error + Send + Sync>;

/// Largest request that is handed on: far more than exporters send.
const LARGEST: usize = 64 << 20;

struct Tee {
    first: TraceServiceClient<Channel>,
    second: TraceServiceClient<Channel>,
    /// The header by which Tempo knows the first's tenant.
    tenant: Option<MetadataValue<Ascii>>,
}

#[tonic::async_trait]
impl TraceService for Tee {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner();
        let (mut first, mut second) = (self.first.clone(), self.second.clone());
        let mut named = Request::new(spans.clone());
        if let Some(tenant) = &self.tenant {
            named.metadata_mut().insert("x-scope-orgid", tenant.clone());
        }
        let (heard, other) = tokio::join!(first.export(named), second.export(spans));
        if let Err(status) = other {
            eprintln!("twin: the second did not take spans: {status}");
        }
        heard
    }
}

async fn tee(first: &str, second: &str, tenant: Option<&str>) -> Result<(), Wrong> {
    let to = |address: &str| -> Result<TraceServiceClient<Channel>, Wrong> {
        Ok(TraceServiceClient::new(
            Endpoint::from_shared(address.to_owned())?.connect_lazy(),
        ))
    };
    let service = TraceServiceServer::new(Tee {
        first: to(first)?,
        second: to(second)?,
        tenant: tenant.map(str::parse).transpose()?,
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tonic::transport::Server::builder()
        .add_service(service.max_decoding_message_size(LARGEST))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// Asks what is not answered yet.
async fn ask(backends: &Backends, queries: Vec<Query>, book: &mut AnswerBook) {
    let new = queries.into_iter().filter(|q| book.get(q).is_none());
    let answers = backends.ask_all(new.collect(), std::future::pending());
    answers.await.into_iter().for_each(|a| book.insert(a));
}

async fn judge_by(dir: &str, urls: [(Backend, &str); 3]) -> Result<(), Wrong> {
    let mut run = harness::run_dir::read(dir.as_ref())?;
    let scenario = Scenario::parse(&run.scenario, "scenario.yaml").map_err(|e| e.to_string())?;
    let objectives = objective::parse(&run.slos).map_err(|e| e.to_string())?;
    let mut backends = Backends::none();
    run.facts.backends.clear();
    for (backend, url) in urls {
        let address = BackendAddress {
            url: url.to_owned(),
            tenant: None,
            bearer: None,
            ca: None,
        };
        backends.add(backend, &address)?;
        let used = BackendUsed {
            url: url.to_owned(),
            embedded: false,
            refused: 0,
            clock: None,
        };
        run.facts.backends.insert(backend, used);
    }
    run.facts.settled.missing.clear();
    let mut answers = AnswerBook::default();
    for step in 0..3 {
        let record = RunRecord {
            scenario: &scenario,
            objectives: &objectives,
            facts: &run.facts,
            rows: &run.rows,
            answers: &answers,
            baselines: run.baselines.as_ref(),
        };
        let queries = match step {
            0 => judge::coverage_queries(&record),
            1 => judge::objective_queries(&record),
            _ => judge::detail_queries(&record, &judge::judge(&record)),
        };
        ask(&backends, queries, &mut answers).await;
    }
    print!(
        "{}",
        report::json(&judge::judge(&RunRecord {
            scenario: &scenario,
            objectives: &objectives,
            facts: &run.facts,
            rows: &run.rows,
            answers: &answers,
            baselines: run.baselines.as_ref(),
        }))
    );
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["tee", first, second] => tee(first, second, None).await,
        ["tee", first, second, tenant] => tee(first, second, Some(tenant)).await,
        [
            "judge",
            dir,
            "--prometheus",
            prometheus,
            "--loki",
            loki,
            "--tempo",
            tempo,
        ] => {
            let urls = [
                (Backend::Prometheus, *prometheus),
                (Backend::Loki, *loki),
                (Backend::Tempo, *tempo),
            ];
            judge_by(dir, urls).await
        }
        _ => Err(
            "twin tee FIRST SECOND [TENANT] | twin judge RUN_DIR --prometheus URL --loki URL --tempo URL"
                .into(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("twin: {error}");
            ExitCode::FAILURE
        }
    }
}
