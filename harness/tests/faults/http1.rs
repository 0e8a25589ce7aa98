use std::sync::atomic::Ordering;
use std::time::Duration;

use harness::send::SendOptions;
use harness_core::observation::Outcome;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::peer::{Client, answer, hasty, listen, patient, read_request};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn a_sound_exchange_is_what_the_faults_are_told_from() {
    let (address, accepted) = listen(|socket| answer(socket, OK)).await;
    let mut client = Client::new(&format!("http://{address}"), patient());
    for n in 0..3 {
        let seen = client.send().await;
        // The first opens the connection that the others find.
        assert_eq!(seen.connected().is_some(), n == 0);
        assert!(
            seen.connected()
                .is_none_or(|at| Some(at) >= seen.sent() && Some(at) <= seen.first_byte())
        );
        assert_eq!(
            (seen.outcome, seen.status, seen.bytes),
            (Outcome::Expected, Some(200), 2)
        );
        assert!(seen.first_byte() >= seen.sent() && Some(seen.done) >= seen.first_byte());
    }
    assert_eq!(
        accepted.load(Ordering::Relaxed),
        1,
        "the connection is used again"
    );
}

#[tokio::test]
async fn requests_are_traced_and_framed() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (address, _) = listen(move |mut socket| {
        let told = told.clone();
        async move {
            told.send(read_request(&mut socket).await.unwrap()).unwrap();
            socket.write_all(OK).await.unwrap();
        }
    })
    .await;
    let mut client = Client::new(&format!("http://{address}/v1/"), patient());
    let seen = client.send().await;
    let request = heard.recv().await.unwrap();
    let trace = format!("\r\ntraceparent: 00-{}-{}-01\r\n", seen.trace, seen.span);
    assert!(request.starts_with("POST /v1/ HTTP/1.1\r\n"), "{request}");
    for wanted in [
        trace.as_str(),
        &format!("\r\nhost: {address}\r\n"),
        "\r\nbaggage: harness.run.id=run\r\n",
        "\r\ncontent-length: 5\r\n",
        "\r\ncontent-type: text/plain; charset=utf-8\r\n",
    ] {
        assert!(request.contains(wanted), "{wanted:?} is not in {request:?}");
    }
}

#[tokio::test]
async fn refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let seen = Client::new(&format!("http://{address}"), patient())
        .send()
        .await;
    assert_eq!(
        (seen.outcome, seen.status),
        (Outcome::ConnectionRefused, None)
    );
    assert!(seen.sent().is_some() && seen.first_byte().is_none());
}

#[tokio::test]
async fn reset_mid_body() {
    let (address, _) = listen(|mut socket| async move {
        read_request(&mut socket).await;
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it";
        socket.write_all(half).await.unwrap();
        socket.set_zero_linger().unwrap();
    })
    .await;
    let seen = Client::new(&format!("http://{address}"), patient())
        .send()
        .await;
    assert_eq!(
        seen.outcome,
        Outcome::ConnectionReset,
        "{:?}",
        seen.detail()
    );
}

#[tokio::test]
async fn half_closed_before_an_answer_and_in_the_middle_of_one() {
    for (begun, status) in [
        (&b""[..], None),
        (b"HTTP/1.1 200 OK\r\nContent-", None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
            Some(200),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            Some(200),
        ),
    ] {
        let (address, _) = listen(move |mut socket| async move {
            read_request(&mut socket).await;
            socket.write_all(begun).await.unwrap();
            socket.shutdown().await.unwrap();
            // The other half stays open until the client hangs up.
            read_request(&mut socket).await;
        })
        .await;
        let seen = Client::new(&format!("http://{address}"), patient())
            .send()
            .await;
        assert_eq!(
            (seen.outcome, seen.status),
            (Outcome::ConnectionClosed, status),
            "{:?}",
            seen.detail()
        );
        assert_eq!(seen.first_byte().is_some(), !begun.is_empty());
    }
}

#[tokio::test]
async fn never_answers() {
    let (address, _) =
        listen(|mut socket| async move { while read_request(&mut socket).await.is_some() {} })
            .await;
    let url = format!("http://{address}");
    let seen = Client::new(&url, hasty()).send().await;
    assert_eq!((seen.outcome, seen.first_byte()), (Outcome::Timeout, None));
    let detail = seen.detail().unwrap();
    assert!(
        detail.ends_with("waiting for the first byte of an answer"),
        "{detail}"
    );
    assert!(seen.done.since(seen.due).as_duration() >= Duration::from_millis(100));

    let options = SendOptions {
        first_byte_timeout: Some(Duration::from_millis(50)),
        ..patient()
    };
    let seen = Client::new(&url, options).send().await;
    assert_eq!(seen.outcome, Outcome::FirstByteTimeout);
}

#[tokio::test]
async fn answers_a_byte_at_a_time_for_ever() {
    let (address, _) = listen(|mut socket| async move {
        read_request(&mut socket).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
        let mut pace = tokio::time::interval(Duration::from_millis(1));
        for byte in head.iter().chain(std::iter::repeat(&b'.')) {
            pace.tick().await;
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    })
    .await;
    let options = SendOptions {
        // It does answer at once: this limit is kept.
        first_byte_timeout: Some(Duration::from_secs(60)),
        timeout: Duration::from_millis(500),
        ..SendOptions::default()
    };
    let seen = Client::new(&format!("http://{address}"), options)
        .send()
        .await;
    assert_eq!(seen.outcome, Outcome::Timeout);
    assert!(seen.first_byte().is_some());
    assert!(seen.detail().unwrap().ends_with("reading the answer"));
}

#[tokio::test]
async fn a_listener_that_accepts_nobody() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    // The kernel answers for as many as wait in line; beyond, connections get no answer at all.
    let mut line = Vec::new();
    loop {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(200), connect).await {
            Ok(Ok(socket)) => line.push(socket),
            _ => break,
        }
    }
    let options = SendOptions {
        connect_timeout: Some(Duration::from_millis(100)),
        ..patient()
    };
    let seen = Client::new(&format!("http://{address}"), options)
        .send()
        .await;
    assert_eq!(seen.outcome, Outcome::ConnectTimeout, "{:?}", seen.detail());
}

#[tokio::test]
async fn a_name_that_is_none() {
    // A label of more than 63 letters: no resolver on the network is asked for it.
    let url = format!("http://{}.invalid", "a".repeat(64));
    let seen = Client::new(&url, patient()).send().await;
    assert_eq!(seen.outcome, Outcome::DnsFailure, "{:?}", seen.detail());
    assert!(seen.detail().unwrap().starts_with("resolving `aaa"));
}

#[tokio::test]
async fn busy_with_retry_after_is_taken_at_its_word_and_not_retried() {
    let busy =
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 4\r\n\r\nbusy";
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (address, _) = listen(move |mut socket| {
        let told = told.clone();
        async move {
            while let Some(request) = read_request(&mut socket).await {
                told.send(request).unwrap();
                socket.write_all(busy).await.unwrap();
            }
        }
    })
    .await;
    let mut client = Client::new(&format!("http://{address}"), patient());
    let seen = client.send().await;
    assert_eq!(
        (seen.outcome, seen.status),
        (Outcome::UnexpectedStatus, Some(503))
    );
    assert_eq!(seen.detail(), Some("Retry-After: 2; status 503: busy"));
    drop(client);
    heard.recv().await.unwrap();
    assert!(
        heard.try_recv().is_err(),
        "one request was sent, and one only"
    );
}

#[tokio::test]
async fn answers_that_are_no_http() {
    let wrong: [&[u8]; 5] = [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
    ];
    for bytes in wrong {
        let (address, _) = listen(move |socket| answer(socket, bytes)).await;
        let seen = Client::new(&format!("http://{address}"), patient())
            .send()
            .await;
        assert_eq!(seen.outcome, Outcome::ProtocolError, "{:?}", seen.detail());
    }
}

#[tokio::test]
async fn interim_answers_chunks_and_bodies_up_to_the_end_are_read_whole() {
    let sound: [(&[u8], u32); 3] = [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 3),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n", 5),
        (b"HTTP/1.0 200 OK\r\n\r\nabcd", 4),
    ];
    for (bytes, length) in sound {
        let (address, _) = listen(move |mut socket| async move {
            read_request(&mut socket).await;
            for byte in bytes {
                socket.write_all(&[*byte]).await.unwrap();
            }
        })
        .await;
        let seen = Client::new(&format!("http://{address}"), patient())
            .send()
            .await;
        assert_eq!(
            (seen.outcome, seen.bytes),
            (Outcome::Expected, length),
            "{:?}",
            seen.detail()
        );
    }
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_not_sent_on() {
    let (told, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let (address, accepted) = listen(move |mut socket| {
        let told = told.clone();
        async move {
            read_request(&mut socket).await;
            socket.write_all(OK).await.unwrap();
            drop(socket);
            told.send(()).unwrap();
        }
    })
    .await;
    let mut client = Client::new(&format!("http://{address}"), patient());
    for _ in 0..3 {
        assert_eq!(client.send().await.outcome, Outcome::Expected);
        closed.recv().await.unwrap();
        // The event loop hears of the end of the idle connection.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn without_keep_alive_every_request_has_its_own_connection() {
    let (address, accepted) = listen(|socket| answer(socket, OK)).await;
    let options = SendOptions {
        keep_alive: false,
        ..patient()
    };
    let mut client = Client::new(&format!("http://{address}"), options);
    for _ in 0..3 {
        assert_eq!(client.send().await.outcome, Outcome::Expected);
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 3);
    assert_eq!(client.sender().connections_opened(), 3);
}

#[tokio::test]
async fn redirects_are_followed_only_where_the_scenario_says_so() {
    let serve = |mut socket| async move {
        while let Some(request) = read_request(&mut socket).await {
            let there = request.starts_with("POST /there ");
            let away =
                b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
            let answer = if there { OK } else { &away[..] };
            socket.write_all(answer).await.unwrap();
        }
    };
    let (address, _) = listen(serve).await;
    let url = format!("http://{address}");
    let seen = Client::new(&url, patient()).send().await;
    assert_eq!(
        (seen.outcome, seen.status),
        (Outcome::UnexpectedStatus, Some(307))
    );
    let options = SendOptions {
        redirects: 3,
        ..patient()
    };
    let seen = Client::new(&url, options.clone()).send().await;
    assert_eq!(
        (seen.outcome, seen.status, seen.bytes),
        (Outcome::Expected, Some(200), 2)
    );

    // Round in circles, and to another host: neither is followed for ever, or at all.
    let circle = b"HTTP/1.1 308 Permanent Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = listen(|socket| answer(socket, circle)).await;
    let seen = Client::new(&format!("http://{address}"), options.clone())
        .send()
        .await;
    assert_eq!(seen.status, Some(308));
    let away = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
    let (address, _) = listen(|socket| answer(socket, away)).await;
    let seen = Client::new(&format!("http://{address}"), options)
        .send()
        .await;
    assert_eq!(
        (seen.outcome, seen.status),
        (Outcome::UnexpectedStatus, Some(307))
    );
}
