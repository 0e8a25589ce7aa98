//! One HTTP/1.1 connection, used by one request at a time.
//!
//! A load generator knows more than a general client does: it never pipelines, never retries, and
//! has the whole request before it writes. So a request here is one buffer and one write on the
//! task that waits for the answer: no second task for the connection, no channel between the two,
//! no map of headers built. That is most of what a request cost (the figures are in
//! `benches/peers`). Reading a head is httparse's work; only framing is ours.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use futures::FutureExt as _;
use harness_core::units::Nanos;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::MAX_ANSWER;
use super::exchange::{Asked, Seen, Stage, too_large, within};
use super::head::{Head, Length, read_head};
use super::outcome::Fault;
use crate::clock::Clock;

/// Room made for one read.
const READ: usize = 16 << 10;
/// Longest head of an answer, and longest line of a chunk's size.
const LONGEST_HEAD: usize = 64 << 10;

/// What bytes go over.
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with its buffers, which live as long as it does. In a box wherever it goes: what a
/// request's future holds is copied when its task is made.
pub(crate) struct H1 {
    io: Io,
    /// Read, and not taken yet.
    input: BytesMut,
    /// When the last of it was read.
    read_at: Nanos,
    /// The request, head and body.
    pub(crate) output: Vec<u8>,
    /// The body of the answer.
    pub(crate) body: Vec<u8>,
}

impl H1 {
    pub(crate) fn new(io: Io) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            read_at: Nanos(0),
            output: Vec::new(),
            body: Vec::new(),
        }
    }

    /// When something was read last.
    pub(crate) fn last_read(&self) -> Nanos {
        self.read_at
    }

    /// Whether the peer has neither closed an idle connection nor said anything on it. Makes no
    /// system call when nothing came.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match &mut self.io {
            Io::Plain(socket) => {
                let read = socket.try_read(&mut [0]);
                read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            Io::Tls(socket) => socket.read_u8().now_or_never().is_none(),
        }
    }

    /// Sends `output` and reads the answer, its body into `body`. Whether the connection may be
    /// used again is in the head returned.
    pub(crate) async fn exchange(
        &mut self,
        asked: Asked,
        clock: Clock,
        seen: &mut Seen,
    ) -> Result<Head, Fault> {
        seen.stage = Stage::Waiting;
        self.body.clear();
        let written = within(asked.first_byte_by, self.write()).await?;
        let mut head = match (self.head(asked, clock, seen).await, written) {
            (Ok(head), _) => head,
            // A peer that refuses a body may answer and close before it was sent whole; where it
            // did not answer, that it did not take the request is the better reason.
            (Err(_), Err(error)) => return Err(Fault::io("sending the request", &error)),
            (Err(fault), Ok(())) => return Err(fault),
        };
        seen.status = Some(head.status);
        if let Some(framing) = head.framing(asked.framing) {
            seen.stream(framing);
        }
        match head.length {
            Length::Known(length) => self.known(length, clock, seen).await?,
            Length::Chunked => self.chunked(clock, seen).await?,
            Length::UntilClose => {
                self.until_close(clock, seen).await?;
                head.reusable = false;
            }
        }
        head.reusable &= self.input.is_empty();
        Ok(head)
    }

    async fn write(&mut self) -> io::Result<()> {
        self.io.write_all(&self.output).await?;
        match &mut self.io {
            Io::Plain(_) => Ok(()),
            Io::Tls(socket) => socket.flush().await,
        }
    }

    async fn head(&mut self, asked: Asked, clock: Clock, seen: &mut Seen) -> Result<Head, Fault> {
        loop {
            if !self.input.is_empty()
                && let Some(head) = read_head(&self.input, asked.head, asked.fields)?
            {
                self.input.advance(head.taken);
                match head.status {
                    101 => {
                        let why = "the peer changes to another protocol, which nobody asked for";
                        return Err(Fault::protocol(why));
                    }
                    // An interim answer: the real one is still to come.
                    100..=199 => {
                        (seen.first_byte, seen.stage) = (None, Stage::Waiting);
                        continue;
                    }
                    _ => return Ok(head),
                }
            }
            if self.input.len() > LONGEST_HEAD {
                let why = format!("the head of the answer has more than {LONGEST_HEAD} bytes");
                return Err(Fault::protocol(why));
            }
            within(
                asked.first_byte_by.filter(|_| seen.first_byte.is_none()),
                self.read("before it answered", clock),
            )
            .await??;
            if seen.first_byte.is_none() {
                (seen.first_byte, seen.stage) = (Some(self.read_at), Stage::Reading);
            }
        }
    }

    /// Reads something; an end of the stream is an error.
    async fn read(&mut self, doing: &str, clock: Clock) -> Result<(), Fault> {
        self.input.reserve(READ);
        let read = self.io.read_buf(&mut self.input).await;
        self.read_at = clock.now();
        match read {
            Ok(0) => Err(Fault::closed(doing)),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Fault::closed(doing)),
            Err(error) => Err(Fault::io("reading the answer", &error)),
        }
    }

    /// Takes up to `most` bytes of the body out of what was read.
    fn take(&mut self, most: u64, seen: &mut Seen) -> Result<u64, Fault> {
        let piece =
            usize::try_from(most).map_or(self.input.len(), |most| most.min(self.input.len()));
        if piece > 0 {
            if self.body.len() + piece > MAX_ANSWER {
                return Err(too_large());
            }
            let bytes = &self.input[..piece];
            seen.body(
                bytes,
                piece as u64 == most || most == u64::MAX,
                self.read_at,
            );
            self.body.extend_from_slice(bytes);
            self.input.advance(piece);
        }
        Ok(piece as u64)
    }

    async fn known(&mut self, length: u64, clock: Clock, seen: &mut Seen) -> Result<(), Fault> {
        if length > MAX_ANSWER as u64 {
            return Err(too_large());
        }
        let mut left = length;
        loop {
            left -= self.take(left, seen)?;
            if left == 0 {
                return Ok(());
            }
            self.read("before its answer was complete", clock).await?;
        }
    }

    async fn chunked(&mut self, clock: Clock, seen: &mut Seen) -> Result<(), Fault> {
        loop {
            let size = self.chunk_size(clock).await?;
            if size == 0 {
                return self.trailers(clock).await;
            }
            self.known(size, clock, seen).await?;
            while self.input.len() < 2 {
                self.read("within a chunk of its answer", clock).await?;
            }
            if !self.input.starts_with(b"\r\n") {
                return Err(Fault::protocol(
                    "a chunk of the answer is longer than it says",
                ));
            }
            self.input.advance(2);
        }
    }

    async fn chunk_size(&mut self, clock: Clock) -> Result<u64, Fault> {
        loop {
            match httparse::parse_chunk_size(&self.input) {
                Ok(httparse::Status::Complete((taken, size))) => {
                    self.input.advance(taken);
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if self.input.len() <= LONGEST_HEAD => {
                    self.read("between two chunks of its answer", clock).await?;
                }
                _ => return Err(Fault::protocol("a chunk of the answer has no size")),
            }
        }
    }

    async fn trailers(&mut self, clock: Clock) -> Result<(), Fault> {
        loop {
            match trailer(&self.input) {
                Ok(httparse::Status::Complete(taken)) => {
                    self.input.advance(taken);
                    return Ok(());
                }
                Ok(httparse::Status::Partial) if self.input.len() <= LONGEST_HEAD => {
                    self.read("before the last chunk of its answer", clock)
                        .await?;
                }
                _ => return Err(Fault::protocol("the trailer of the answer is malformed")),
            }
        }
    }

    async fn until_close(&mut self, clock: Clock, seen: &mut Seen) -> Result<(), Fault> {
        loop {
            self.take(u64::MAX, seen)?;
            self.input.reserve(READ);
            let read = self.io.read_buf(&mut self.input).await;
            self.read_at = clock.now();
            match read {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(Fault::io("reading the answer", &error)),
            }
        }
    }
}

/// Bytes of the trailer at the start of `bytes`. Apart from the caller, in whose future the room for
/// the fields would lie all the time.
fn trailer(bytes: &[u8]) -> httparse::Result<usize> {
    let mut space = [httparse::EMPTY_HEADER; 32];
    let parsed = httparse::parse_headers(bytes, &mut space)?;
    Ok(match parsed {
        httparse::Status::Complete((taken, _)) => httparse::Status::Complete(taken),
        httparse::Status::Partial => httparse::Status::Partial,
    })
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, into),
            Self::Tls(socket) => Pin::new(socket).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, from),
            Self::Tls(socket) => Pin::new(socket).poll_write(context, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
