//! An S3 server of the tests' own: objects in memory, every request's signature checked, conditional puts,
//! and faults on demand.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

pub(crate) const BUCKET: &str = "bucket";
/// The one secret; any access key goes with it.
pub(crate) const SECRET: &str = "wJalrXUtnFEMI-the-secret";
/// The server's clock is ten seconds ahead for who comes with this key.
pub(crate) const AHEAD: &str = "ahead";

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    No,
    /// Refused with this status.
    Status(u16),
    /// Carried out, and the connection cut before it is answered.
    CutAfter,
}

type Faults = Box<dyn FnMut(&str, &str) -> Fault + Send>;

/// The server.
pub(crate) struct S3 {
    pub(crate) url: String,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    faults: Arc<Mutex<Faults>>,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl S3 {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self {
            url,
            objects: Arc::default(),
            faults: Arc::new(Mutex::new(Box::new(|_, _| Fault::No))),
        };
        let (objects, faults) = (Arc::clone(&server.objects), Arc::clone(&server.faults));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (objects, faults) = (Arc::clone(&objects), Arc::clone(&faults));
                std::thread::spawn(move || serve(&stream, &objects, &faults));
            }
        });
        server
    }

    /// From now on requests (method, key) meet this.
    pub(crate) fn fail(&self, faults: impl FnMut(&str, &str) -> Fault + Send + 'static) {
        *lock(&self.faults) = Box::new(faults);
    }

    /// The objects, by key.
    pub(crate) fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        lock(&self.objects)
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn read(from: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let mut parts = line.split_whitespace();
    let method = parts.next()?.to_owned();
    let (path, query) = {
        let target = parts.next()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (path.to_owned(), query.to_owned())
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        query,
        headers,
        body,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 2104, with keys of at most a block.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x36))
        .chain_update(text)
        .finalize();
    let outer = Sha256::new()
        .chain_update(block.map(|b| b ^ 0x5c))
        .chain_update(inner);
    outer.finalize().to_vec()
}

/// AWS Signature Version 4, as S3 reads it; gives the access key.
fn signed_by(request: &Request) -> Result<String, &'static str> {
    let header = |name: &str| {
        request
            .headers
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let rest = header("authorization")
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .ok_or("not signed")?;
    let field = |name: &str| {
        let found = rest
            .split(',')
            .find_map(|part| part.trim().strip_prefix(name));
        found.ok_or("a field of the signature is missing")
    };
    let (credential, signed, signature) = (
        field("Credential=")?,
        field("SignedHeaders=")?,
        field("Signature=")?,
    );
    let (access_key, scope) = credential.split_once('/').ok_or("no scope")?;
    let payload = header("x-amz-content-sha256");
    if payload != "UNSIGNED-PAYLOAD" && payload != hex(&Sha256::digest(&request.body)) {
        return Err("the body is not what was signed");
    }
    for name in ["host", "x-amz-content-sha256", "x-amz-date"] {
        if !signed.split(';').any(|one| one == name) {
            return Err("a header that has to be signed is not");
        }
    }
    let mut query: Vec<&str> = request
        .query
        .split('&')
        .filter(|part| !part.is_empty())
        .collect();
    query.sort_unstable();
    let headers: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)))
        .collect();
    let canonical = [
        request.method.as_str(),
        &request.path,
        &query.join("&"),
        &headers,
        signed,
        payload,
    ]
    .join("\n");
    let date = header("x-amz-date");
    let to_sign = [
        "AWS4-HMAC-SHA256",
        date,
        scope,
        &hex(&Sha256::digest(&canonical)),
    ]
    .join("\n");
    let start = format!("AWS4{SECRET}").into_bytes();
    let key = scope
        .split('/')
        .fold(start, |key, part| hmac(&key, part.as_bytes()));
    match hex(&hmac(&key, to_sign.as_bytes())) == signature {
        true => Ok(access_key.to_owned()),
        false => Err("the signature does not match"),
    }
}

/// `%2F` and the like.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match (first, after.get(..2)) {
            (b'%', Some(code)) => {
                let code = std::str::from_utf8(code).unwrap();
                bytes.push(u8::from_str_radix(code, 16).unwrap());
                rest = &after[2..];
            }
            (other, _) => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn answer(request: &Request, key: &str, objects: &mut BTreeMap<String, Vec<u8>>) -> (u16, Vec<u8>) {
    match request.method.as_str() {
        "PUT" if request.query.is_empty() => {
            let only_new = request
                .headers
                .get("if-none-match")
                .is_some_and(|v| v == "*");
            if only_new && objects.contains_key(key) {
                return (
                    412,
                    b"<Error><Code>PreconditionFailed</Code></Error>".to_vec(),
                );
            }
            objects.insert(key.to_owned(), request.body.clone());
            (200, Vec::new())
        }
        "GET" if request.query.contains("list-type=2") => {
            let prefix = request
                .query
                .split('&')
                .find_map(|part| part.strip_prefix("prefix="));
            let prefix = decoded(prefix.unwrap_or_default());
            let mut text = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
            for (key, body) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
                text.push_str(&format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"x\"</ETag><Size>{}</Size></Contents>",
                    body.len()
                ));
            }
            (200, (text + "</ListBucketResult>").into_bytes())
        }
        "GET" | "HEAD" => match objects.get(key) {
            Some(body) => (200, body.clone()),
            None => (404, b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
        },
        _ => (501, b"<Error><Code>NotImplemented</Code></Error>".to_vec()),
    }
}

fn serve(
    stream: &TcpStream,
    objects: &Mutex<BTreeMap<String, Vec<u8>>>,
    faults: &Mutex<Faults>,
) -> Option<()> {
    let mut from = BufReader::new(stream);
    loop {
        let request = read(&mut from)?;
        let key = decoded(request.path.strip_prefix(&format!("/{BUCKET}"))?);
        let key = key.trim_start_matches('/').to_owned();
        let by = signed_by(&request);
        let (status, body) = match &by {
            Err(why) => (
                403,
                format!(
                    "<Error><Code>SignatureDoesNotMatch</Code><Message>{why}</Message></Error>"
                )
                .into_bytes(),
            ),
            Ok(_) => match lock(faults)(&request.method, &key) {
                Fault::Status(status) => (status, b"<Error><Code>Refused</Code></Error>".to_vec()),
                Fault::No => answer(&request, &key, &mut lock(objects)),
                Fault::CutAfter => {
                    answer(&request, &key, &mut lock(objects));
                    return None;
                }
            },
        };
        let ahead = by.is_ok_and(|key| key == AHEAD);
        let now = SystemTime::now() + Duration::from_secs(if ahead { 10 } else { 0 });
        let date = httpdate::fmt_http_date(now);
        let head = format!(
            "HTTP/1.1 {status} X\r\nDate: {date}\r\nLast-Modified: {date}\r\nETag: \"x\"\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut to = stream;
        to.write_all(head.as_bytes()).ok()?;
        if request.method != "HEAD" {
            to.write_all(&body).ok()?;
        }
    }
}
