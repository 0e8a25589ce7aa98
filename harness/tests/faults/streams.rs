use harness::send::{Framing, RequestOptions, SendOptions};
use harness_core::observation::Outcome;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::peer::{Client, listen, patient, read_request};

/// Answers a request with these pieces, a chunk each.
async fn stream(mut socket: TcpStream, kind: &str, pieces: &[&str]) {
    read_request(&mut socket).await;
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    for piece in pieces {
        // Apart enough that no read brings two of them; that is all the pause is for.
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        socket.write_all(chunk.as_bytes()).await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn the_first_event_and_the_gaps_of_a_token_stream() {
    let (address, _) = listen(|socket| {
        let pieces = [
            ": hello\n\n",
            "data: {\"token\": \"a\"}\n\n",
            "data: {\"token\":",
            " \"b\"}\n\n",
            "data: c\n\n",
            "data: [DONE]\n\n",
        ];
        async move { stream(socket, "text/event-stream", &pieces).await }
    })
    .await;
    let seen = Client::new(&format!("http://{address}"), patient())
        .send()
        .await;
    assert_eq!(seen.outcome, Outcome::Expected, "{:?}", seen.detail());
    assert_eq!(seen.gaps().len(), 2, "three events");
    let (first_byte, first_event) = (seen.first_byte().unwrap(), seen.first_event().unwrap());
    assert!(first_byte < first_event && first_event < seen.done);
    let last = seen.gaps().iter().fold(first_event.0, |at, gap| at + gap.0);
    assert!(last <= seen.done.0);
}

#[tokio::test]
async fn chunks_are_events_where_the_scenario_says_so() {
    let (address, _) = listen(|socket| async move {
        stream(socket, "application/x-ndjson", &["{}\n", "{}\n", "{}\n"]).await;
    })
    .await;
    let url = format!("http://{address}");
    let plain = Client::new(&url, patient()).send().await;
    assert_eq!(
        (plain.first_event(), plain.gaps().len(), plain.bytes),
        (None, 0, 9)
    );
    let as_chunks = RequestOptions {
        framing: Some(Framing::Chunks),
        ..RequestOptions::default()
    };
    let options = SendOptions {
        requests: vec![as_chunks],
        ..patient()
    };
    let seen = Client::new(&url, options).send().await;
    assert!(seen.first_event().is_some());
    assert_eq!(seen.gaps().len(), 2);
}
