//! How a connection is refused: a page for a person where HTTP is spoken, a reset for all else.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::limits::SNIFF;
use super::relay::reset;

/// What a request of HTTP begins with. `CONNECT` is not among them: who asks for a tunnel shows no page.
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"PATCH ",
    b"DELETE ",
    b"OPTIONS ",
    b"TRACE ",
    b"PROPFIND ",
    b"REPORT ",
    b"MKCOL ",
    b"SEARCH ",
];
/// Ports on which the other end speaks first: nothing will come to look at.
const SERVER_SPEAKS: &[u16] = &[21, 22, 23, 25, 110, 119, 143, 465, 587, 993, 995, 2222, 3306, 5900, 6667];
/// What a request may still send while its answer is on the way.
const DRAIN: usize = 256 << 10;
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// A refusal in words.
#[derive(Debug)]
pub(super) struct Page {
    /// `403 Forbidden`, `502 Bad Gateway`.
    pub(super) status: &'static str,
    /// Whole lines, plain text.
    pub(super) text: String,
}

/// Refuses `stream`. Without room to wait (`sniff`), or when anything but a request of HTTP comes, by
/// a reset at once.
pub(super) async fn refuse(mut stream: TcpStream, port: u16, page: Page, sniff: bool) {
    let speaks = sniff && !SERVER_SPEAKS.contains(&port);
    if !(speaks && is_http(&stream).await) {
        reset(&stream);
        return;
    }
    let Page { status, text } = page;
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\nServer: tripmine\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    );
    let sent = timeout(DRAIN_TIME, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    });
    if matches!(sent.await, Ok(Ok(()))) {
        // Closing on unread bytes would be a reset, which may overtake the page.
        let _read = timeout(DRAIN_TIME, drain(&stream)).await;
    } else {
        reset(&stream);
    }
}

/// Looks at the first bytes without taking them.
async fn is_http(stream: &TcpStream) -> bool {
    let deadline = Instant::now() + SNIFF;
    let mut seen = 0;
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        let mut first = [0; 12];
        match timeout(left, stream.peek(&mut first)).await {
            Ok(Ok(count)) if count > 0 => {
                let first = &first[..count];
                if METHODS.iter().any(|method| first.starts_with(method)) {
                    return true;
                }
                if !METHODS.iter().any(|method| method.starts_with(first)) {
                    return false;
                }
                // The start of a method: the rest is on its way.
                if count == seen {
                    sleep(Duration::from_millis(5)).await;
                }
                seen = count;
            }
            _ => return false,
        }
    }
    false
}

async fn drain(stream: &TcpStream) {
    let mut buffer = [0; 2048];
    let mut read = 0;
    while read < DRAIN && stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
}
