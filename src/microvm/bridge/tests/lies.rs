//! A guest that lies: whatever it says, the bridge neither panics nor grows, and says that it was lied to.

use proptest::prelude::*;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::*;
use crate::microvm::wire::{
    CHUNK, CONNECTIONS, Decoder, GUEST_OPENED, Hello, Lane, Lie, Message, SESSION_WINDOW, Side, VERSION,
};

/// A guest that only says what the test says.
struct Liar {
    bridge: Bridge,
    channel: OwnedFd,
    decoder: Decoder,
}

impl Liar {
    /// One that has greeted properly.
    fn greeted() -> Self {
        let (ours, its) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair");
        rustix::io::ioctl_fionbio(&its, true).expect("set");
        let bridge = Bridge::new(ours).expect("a bridge");
        let mut liar = Self { bridge, channel: its, decoder: Decoder::new(Side::Guest, 0) };
        liar.turn();
        let heard = liar.heard();
        let [Message::Greet(greeting)] = heard[..] else { panic!("{heard:?}") };
        let nonce = greeting.nonce;
        let kernel = "6.1".to_owned();
        liar.say(&Message::Hello(Box::new(Hello {
            version: VERSION,
            nonce,
            kernel,
            set_up: false,
            sessions: vec![],
        })));
        assert!(matches!(liar.turn(), Event::Hello(_)));
        liar
    }

    fn say(&self, message: &Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.channel, rest) {
                Ok(count) => rest = &rest[count..],
                Err(_) => return,
            }
        }
    }

    fn turn(&mut self) -> Event {
        self.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(30))).expect("a turn")
    }

    fn heard(&mut self) -> Vec<Message> {
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count) = rustix::io::read(&self.channel, &mut buffer[..]) {
            if count == 0 {
                break;
            }
            self.decoder.push(&buffer[..count]);
        }
        let mut all = Vec::new();
        while let Ok(Some(message)) = self.decoder.message() {
            all.push(message);
        }
        all
    }

    /// The lie that a message is taken for.
    fn caught(&mut self, message: &Message) -> Lie {
        self.say(message);
        for _ in 0..50 {
            if let Event::Lied(lie) = self.turn() {
                return lie;
            }
        }
        panic!("{message:?} was believed")
    }

    /// A session that the liar was asked to start; nobody reads it.
    fn session(&mut self) -> (u32, Ends) {
        let (stdin, to) = pipe();
        let (from, stdout) = pipe();
        let (error, stderr) = pipe();
        let stdio = Stdio { stdin, stdout, stderr: Some(stderr) };
        let stream = self.bridge.start(spawn(&["x"], "/", None), stdio).expect("asked");
        (stream, Ends { to: Some(to), from, error })
    }
}

#[test]
fn what_was_never_asked_for_is_a_lie() {
    let lies = [
        (Message::Started { stream: 1, pid: 1 }, Lie::Stream),
        (Message::NotStarted { stream: 9, errno: 2, folder: false }, Lie::Stream),
        (Message::Exited { stream: 1, status: 0, alone: true }, Lie::Stream),
        (Message::Done { token: 1, errno: 0 }, Lie::Order),
        (Message::Stats { token: 0, stats: crate::microvm::wire::Stats::default() }, Lie::Order),
        (Message::Connect { stream: 5, to: "1.2.3.4:5".parse().expect("address") }, Lie::Stream),
        (Message::PowerOff, Lie::Kind(0x1f)),
    ];
    for (message, lie) in lies {
        assert_eq!(Liar::greeted().caught(&message), lie, "{message:?}");
    }
    let mut liar = Liar::greeted();
    let hello = Hello { version: VERSION, nonce: 1, kernel: String::new(), set_up: true, sessions: vec![] };
    assert_eq!(liar.caught(&Message::Hello(Box::new(hello))), Lie::Order);
    // After a lie nothing more is heard.
    liar.say(&Message::Ready);
    assert_eq!(liar.turn(), Event::Deadline);
}

#[test]
fn a_stream_is_opened_once() {
    let mut liar = Liar::greeted();
    liar.bridge.allow_net(true);
    let connect = Message::Connect { stream: GUEST_OPENED | 7, to: "127.0.0.1:1".parse().expect("address") };
    liar.say(&connect);
    liar.turn();
    assert_eq!(liar.caught(&connect), Lie::Stream);
}

#[test]
fn more_data_than_it_was_given_leave_for_is_a_lie() {
    let mut liar = Liar::greeted();
    let (stream, _ends) = liar.session();
    liar.say(&Message::Started { stream, pid: 2 });
    assert!(matches!(liar.turn(), Event::Started { .. }));
    let data = Message::Data { stream, lane: Lane::Error, bytes: vec![0; CHUNK] };
    // A pipe holds some, the window the rest; nobody reads.
    let most = SESSION_WINDOW as usize / CHUNK + 20;
    let lied = (0..most).any(|_| {
        liar.say(&data);
        matches!(liar.turn(), Event::Lied(Lie::Credit))
    });
    assert!(lied);
    let mut liar = Liar::greeted();
    let (stream, _ends) = liar.session();
    let credit = Message::Credit { stream, lane: Lane::Main, bytes: SESSION_WINDOW };
    assert_eq!(liar.caught(&credit), Lie::Credit, "leave beyond the window");
    let (mut liar, data) = (Liar::greeted(), vec![1]);
    let (stream, _ends) = liar.session();
    liar.say(&Message::Eof { stream, lane: Lane::Main });
    assert_eq!(liar.caught(&Message::Data { stream, lane: Lane::Main, bytes: data }), Lie::Order);
}

#[test]
fn the_net_is_shut_until_it_is_opened_and_the_cubes_own_loopback_always() {
    let mut liar = Liar::greeted();
    let connect =
        |n: u32, to: &str| Message::Connect { stream: GUEST_OPENED | n, to: to.parse().expect("address") };
    let refused = |n: u32, errno: i32| Message::Reset { stream: GUEST_OPENED | n, errno };
    liar.say(&connect(1, "198.18.0.1:80"));
    liar.turn();
    assert_eq!(liar.heard(), [refused(1, libc::ENETUNREACH)]);
    liar.bridge.allow_net(true);
    for (n, to) in
        (2..).zip(["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80", "192.0.0.8:80"])
    {
        liar.say(&connect(n, to));
        liar.turn();
        assert_eq!(liar.heard(), [refused(n, libc::ECONNREFUSED)], "{to}");
    }
}

#[test]
fn a_guest_that_asks_and_never_listens_is_not_listened_to() {
    let mut liar = Liar::greeted();
    // Each is answered by a refusal that the liar does not read.
    let mut bytes = Vec::new();
    for n in 1..400_000 {
        let to = "198.18.0.1:80".parse().expect("address");
        Message::Connect { stream: GUEST_OPENED | n, to }.encode(&mut bytes);
    }
    let mut rest = &bytes[..];
    let mut stuck = 0;
    while !rest.is_empty() && stuck < 5 {
        match rustix::io::write(&liar.channel, &rest[..rest.len().min(65_536)]) {
            Ok(count) => (rest, stuck) = (&rest[count..], 0),
            Err(_) => stuck += 1,
        }
        liar.turn();
    }
    assert!(stuck == 5, "it was listened to for ever");
    assert!(liar.bridge.link.connections() <= CONNECTIONS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn hostile_frames_never_panic(
        frames in proptest::collection::vec(
            (0x20_u8..0x36, prop_oneof![0_u32..4, any::<u32>()], proptest::collection::vec(any::<u8>(), 0..24)),
            1..60),
    ) {
        let mut liar = Liar::greeted();
        let (_stream, _ends) = liar.session();
        let mut bytes = Vec::new();
        for (kind, stream, body) in frames {
            bytes.push(kind);
            bytes.extend(stream.to_le_bytes());
            bytes.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
            bytes.extend(body);
        }
        let _written = rustix::io::write(&liar.channel, &bytes);
        for _ in 0..80 {
            match liar.bridge.turn(&[], Some(Instant::now() + Duration::from_millis(1))).expect("a turn") {
                Event::Lied(_) | Event::Closed | Event::Deadline => break,
                _ => {}
            }
        }
    }
}
