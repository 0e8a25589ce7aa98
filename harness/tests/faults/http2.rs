use std::sync::atomic::Ordering;

use bytes::Bytes;
use h2::server::SendResponse;
use harness::send::{Protocol, SendOptions};
use harness_core::observation::Outcome;
use tokio::net::TcpStream;

use crate::peer::{Client, listen, patient};

fn options() -> SendOptions {
    SendOptions {
        protocol: Protocol::Http2,
        ..patient()
    }
}

fn respond(mut to: SendResponse<Bytes>) {
    let mut body = to
        .send_response(http::Response::new(()), false)
        .expect("the head goes out");
    body.send_data(Bytes::from_static(b"ok"), true)
        .expect("the body goes out");
}

type Server = h2::server::Connection<TcpStream, Bytes>;

#[tokio::test]
async fn prior_knowledge_and_one_connection_for_all() {
    let (address, accepted) = listen(|socket| async move {
        let mut server: Server = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((request, to))) = server.accept().await {
            assert!(
                request.headers()["traceparent"]
                    .to_str()
                    .unwrap()
                    .ends_with("-01")
            );
            respond(to);
        }
    })
    .await;
    let mut client = Client::new(&format!("http://{address}"), options());
    for _ in 0..5 {
        let seen = client.send().await;
        assert_eq!(
            (seen.outcome, seen.bytes),
            (Outcome::Expected, 2),
            "{:?}",
            seen.detail()
        );
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_stream_reset_is_of_one_request_and_the_connection_stays() {
    let (address, accepted) = listen(|socket| async move {
        let mut server: Server = h2::server::handshake(socket).await.unwrap();
        let mut first = true;
        while let Some(Ok((_, mut to))) = server.accept().await {
            if std::mem::take(&mut first) {
                to.send_reset(h2::Reason::INTERNAL_ERROR);
            } else {
                respond(to);
            }
        }
    })
    .await;
    let mut client = Client::new(&format!("http://{address}"), options());
    let seen = client.send().await;
    assert_eq!(seen.outcome, Outcome::StreamReset, "{:?}", seen.detail());
    assert_eq!(client.send().await.outcome, Outcome::Expected);
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_stream_reset_in_the_middle_of_an_answer() {
    let (address, _) = listen(|socket| async move {
        let mut server: Server = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut to))) = server.accept().await {
            let mut body = to.send_response(http::Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"half"), false).unwrap();
            tokio::spawn(async move {
                body.reserve_capacity(1);
                body.send_reset(h2::Reason::CANCEL);
            });
        }
    })
    .await;
    let seen = Client::new(&format!("http://{address}"), options())
        .send()
        .await;
    assert_eq!(seen.outcome, Outcome::StreamReset, "{:?}", seen.detail());
}

#[tokio::test]
async fn sent_away_and_the_next_request_opens_a_connection() {
    let (address, accepted) = listen(|socket| async move {
        // Held open: a socket closed with something unread resets the connection, and whether the
        // client reads the goodbye first is then a matter of luck.
        let socket = socket.into_std().unwrap();
        let _held = socket.try_clone().unwrap();
        let socket = TcpStream::from_std(socket).unwrap();
        let mut server: Server = h2::server::handshake(socket).await.unwrap();
        if let Some(Ok((_, to))) = server.accept().await {
            server.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
            drop(to);
        }
        while server.accept().await.is_some() {}
        std::future::pending::<()>().await;
    })
    .await;
    let mut client = Client::new(&format!("http://{address}"), options());
    for connections in 1..=2 {
        let seen = client.send().await;
        assert_eq!(seen.outcome, Outcome::GoAway, "{:?}", seen.detail());
        assert_eq!(accepted.load(Ordering::Relaxed), connections);
    }
}

#[tokio::test]
async fn goodbye_after_an_answer_loses_nothing() {
    let (address, accepted) = listen(|socket| async move {
        let mut server: Server = h2::server::handshake(socket).await.unwrap();
        if let Some(Ok((_, to))) = server.accept().await {
            respond(to);
            server.graceful_shutdown();
        }
        while let Some(Ok((_, to))) = server.accept().await {
            respond(to);
        }
    })
    .await;
    let mut client = Client::new(&format!("http://{address}"), options());
    for _ in 0..3 {
        let seen = client.send().await;
        // A request may go out before the goodbye has come; the peer then does not take it, and
        // says so. It is never sent twice.
        assert!(
            matches!(seen.outcome, Outcome::Expected | Outcome::GoAway),
            "{:?} {:?}",
            seen.outcome,
            seen.detail()
        );
    }
    assert!(accepted.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn a_peer_that_speaks_http1_only() {
    let (address, _) = listen(|mut socket| async move {
        use tokio::io::AsyncWriteExt as _;
        let no = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        socket.write_all(no).await.unwrap();
        // Held open, so that what was written is read and not lost to a reset.
        std::future::pending::<()>().await;
    })
    .await;
    let seen = Client::new(&format!("http://{address}"), options())
        .send()
        .await;
    let named = [Outcome::ProtocolError, Outcome::ConnectionClosed];
    assert!(
        named.contains(&seen.outcome),
        "{:?} {:?}",
        seen.outcome,
        seen.detail()
    );
}
