//! Sessions, data and holds with a real agent.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::*;
use crate::microvm::agent::tests::again;
use crate::microvm::bridge::client;
use crate::microvm::wire::{ENTRY, Message};

#[test]
fn streams_stay_apart_and_codes_come_back() {
    let mut guest = Guest::new();
    let (stream, ends) = guest.sh("echo out; echo err >&2; exit 7");
    assert_eq!((stream, guest.end(stream)), (ENTRY, 7 << 8));
    assert_eq!(ends.all(), ("out\n".to_owned(), "err\n".to_owned()));
    let (stream, mut ends) = guest.start(&["cat"], "/", None);
    let mut to = File::from(ends.to.take().expect("ours"));
    to.write_all(b"through and back").expect("written");
    drop(to);
    assert_eq!(guest.end(stream), 0);
    assert_eq!(ends.all().0, "through and back");
}

#[test]
fn what_cannot_start_says_why() {
    let mut guest = Guest::new();
    for (argv, cwd, folder) in
        [("/no/such", "/", false), ("/etc/passwd", "/", false), ("/bin/true", "/no/such", true)]
    {
        let (stream, _ends) = guest.start(&[argv], cwd, None);
        let errno = if argv == "/etc/passwd" { libc::EACCES } else { libc::ENOENT };
        let told = guest.until(|event| !matches!(event, Event::Log(_)));
        assert_eq!(told, Event::NotStarted { stream, errno, folder }, "{argv}");
    }
}

#[test]
fn signals_reach_the_group() {
    let mut guest = Guest::new();
    let (stream, ends) = guest.sh("sleep 1000 & echo up; wait");
    guest.until(|event| matches!(event, Event::Started { .. }));
    let mut line = [0; 3];
    // The line is in the pipe once the bridge has moved it.
    while rustix::io::ioctl_fionread(&ends.from).expect("asked") < 3 {
        guest.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(20))).expect("a turn");
    }
    rustix::io::read(&ends.from, &mut line).expect("read");
    guest.bridge.signal(stream, libc::SIGTERM);
    assert_eq!(guest.end(stream), libc::SIGTERM);
    // The sleeper held standard output too.
    assert_eq!(ends.all().0, "");
}

#[test]
fn a_terminal_has_a_size_that_follows() {
    if std::fs::File::options().read(true).write(true).open("/dev/pts/ptmx").is_err() {
        println!("SKIPPED a_terminal_has_a_size_that_follows: /dev/pts/ptmx is closed to this user");
        return;
    }
    let mut guest = Guest::new();
    let script = "stty size; read -r x; stty size; exit 5";
    let (stream, mut ends) = guest.start(&["sh", "-c", script], "/", Some((40, 100)));
    guest.until(|event| matches!(event, Event::Started { .. }));
    guest.bridge.resize(stream, 50, 132);
    let mut to = File::from(ends.to.take().expect("ours"));
    to.write_all(b"go\r").expect("written");
    assert_eq!(guest.end(stream), 5 << 8);
    drop(to);
    let said = ends.all().0;
    assert!(said.contains("50 132"), "{said:?}");
}

#[test]
fn megabytes_go_both_ways_unharmed() {
    let mut guest = Guest::new();
    let (stream, mut ends) = guest.start(&["cat"], "/", None);
    let data: Vec<u8> =
        (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut to = File::from(ends.to.take().expect("ours"));
    let said = data.clone();
    let writer = std::thread::spawn(move || to.write_all(&said).expect("written"));
    let mut from = File::from(ends.from);
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).expect("read");
        all
    });
    assert_eq!(guest.end(stream), 0);
    writer.join().expect("writer");
    assert!(reader.join().expect("reader") == data, "the same bytes");
}

#[test]
fn a_flood_that_nobody_reads_holds_nobody_up() {
    let mut guest = Guest::new();
    let floods: Vec<_> = (0..3).map(|_| guest.start(&["cat", "/dev/zero"], "/", None)).collect();
    for _ in 0..20 {
        let (stream, ends) = guest.sh("echo quick");
        assert_eq!(guest.end(stream), 0);
        assert_eq!(ends.all().0, "quick\n");
    }
    for (stream, ends) in floods {
        // Its reader is gone: that is told, and the writer gets the signal of a broken pipe.
        drop(ends);
        assert_eq!(guest.end(stream), libc::SIGPIPE);
    }
}

#[test]
fn a_connection_is_made_inside_and_ends_as_it_ends_there() {
    let mut guest = Guest::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = server.local_addr().expect("address").port();
    let outside = TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut client = std::net::TcpStream::connect(outside.local_addr().expect("address")).expect("connected");
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("accepted");
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("heard");
        stream.write_all(&[b'x'; 300_000]).expect("said");
        heard
    });
    let caller = std::thread::spawn(move || {
        client.write_all(b"hello").expect("said");
        client.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("heard");
        heard.len()
    });
    let stream = guest.bridge.next_stream();
    guest.bridge.link.offer(stream, outside.accept().expect("accepted").0.into()).expect("offered");
    guest.bridge.link.channel.say(&Message::Dial { stream, port, six: false });
    while guest.bridge.link.is_known(stream) {
        guest.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(20))).expect("a turn");
    }
    assert_eq!((peer.join().expect("peer"), caller.join().expect("caller")), ("hello".to_owned(), 300_000));
    // Nobody listens any more: the connection breaks.
    let mut client = std::net::TcpStream::connect(outside.local_addr().expect("address")).expect("connected");
    let stream = guest.bridge.next_stream();
    guest.bridge.link.offer(stream, outside.accept().expect("accepted").0.into()).expect("offered");
    guest.bridge.link.channel.say(&Message::Dial { stream, port, six: false });
    while guest.bridge.link.is_known(stream) {
        guest.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(20))).expect("a turn");
    }
    let broken = client.read(&mut [0; 1]).expect_err("reset");
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn holds_and_questions_are_answered_by_their_token() {
    let mut guest = Guest::new();
    for ask in [Bridge::sync, Bridge::freeze, Bridge::thaw] {
        let token = ask(&mut guest.bridge);
        guest.until(|event| *event == Event::Done { token, errno: 0 });
    }
    let token = guest.bridge.ask_stats();
    let told = guest.until(|event| matches!(event, Event::Stats { .. }));
    assert!(
        matches!(told, Event::Stats { token: it, stats } if it == token && stats.memory > stats.available)
    );
}

#[test]
fn a_guest_is_taken_over_by_another_bridge_with_what_runs() {
    let mut guest = Guest::new();
    let (stream, _first) = guest.start(&["sh", "-c", "read -r a; echo got $a; exit 3"], "/", None);
    guest.until(|event| matches!(event, Event::Started { .. }));
    let channel = guest.channel.as_fd().try_clone_to_owned().expect("a copy");
    guest.bridge = Bridge::new(channel).expect("another");
    let Event::Hello(hello) = guest.until(|event| matches!(event, Event::Hello(_))) else {
        panic!("it says hello")
    };
    assert_eq!((hello.set_up, hello.sessions), (true, vec![stream]));
    let (stdin, to) = pipe();
    let (from, stdout) = pipe();
    let (error, stderr) = pipe();
    let mut ends = Ends { to: Some(to), from, error };
    guest.bridge.adopt(stream, Stdio { stdin, stdout, stderr: Some(stderr) }, None).expect("adopted");
    let mut to = File::from(ends.to.take().expect("ours"));
    to.write_all(b"this\n").expect("written");
    assert_eq!(guest.end(stream), 3 << 8);
    drop(to);
    assert_eq!(ends.all().0, "got this\n");
    // New sessions have new numbers.
    let (next, _ends) = guest.sh("true");
    assert!(next > stream);
}

#[test]
fn a_held_guest_says_nothing_and_loses_nothing() {
    let mut guest = Guest::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| File::create(folder.path().join(name)).expect("made");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("text");
    let stdio = |name: &str| {
        let (stdin, to) = pipe();
        let (error, stderr) = pipe();
        (Stdio { stdin, stdout: file(name).into(), stderr: Some(stderr) }, (to, error))
    };
    let script = "i=0; while [ $i -lt 40000 ]; do echo $i; i=$((i+1)); done; exit 4";
    let (first, _ends) = stdio("first");
    let stream = guest.bridge.start(spawn(&["sh", "-c", script], "/", None), first).expect("asked");
    guest.until(|event| matches!(event, Event::Started { .. }));
    while read("first").is_empty() {
        guest.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(5))).expect("a turn");
    }
    let token = guest.bridge.hold(true);
    // What is said now waits, so that a saved guest has heard no half of it.
    guest.bridge.signal(stream, libc::SIGWINCH);
    guest.until(|event| *event == Event::Done { token, errno: 0 });
    assert!(guest.bridge.is_drained(stream));
    let before = read("first");
    assert!(!before.contains("39999"), "it is held in the middle");
    let quiet = Instant::now() + Duration::from_millis(300);
    while Instant::now() < quiet {
        let event = guest.bridge.turn(&[], Some(quiet)).expect("a turn");
        assert_eq!(event, Event::Deadline);
    }
    assert!(read("first") == before, "not a word");
    // Let go on, it goes on; held again, another bridge goes on with it, as with a guest that was saved.
    let token = guest.bridge.hold(false);
    guest.until(|event| *event == Event::Done { token, errno: 0 });
    let token = guest.bridge.hold(true);
    guest.until(|event| *event == Event::Done { token, errno: 0 });
    let channel = guest.channel.as_fd().try_clone_to_owned().expect("a copy");
    guest.bridge = Bridge::new(channel).expect("another");
    guest.until(|event| matches!(event, Event::Hello(_)));
    let (second, _ends) = stdio("second");
    guest.bridge.adopt(stream, second, None).expect("adopted");
    assert_eq!(guest.end(stream), 4 << 8);
    let all: String = (0..40_000).map(|n| format!("{n}\n")).collect();
    assert!(read("first") + &read("second") == all, "every line once");
}

/// Where the bridge's socket is, for the child that is a client.
const SOCKET: &str = "TRIPMINE_TEST_SOCKET";

#[test]
fn client_process() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let script = "cat; echo err >&2; exit 9";
    let status =
        client::run(socket.as_ref(), &spawn(&["sh", "-c", script], "/", None), &|| {}).expect("it ran");
    std::fs::write(std::path::Path::new(&socket).with_extension("status"), status.to_string()).expect("told");
}

#[test]
fn clients_hand_their_streams_over_and_hear_of_the_end() {
    let mut guest = Guest::new();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).expect("closed");
    let path = folder.path().join("bridge.sock");
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("made");
    bind(&socket, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
    listen(&socket, 16).expect("listening");
    guest.bridge.serve(socket).expect("served");
    let (stdin, to) = pipe();
    let (from, stdout) = pipe();
    let mut command = again("microvm::bridge::tests::live::client_process", SOCKET, stdin);
    let mut child = command.env(SOCKET, &path).stdout(stdout).spawn().map(Kept).expect("a client");
    drop(command);
    File::from(to).write_all(b"handed over\n").expect("written");
    let begun = Instant::now();
    let status = loop {
        assert!(begun.elapsed() < PATIENCE, "the client does not end");
        guest.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(20))).expect("a turn");
        if let Some(status) = child.0.try_wait().expect("asked") {
            break status;
        }
    };
    let mut said = String::new();
    File::from(from).read_to_string(&mut said).expect("read");
    assert!(status.success() && said.contains("handed over\n"), "{status} {said}");
    let told = std::fs::read_to_string(path.with_extension("status")).expect("told");
    assert_eq!(told, (9 << 8).to_string());
    // Held still by a client, and let go with it.
    let frozen = std::thread::spawn(move || client::freeze(&path).map(drop));
    while !frozen.is_finished() {
        guest.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(20))).expect("a turn");
    }
    frozen.join().expect("no panic").expect("frozen");
    let (stream, _ends) = guest.sh("exit 4");
    assert_eq!(guest.end(stream), 4 << 8);
}
