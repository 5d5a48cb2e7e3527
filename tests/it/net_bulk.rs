//! Much at once: a cube's loopback hands half a mebibyte through as one packet, and the gateway carries it by its own buffers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};

use crate::env::Env;
use crate::forward::python;

/// Says all, then hears all: 33 MiB of a length that fits no buffer, in pieces that fit none either.
const TALK: &str = r#"
import socket, sys, threading
name, port = "host.tripmine.internal", int(sys.argv[1])
said = bytes(range(251)) * (33 * 1024 * 1024 // 251 + 1)
for family in (socket.AF_INET, socket.AF_INET6):
    at = socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)[0][4]
    c = socket.create_connection(at[:2])
    def talk():
        for begin in range(0, len(said), 777_777):
            c.sendall(said[begin:begin + 777_777])
        c.shutdown(socket.SHUT_WR)
    talking = threading.Thread(target=talk)
    talking.start()
    heard = bytearray()
    while (got := c.recv(1 << 20)):
        heard += got
    talking.join()
    print("same" if heard == said else f"other: {len(heard)} of {len(said)}")
"#;

/// What a cube sends arrives whole and comes back whole, over IPv4 and over IPv6.
#[test]
fn much_arrives_whole_in_both_families() {
    if !python("much_arrives_whole_in_both_families") {
        return;
    }
    let env = Env::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("address").port();
    let echo = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("accepted");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("read");
            stream.write_all(&all).expect("written");
            stream.shutdown(Shutdown::Write).expect("ended");
        }
    });
    let rule = format!("127.0.0.1:{port}");
    let port = port.to_string();
    let talked = env.tripmine(["run", "--allow", &rule, "host", "--", "python3", "-c", TALK, &port]);
    assert_eq!(talked.ok(0), "same\nsame");
    echo.join().expect("echo");
}
