//! What is said is heard, however it is cut; what is not to be said is refused, whatever the bytes.

use proptest::prelude::*;

use super::*;
use crate::jail::spawn::SpawnSpec;

fn spec() -> SpawnSpec {
    SpawnSpec::new(&["ls".into(), "-l".into()], &[], "/x").expect("no NUL")
}

fn from_host() -> Vec<Message> {
    let mount = |kind, target: &str| Mount {
        kind,
        source: "root".into(),
        target: target.into(),
        read_only: target != "/",
    };
    let setup = Setup {
        hostname: "cube".into(),
        mounts: vec![mount(MountKind::Virtiofs, "/"), mount(MountKind::Tmpfs, "/tmp")],
        net: Net::Captured,
        time: 1 << 60,
        seed: vec![7; 64],
        pids: 4096,
        open_files: 1 << 16,
    };
    let spawn = Spawn {
        spec: spec(),
        identity: Identity { uid: 1000, gid: 100, capabilities: 1 << 40 },
        terminal: Some((24, 80)),
    };
    let token = 9;
    vec![
        Message::Setup(Box::new(setup)),
        Message::Time { nanoseconds: u64::MAX },
        Message::Reseed { seed: vec![1; 32] },
        Message::Spawn { stream: 1, spawn: Box::new(spawn.clone()) },
        Message::Spawn { stream: 2, spawn: Box::new(Spawn { terminal: None, ..spawn }) },
        Message::Adopt { stream: 1 },
        Message::Resize { stream: 1, rows: 50, cols: 132 },
        Message::Signal { stream: ALL_SESSIONS, signal: 15 },
        Message::Dial { stream: 3, port: 8080, six: true },
        Message::DialPath { stream: 5, path: b"/run/x.sock".to_vec() },
        Message::Answer { token, packet: vec![0; QUERY_MAX] },
        Message::WatchPorts { every: 500 },
        Message::Freeze { token },
        Message::Thaw { token },
        Message::Sync { token },
        Message::Hold { token, on: true },
        Message::DropCaches { token },
        Message::AskStats { token },
        Message::PowerOff,
    ]
}

fn from_guest() -> Vec<Message> {
    let stream = GUEST_OPENED | 5;
    let token = 77;
    vec![
        Message::Ready,
        Message::Failed { step: "mounting the root".into(), errno: 2 },
        Message::Started { stream: 1, pid: 42 },
        Message::NotStarted { stream: 1, errno: 2, folder: true },
        Message::Exited { stream: 1, status: 256, alone: false },
        Message::Connect { stream, to: "198.18.0.1:443".parse().expect("address") },
        Message::Query { token, packet: vec![3; 40] },
        Message::Ports(vec![Listener { address: "127.0.0.1".parse().expect("address"), port: 80 }]),
        Message::Done { token, errno: 0 },
        Message::Stats { token, stats: Stats { memory: 1, available: 2, processes: 3 } },
        Message::Log("hello".into()),
    ]
}

fn from_both() -> Vec<Message> {
    vec![
        Message::Opened { stream: 4 },
        Message::Data { stream: 4, lane: Lane::Main, bytes: vec![5; CHUNK] },
        Message::Eof { stream: 4, lane: Lane::Error },
        Message::Shut { stream: 4, lane: Lane::Main },
        Message::Credit { stream: 4, lane: Lane::Main, bytes: 4096 },
        Message::Reset { stream: 4, errno: 104 },
    ]
}

fn hello(nonce: u64) -> Message {
    Message::Hello(Box::new(Hello {
        version: VERSION,
        nonce,
        kernel: "6.1".into(),
        set_up: false,
        sessions: vec![1, 3],
    }))
}

fn greet(nonce: u64) -> Message {
    Message::Greet(Greeting { version: VERSION, nonce })
}

fn bytes(messages: &[Message]) -> Vec<u8> {
    let mut all = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut all));
    all
}

fn heard(decoder: &mut Decoder, bytes: &[u8], piece: usize) -> Result<Vec<Message>, Lie> {
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while let Some(message) = decoder.message()? {
            all.push(message);
        }
    }
    Ok(all)
}

#[test]
fn what_is_said_is_heard_however_it_is_cut() {
    for (side, first, mut words) in
        [(Side::Guest, greet(5), from_host()), (Side::Host, hello(5), from_guest())]
    {
        words.extend(from_both());
        words.insert(0, first);
        let said = bytes(&words);
        for piece in [1, 7, 4096, said.len()] {
            assert_eq!(heard(&mut Decoder::new(side, 5), &said, piece).expect("no lie"), words);
        }
    }
}

#[test]
fn everything_before_the_greeting_is_skipped_and_an_answer_to_another_is_none() {
    let mut noise = vec![0x02; 40];
    noise.extend(b"TrMv\x01\x02TrMv".repeat(9));
    let said = [noise, bytes(&[hello(4)]), bytes(&[hello(5), Message::Ready])].concat();
    for piece in [1, 3, said.len()] {
        let heard = heard(&mut Decoder::new(Side::Host, 5), &said, piece).expect("no lie");
        assert_eq!(heard, [hello(5), Message::Ready], "{piece}");
    }
    let mut guest = Decoder::new(Side::Guest, 0);
    let torn = [bytes(&[greet(1)]), bytes(&from_host())[..20].to_vec()].concat();
    assert_eq!(heard(&mut guest, &torn, 64).expect("no lie"), [greet(1)]);
    guest.start_over();
    assert_eq!(heard(&mut guest, &bytes(&[greet(2)]), 64).expect("no lie"), [greet(2)]);
}

#[test]
fn no_side_hears_what_is_its_own_to_say() {
    let refused = |side, first: Message, message: &Message| {
        let mut decoder = Decoder::new(side, 5);
        heard(&mut decoder, &bytes(&[first, message.clone()]), 4096).is_err()
    };
    for message in from_host() {
        assert!(refused(Side::Host, hello(5), &message), "{message:?}");
    }
    for message in from_guest() {
        assert!(refused(Side::Guest, greet(5), &message), "{message:?}");
    }
}

#[test]
fn lengths_beyond_a_kind_are_refused_before_they_are_waited_for() {
    for (at, message) in from_guest().iter().chain(&from_both()).enumerate() {
        let mut said = bytes(&[hello(5), message.clone()]);
        let head = bytes(&[hello(5)]).len();
        said[head + 5..head + HEAD].copy_from_slice(&u32::MAX.to_le_bytes());
        let lie = heard(&mut Decoder::new(Side::Host, 5), &said[..head + HEAD], 4096);
        assert!(matches!(lie, Err(Lie::Length { .. })), "{at}: {lie:?}");
    }
}

#[test]
fn fields_that_are_cut_off_or_left_over_are_refused() {
    for message in from_guest().into_iter().chain([hello(5)]) {
        let whole = bytes(std::slice::from_ref(&message));
        let (kind, stream) = (whole[0], u32::from_le_bytes([whole[1], whole[2], whole[3], whole[4]]));
        let body = &whole[HEAD..];
        assert_eq!(payload::decode(kind, stream, body), Some(message.clone()));
        for end in 0..body.len() {
            assert_eq!(payload::decode(kind, stream, &body[..end]), None, "{message:?} cut at {end}");
        }
        assert_eq!(payload::decode(kind, stream, &[body, &[0]].concat()), None, "{message:?}");
    }
    let long = Message::Log("é".repeat(2000));
    let told = heard(&mut Decoder::new(Side::Host, 5), &bytes(&[hello(5), long]), 4096).expect("cut to fit");
    assert!(matches!(&told[1], Message::Log(text) if text.len() <= 1024 && text.starts_with("éé")));
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_nor_pile_up(
        frames in proptest::collection::vec(
            (any::<u8>(), any::<u32>(), prop_oneof![0_u32..200, any::<u32>()],
             proptest::collection::vec(any::<u8>(), 0..200)), 0..40),
        piece in 1_usize..300,
    ) {
        let mut said = bytes(&[hello(5)]);
        for (kind, stream, length, body) in frames {
            said.push(kind % 0x40);
            said.extend(stream.to_le_bytes());
            said.extend(length.to_le_bytes());
            said.extend(body);
        }
        for side in [Side::Host, Side::Guest] {
            let mut decoder = Decoder::new(side, 5);
            for piece in said.chunks(piece) {
                decoder.push(piece);
                while let Ok(Some(_)) = decoder.message() {}
                prop_assert!(decoder.buffer.len() <= FROM_HOST + HEAD + 300);
            }
        }
    }

    #[test]
    fn bodies_of_every_kind_are_total(
        kind in any::<u8>(), stream in any::<u32>(), body in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        if let Some(message) = payload::decode(kind, stream, &body) {
            let mut again = Vec::new();
            message.encode(&mut again);
            let once_more = payload::decode(again[0], stream, &again[HEAD..]);
            // A zero-row terminal is none, whatever its columns.
            prop_assert!(once_more == Some(message) || kind == 0x13);
        }
    }
}
