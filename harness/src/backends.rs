//! Asking Prometheus, Loki and Tempo, embedded or real, by the same HTTP.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use futures::StreamExt as _;
use harness_core::query::{Answer, Backend, Query};
use harness_core::record::clock::ClockSeen;
use harness_core::scenario::BackendAddress;
use harness_core::units::{Nanos, UnixNanos};
use rand::RngExt as _;
use tokio_util::sync::CancellationToken;

use crate::clock::wall_now;

/// Most bytes of one answer that are kept; a longer one is an error, not a shorter answer.
pub const MAX_BODY: usize = 64 << 20;
/// Tries of one question, for answers that say "later" and connections that fail.
const TRIES: u32 = 3;
/// Questions of one round that a backend may leave unanswered before the rest are not asked.
const GIVE_UP: usize = 3;
/// Why a question has no answer when asking was ended.
const OVER: &str = "the time for asking was over before an answer came";
/// How long one question of a round may take.
const ROUND_PATIENCE: Duration = Duration::from_secs(10);
/// Questions under way at once.
const CONCURRENCY: usize = 16;

/// One backend's address and credentials.
struct Endpoint {
    url: String,
    headers: reqwest::header::HeaderMap,
    client: reqwest::Client,
    /// By the dates of its answers so far.
    clock: Mutex<Option<ClockSeen>>,
}

/// The backends of a run.
pub struct Backends(BTreeMap<Backend, Endpoint>);

/// A page of a backend.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// HTTP status.
    pub status: u16,
    /// What its header `Date` tells of the clock there.
    pub clock: Option<ClockSeen>,
    /// The body. Untrusted.
    pub body: String,
}

/// What the `Date` of an answer tells of the clock where it was made; nothing where there is none, or
/// where the answer comes out of a cache and is older than the question.
#[must_use]
pub fn clock_of(
    headers: &reqwest::header::HeaderMap,
    sent: UnixNanos,
    received: UnixNanos,
) -> Option<ClockSeen> {
    if headers.contains_key(reqwest::header::AGE) {
        return None;
    }
    let date = headers.get(reqwest::header::DATE)?.to_str().ok()?;
    let since = httpdate::parse_http_date(date)
        .ok()?
        .duration_since(UNIX_EPOCH)
        .ok()?;
    let date = UnixNanos(Nanos::from_duration(since).0);
    Some(ClockSeen::of(date, sent, received))
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    // The query in the URL is known and long, and would crowd out the cause.
    if let Some(url) = error.url() {
        text = text.replace(&format!(" for url ({url})"), "");
    }
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A URL without user and password.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    url::Url::parse(url).map_or_else(
        |_| url.to_owned(),
        |mut parsed| {
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.to_string().trim_end_matches('/').to_owned()
        },
    )
}

/// A client for one address. Proxies of the environment are for addresses beyond this machine.
///
/// # Errors
/// When TLS cannot be set up or the CA file cannot be read.
pub fn client(url: &str, ca: Option<&str>) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("harness/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(3))
        .timeout(Duration::from_secs(60));
    let host = url::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    if host.is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]") {
        builder = builder.no_proxy();
    }
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).map_err(|error| format!("{ca}: {error}"))?;
        let certificate = reqwest::Certificate::from_pem(&pem)
            .map_err(|error| format!("{ca}: {}", chain(&error)))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|error| chain(&error))
}

impl Backends {
    /// No backends.
    #[must_use]
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a backend.
    ///
    /// # Errors
    /// When the address is no HTTP URL, a header value cannot be sent, or the CA cannot be read.
    pub fn add(&mut self, backend: Backend, address: &BackendAddress) -> Result<(), String> {
        let url = url::Url::parse(&address.url).map_err(|error| {
            // Not the text itself: what stands there may be a password.
            format!("the address of {backend} is no URL: {error}")
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!(
                "the address of {backend} must begin with http:// or https://"
            ));
        }
        let mut headers = reqwest::header::HeaderMap::new();
        let mut header = |name: &'static str, value: String| {
            let mut value = reqwest::header::HeaderValue::from_str(&value).map_err(|_| {
                format!("{backend}: the value of {name} holds characters a header cannot have")
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
            Ok::<(), String>(())
        };
        if let Some(tenant) = &address.tenant {
            header("x-scope-orgid", tenant.clone())?;
        }
        if let Some(token) = &address.bearer {
            header("authorization", format!("Bearer {token}"))?;
        }
        let client = client(&address.url, address.ca.as_deref())?;
        let url = address.url.trim_end_matches('/').to_owned();
        self.0.insert(
            backend,
            Endpoint {
                url,
                headers,
                client,
                clock: Mutex::new(None),
            },
        );
        Ok(())
    }

    /// Which backends there are.
    pub fn kinds(&self) -> impl Iterator<Item = Backend> + '_ {
        self.0.keys().copied()
    }

    /// What the dates of all answers so far tell of the clocks.
    #[must_use]
    pub fn clocks(&self) -> BTreeMap<Backend, ClockSeen> {
        let seen = self.0.iter().map(|(backend, endpoint)| {
            let clock = endpoint.clock.lock();
            Some((*backend, (*clock.unwrap_or_else(PoisonError::into_inner))?))
        });
        seen.flatten().collect()
    }

    /// Waits until every backend says it is ready.
    ///
    /// # Errors
    /// A sentence naming the first that does not, within `within`.
    pub async fn ready(&self, within: Duration) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + within;
        for (backend, endpoint) in &self.0 {
            endpoint.ready(*backend, deadline).await?;
        }
        Ok(())
    }

    /// Waits until one backend says it is ready.
    ///
    /// # Errors
    /// A sentence when it does not within `within`.
    pub async fn ready_one(&self, backend: Backend, within: Duration) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + within;
        match self.0.get(&backend) {
            Some(endpoint) => endpoint.ready(backend, deadline).await,
            None => Err(format!("no address for {backend} is configured")),
        }
    }

    /// Gets a page of a backend that is no question of a run.
    ///
    /// # Errors
    /// A sentence when no whole answer came.
    pub async fn fetch(&self, backend: Backend, path: &str) -> Result<Fetched, String> {
        let endpoint = self
            .0
            .get(&backend)
            .ok_or_else(|| format!("no address for {backend} is configured"))?;
        let request = endpoint.client.get(format!("{}{path}", endpoint.url));
        let sent = wall_now();
        let answer = request
            .headers(endpoint.headers.clone())
            .timeout(Duration::from_secs(10))
            .send()
            .await
            .map_err(|error| chain(&error))?;
        Ok(Fetched {
            status: answer.status().as_u16(),
            clock: endpoint.note(&answer, sent),
            body: read_bounded(answer).await?,
        })
    }

    /// Asks all, a few at a time, until `enough` is over. There is one answer to every question, if
    /// only that none came: a backend that takes questions and never answers must not hold up the
    /// end of a run.
    pub async fn ask_all(
        &self,
        queries: Vec<Query>,
        enough: impl Future<Output = ()>,
    ) -> Vec<Answer> {
        let over = CancellationToken::new();
        let asking = futures::stream::iter(queries)
            .map(|query| self.ask_until(query, &over))
            .buffered(CONCURRENCY)
            .collect();
        tokio::pin!(asking, enough);
        tokio::select! {
            answers = &mut asking => answers,
            () = &mut enough => {
                over.cancel();
                asking.await
            }
        }
    }

    async fn ask_until(&self, query: Query, over: &CancellationToken) -> Answer {
        tokio::select! {
            biased;
            () = over.cancelled() => unanswered(query.clone(), OVER.into()),
            answer = self.ask(query.clone()) => answer,
        }
    }

    /// One round of questions that are asked again in the next: each is asked once, for a short while,
    /// and a backend that is gone is soon left alone, since hundreds of questions to a dead one would
    /// keep the others from being asked again in time. There is one answer to every question here too.
    pub async fn ask_round(
        &self,
        queries: Vec<Query>,
        enough: impl Future<Output = ()>,
    ) -> Vec<Answer> {
        let over = CancellationToken::new();
        let lost: BTreeMap<Backend, AtomicUsize> = self
            .kinds()
            .map(|kind| (kind, AtomicUsize::new(0)))
            .collect();
        let ask = async |query: Query| {
            let kind = query.backend();
            let Some((endpoint, lost)) = self.0.get(&kind).zip(lost.get(&kind)) else {
                let why = format!("no address for {kind} is configured");
                return unanswered(query, why);
            };
            if lost.load(Ordering::Relaxed) >= GIVE_UP {
                let why = format!("not asked: {kind} gave no answer to {GIVE_UP} questions before");
                return unanswered(query, why);
            }
            let answer = tokio::select! {
                biased;
                () = over.cancelled() => unanswered(query.clone(), OVER.into()),
                answer = endpoint.ask_once(&query) => answer,
                () = tokio::time::sleep(ROUND_PATIENCE) => {
                    unanswered(query.clone(), format!("no whole answer within {ROUND_PATIENCE:?}"))
                }
            };
            if answer.error.is_some() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            answer
        };
        let asking = futures::stream::iter(queries)
            .map(ask)
            .buffered(CONCURRENCY)
            .collect();
        tokio::pin!(asking, enough);
        tokio::select! {
            answers = &mut asking => answers,
            () = &mut enough => {
                over.cancel();
                asking.await
            }
        }
    }

    async fn ask(&self, query: Query) -> Answer {
        let Some(endpoint) = self.0.get(&query.backend()) else {
            let why = format!("no address for {} is configured", query.backend());
            return unanswered(query, why);
        };
        let mut answer = endpoint.ask_once(&query).await;
        for attempt in 1..TRIES {
            let later = answer
                .status
                .is_none_or(|status| status == 429 || status >= 500);
            if !later {
                break;
            }
            let base = 100_u64 << attempt;
            let jitter = rand::rng().random_range(0..base);
            tokio::time::sleep(Duration::from_millis(base + jitter)).await;
            answer = endpoint.ask_once(&query).await;
        }
        answer
    }
}

impl Endpoint {
    /// Keeps what an answer that has just come tells of the clock there.
    fn note(&self, answer: &reqwest::Response, sent: UnixNanos) -> Option<ClockSeen> {
        let seen = clock_of(answer.headers(), sent, wall_now())?;
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = Some(clock.map_or(seen, |so_far| so_far.and(seen)));
        Some(seen)
    }

    async fn ready(&self, backend: Backend, deadline: tokio::time::Instant) -> Result<(), String> {
        let path = if backend == Backend::Prometheus {
            "/-/ready"
        } else {
            "/ready"
        };
        loop {
            let request = self.client.get(format!("{}{path}", self.url));
            let answer = request
                .headers(self.headers.clone())
                .timeout(Duration::from_secs(5))
                .send()
                .await;
            let what = match answer {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => format!("answers {}", answer.status()),
                Err(error) => format!("cannot be reached: {}", chain(&error)),
            };
            if tokio::time::Instant::now() >= deadline {
                let url = without_credentials(&self.url);
                return Err(format!("{backend} at {url} {what}"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn ask_once(&self, query: &Query) -> Answer {
        let (path, parameters) = query.http();
        let request = self
            .client
            .get(format!("{}{path}", self.url))
            .query(&parameters)
            .header("accept", "application/json")
            .headers(self.headers.clone());
        let mut answer = Answer {
            query: query.clone(),
            at: wall_now(),
            status: None,
            body: String::new(),
            error: None,
        };
        let sent = wall_now();
        match request.send().await {
            Ok(response) => {
                self.note(&response, sent);
                answer.status = Some(response.status().as_u16());
                match read_bounded(response).await {
                    Ok(body) => answer.body = body,
                    Err(error) => answer.error = Some(error),
                }
            }
            Err(error) => answer.error = Some(chain(&error)),
        }
        answer.at = wall_now();
        answer
    }
}

/// The answer to a question that got none.
fn unanswered(query: Query, why: String) -> Answer {
    Answer {
        query,
        at: wall_now(),
        status: None,
        body: String::new(),
        error: Some(why),
    }
}

async fn read_bounded(mut response: reqwest::Response) -> Result<String, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("the answer is longer than {MAX_BODY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use harness_core::units::UnixNanos;
    use tokio::net::TcpListener;

    use super::*;

    fn address(url: String) -> BackendAddress {
        BackendAddress {
            url,
            tenant: None,
            bearer: None,
            ca: None,
        }
    }

    #[test]
    fn a_date_tells_the_time_and_an_answer_out_of_a_cache_does_not() {
        let second = 1_000_000_000;
        let at = |seconds: u64| UnixNanos(seconds * second);
        let mut headers = reqwest::header::HeaderMap::new();
        assert_eq!(clock_of(&headers, at(1), at(2)), None);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap();
        headers.insert("date", date);
        let seen = clock_of(&headers, at(784_111_787), at(784_111_788)).unwrap();
        assert_eq!((seen.ahead(), seen.behind()), (0.0, 8.999));
        headers.insert("age", "10".parse().unwrap());
        assert_eq!(clock_of(&headers, at(784_111_787), at(784_111_788)), None);
        headers.clear();
        headers.insert("date", "yesterday".parse().unwrap());
        assert_eq!(clock_of(&headers, at(1), at(2)), None);
    }

    #[tokio::test]
    async fn a_backend_with_another_time_is_remembered_by_its_answers() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut backends = Backends::none();
        let url = format!("http://{}", listener.local_addr().unwrap());
        backends.add(Backend::Loki, &address(url)).unwrap();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = connection.read(&mut head).await.unwrap();
            let old = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 2\r\n\r\n{}";
            connection.write_all(old.as_bytes()).await.unwrap();
        });
        assert!(backends.clocks().is_empty());
        let query = Query::LokiInstant {
            query: "x".into(),
            time: UnixNanos(1),
        };
        let answers = backends.ask_all(vec![query], std::future::pending()).await;
        assert_eq!(answers[0].status, Some(200), "{:?}", answers[0].error);
        server.await.unwrap();
        assert!(backends.clocks()[&Backend::Loki].behind() > 1e8);
    }

    #[tokio::test]
    async fn a_backend_that_never_answers_does_not_hold_up_the_end() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Connections are taken by the system's backlog; nobody ever answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut backends = Backends::none();
        let url = format!("http://{}", silent.local_addr().unwrap());
        backends.add(Backend::Prometheus, &address(url)).unwrap();
        let query = |n| Query::PromInstant {
            query: format!("q{n}"),
            time: UnixNanos(1),
        };
        let queries: Vec<Query> = (0..100).map(query).collect();
        let enough = async { drop(silent.accept().await) };
        let answers = backends.ask_all(queries.clone(), enough).await;
        let asked: Vec<Query> = answers.iter().map(|a| a.query.clone()).collect();
        assert_eq!(asked, queries);
        assert!(
            answers
                .iter()
                .all(|a| a.status.is_none() && a.error.as_ref().unwrap().contains("was over"))
        );
    }

    #[tokio::test]
    async fn a_password_in_an_address_is_not_told() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = closed.local_addr().unwrap();
        drop(closed);
        let mut backends = Backends::none();
        let url = format!("http://user:hush@{at}");
        backends.add(Backend::Loki, &address(url)).unwrap();
        let told = backends.ready(Duration::ZERO).await.unwrap_err();
        assert!(
            told.contains(&at.to_string()) && !told.contains("hush"),
            "{told}"
        );
        let wrong = address("http://user:hush@[".into());
        let told = backends.add(Backend::Loki, &wrong).unwrap_err();
        assert!(!told.contains("hush"), "{told}");
    }

    #[tokio::test]
    async fn a_silent_backend_is_not_asked_all_questions_of_a_round() {
        // Counts connections and ends each without an answer.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut backends = Backends::none();
        backends.add(Backend::Tempo, &address(url)).unwrap();
        let connections = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                drop(connection);
            }
        });
        let queries: Vec<Query> = (0..400)
            .map(|n: u128| Query::TempoTrace {
                trace: harness_core::units::TraceId(n.to_be_bytes()),
            })
            .collect();
        let answers = backends
            .ask_round(queries.clone(), std::future::pending())
            .await;
        server.abort();
        assert!(
            answers.iter().map(|answer| &answer.query).eq(&queries),
            "one answer to each, in order"
        );
        assert!(answers.iter().all(|answer| answer.error.is_some()));
        let asked = connections.load(Ordering::Relaxed);
        // Those under way when the backend was given up, and the client's own second try of each.
        assert!(asked <= 4 * CONCURRENCY, "{asked} connections");
        let last = answers.last().unwrap().error.as_deref().unwrap();
        assert!(last.contains("not asked"), "{last}");
    }

    #[tokio::test]
    async fn the_cause_of_a_lost_answer_is_told_without_the_query() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Bound and dropped: nothing listens there.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut backends = Backends::none();
        backends.add(Backend::Prometheus, &address(url)).unwrap();
        let query = Query::PromInstant {
            query: "up{job=\"a service\"}".into(),
            time: UnixNanos(1),
        };
        let answer = backends.ask(query).await;
        let error = answer.error.unwrap();
        assert!(!error.contains("query="), "{error}");
        assert!(error.to_lowercase().contains("refused"), "{error}");
    }
}
