//! Is there a SOCKS5 proxy? A greeting (RFC 1928, 3), sent and read within a deadline; what comes back is a stranger's.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a greeting showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// SOCKS5, and it asks for nothing.
    Open,
    /// SOCKS5, and it wants a user name and password.
    Password,
    /// SOCKS5, and it takes neither.
    Unwilling,
    /// Something that is no SOCKS5.
    Other,
    /// Nobody listens.
    Nobody,
    /// It could not be told: why.
    Unclear(String),
}

/// Greets whoever listens at `address`; each step has `patience`.
#[must_use]
pub fn greet(address: SocketAddr, patience: Duration) -> Greeting {
    let mut stream = match TcpStream::connect_timeout(&address, patience) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Greeting::Nobody,
        Err(error) => return Greeting::Unclear(error.to_string()),
    };
    let mut talk = || -> std::io::Result<[u8; 2]> {
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        // Version 5, two methods: none, user name and password.
        stream.write_all(&[5, 2, 0, 2])?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen)?;
        Ok(chosen)
    };
    match talk() {
        Ok([5, 0]) => Greeting::Open,
        Ok([5, 2]) => Greeting::Password,
        Ok([5, 0xff]) => Greeting::Unwilling,
        Ok(_) => Greeting::Other,
        Err(error) => match error.kind() {
            // It hung up on a greeting that every SOCKS5 proxy answers.
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Greeting::Other,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                Greeting::Unclear(format!("it said nothing within {} ms", patience.as_millis()))
            }
            _ => Greeting::Unclear(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answered_by(answer: Option<&'static [u8]>) -> Greeting {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let address = listener.local_addr().expect("address");
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("peer");
            let mut hello = [0; 4];
            stream.read_exact(&mut hello).expect("greeting");
            assert_eq!(hello, [5, 2, 0, 2]);
            match answer {
                Some(bytes) => stream.write_all(bytes).expect("answer"),
                // Silent until the other side has given up.
                None => drop(stream.read(&mut hello)),
            }
        });
        let greeting = greet(address, Duration::from_millis(300));
        peer.join().expect("peer");
        greeting
    }

    #[test]
    fn answers_are_told_apart() {
        for (answer, wanted) in [
            (&[5, 0][..], Greeting::Open),
            (&[5, 2], Greeting::Password),
            (&[5, 0xff], Greeting::Unwilling),
            (b"HTTP/1.1 400 Bad Request\r\n", Greeting::Other),
            (&[4, 0], Greeting::Other),
            (&[5], Greeting::Other),
            (&[], Greeting::Other),
        ] {
            assert_eq!(answered_by(Some(answer)), wanted, "{answer:?}");
        }
        assert!(matches!(answered_by(None), Greeting::Unclear(_)));
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("free");
        assert_eq!(greet(free, Duration::from_millis(300)), Greeting::Nobody);
    }
}
