//! The whole screen in this process: its real loop over a real engine on a folder of its own, typed at by a script. Only
//! the terminal is not the kernel's: its input is a pipe, and what is drawn is shown by our own model of a terminal.

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use ratatui::buffer::Buffer;

use super::super::edge::{Woken, wait};
use super::super::frames::Frames;
use super::super::join::Joined;
use super::super::keymap::Keymap;
use super::super::look::Look;
use super::super::mailbox::{Bell, mailbox};
use super::super::model::Setup;
use super::*;
use crate::config::screen::GlyphSet;
use crate::model::Name;
use crate::store::themes;
use crate::term::Screen;

/// A machine that does much else may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the loop did to its terminal.
struct Seen {
    screen: Screen,
    /// When frames were written.
    frames: Vec<Instant>,
    /// How often the loop woke up.
    woken: usize,
    /// What the terminal was handed to, and what was typed ahead.
    joined: Vec<(String, Vec<u8>)>,
    /// How often it was taken again, with its input dropped or not.
    again: Vec<bool>,
    stopped: usize,
    mouse: Vec<bool>,
    copied: Vec<String>,
    size: (u16, u16),
    signals: VecDeque<i32>,
}

type Shared = Arc<(Mutex<Seen>, Condvar)>;

struct Scripted {
    input: std::io::PipeReader,
    bell: Bell,
    frames: Frames,
    seen: Shared,
}

impl Scripted {
    fn see<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        let result = look(&mut self.seen.0.lock().expect("seen"));
        self.seen.1.notify_all();
        result
    }
}

impl Edge for Scripted {
    fn wait(&mut self, bell: &Bell, patience: Option<Duration>, input: bool) -> Result<Woken, Failure> {
        let woken = wait(self.input.as_fd(), self.bell.as_fd(), bell, patience, input);
        self.see(|seen| seen.woken += 1);
        woken
    }

    fn read(&mut self, space: &mut [u8]) -> Option<usize> {
        rustix::io::read(&self.input, space).ok().filter(|count| *count > 0)
    }

    fn signal(&mut self) -> Option<i32> {
        self.bell.hush();
        self.see(|seen| seen.signals.pop_front())
    }

    fn draw(&mut self, render: &dyn Fn(&mut Buffer) -> Zones) -> Zones {
        let (zones, bytes) = self.frames.draw(render);
        if !bytes.is_empty() {
            self.see(|seen| {
                let _replies = seen.screen.feed(&bytes);
                seen.frames.push(Instant::now());
            });
        }
        zones
    }

    fn resized(&mut self) -> (u16, u16) {
        let size = self.see(|seen| seen.size);
        self.frames.forget(size);
        size
    }

    fn mouse(&mut self, on: bool) {
        self.see(|seen| seen.mouse.push(on));
    }

    fn copy(&mut self, text: &str, _: bool) {
        self.see(|seen| seen.copied.push(text.to_owned()));
    }

    fn join(&mut self, _: &Engine, request: &Request, ahead: &[u8]) -> Result<Joined, Failure> {
        self.see(|seen| seen.joined.push((request.command_line(), ahead.to_vec())));
        Ok(Joined { text: "it was joined".into(), runs_on: None, hung_up: false, question: None })
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.see(|seen| seen.stopped += 1);
        Ok(())
    }

    fn again(&mut self, afresh: bool) -> Result<(), Failure> {
        self.see(|seen| seen.again.push(afresh));
        Ok(())
    }
}

/// Whoever sits at it.
struct Person {
    keys: Option<std::io::PipeWriter>,
    bell: Bell,
    seen: Shared,
    mailbox: Mailbox,
    app: Option<JoinHandle<Result<u8, Failure>>>,
    folder: tempfile::TempDir,
}

impl Person {
    fn sits_down(columns: u16, rows: u16) -> Self {
        Self::with(columns, rows, &[])
    }

    /// With these projects there already.
    fn with(columns: u16, rows: u16, projects: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for project in projects {
            let path = folder.path().join("user/projects").join(project);
            std::fs::create_dir_all(&path).expect("a project");
            // So old that its age says the same for as long as a test takes.
            let old = std::time::SystemTime::now() - Duration::from_secs(500_000);
            std::fs::File::open(&path).and_then(|folder| folder.set_modified(old)).expect("aged");
        }
        let engine = Engine::in_folder(folder.path());
        let seen = Seen {
            screen: Screen::new(rows, columns, 0),
            frames: Vec::new(),
            woken: 0,
            joined: Vec::new(),
            again: Vec::new(),
            stopped: 0,
            mouse: Vec::new(),
            copied: Vec::new(),
            size: (columns, rows),
            signals: VecDeque::new(),
        };
        let seen: Shared = Arc::new((Mutex::new(seen), Condvar::new()));
        let (input, keys) = std::io::pipe().expect("a pipe");
        let bell = Bell::new().expect("a bell");
        let (mailbox, inbox) = mailbox().expect("a mailbox");
        let edge = Scripted {
            input,
            bell: bell.clone(),
            frames: Frames::new((columns, rows)),
            seen: Arc::clone(&seen),
        };
        let own = mailbox.clone();
        let app = std::thread::spawn(move || {
            let machine = Name::default_machine();
            let setup = Setup {
                theme: "default".into(),
                glyphs: GlyphSet::Unicode,
                mouse: true,
                leader: Some("Ctrl-]".into()),
                themes: vec!["default".into(), "mono".into()],
            };
            let look = Look::new(&themes::safe(), GlyphSet::Unicode, Depth::Sixteen);
            let mut model = Model::new((columns, rows), machine.clone(), setup, Keymap::new(&[]).0);
            model.now_ms = now_ms();
            let watch = Watch::start(engine.clone(), machine, own.clone()).expect("a thread");
            let start = Start { model, look, depth: Depth::Sixteen, ahead: Vec::new() };
            App::new(&engine, start, edge, (own, inbox), watch).run()
        });
        Self { keys: Some(keys), bell, seen, mailbox, app: Some(app), folder }
    }

    /// Waits until what was done is so.
    fn until<T>(&self, what: &str, done: impl Fn(&mut Seen) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock().expect("seen");
        loop {
            if let Some(found) = done(&mut seen) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never came: {what}\n{}", seen.screen.text().join("\n"));
            seen = self.seen.1.wait_timeout(seen, left).expect("seen").0;
        }
    }

    fn shows(&self, text: &str) {
        self.until(text, |seen| seen.screen.text().join("\n").contains(text).then_some(()));
    }

    fn gone(&self, text: &str) {
        self.until(text, |seen| (!seen.screen.text().join("\n").contains(text)).then_some(()));
    }

    fn types(&mut self, text: &str) {
        self.keys.as_mut().expect("at the keys").write_all(text.as_bytes()).expect("typed");
    }

    /// Answers a question once it listens.
    fn answers(&mut self, key: &str) {
        self.shows("enter leaves it");
        self.types(key);
    }

    fn signals(&self, signal: i32) {
        self.seen.0.lock().expect("seen").signals.push_back(signal);
        self.bell.ring();
    }

    fn resizes(&self, columns: u16, rows: u16) {
        let mut seen = self.seen.0.lock().expect("seen");
        seen.size = (columns, rows);
        seen.screen.resize(rows, columns);
        drop(seen);
        self.signals(libc::SIGWINCH);
    }

    fn counts(&self) -> (usize, usize) {
        let seen = self.seen.0.lock().expect("seen");
        (seen.frames.len(), seen.woken)
    }

    /// Waits until nothing happens any more.
    fn rests(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.counts();
        loop {
            std::thread::park_timeout(Duration::from_millis(400));
            let now = self.counts();
            if now == before {
                return;
            }
            assert!(Instant::now() < deadline, "it never rests: {now:?}");
            before = now;
        }
    }

    /// The exit code, once it has ended.
    fn ends(&mut self) -> u8 {
        let deadline = Instant::now() + PATIENCE;
        while self.app.as_ref().is_some_and(|app| !app.is_finished()) {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.app.take().expect("once").join().expect("no panic").expect("a code")
    }
}

#[test]
fn what_is_typed_is_done_and_shown() {
    let mut person = Person::sits_down(120, 30);
    person.shows("no such folder yet");
    person.types("n");
    person.shows("new project: its name");
    person.types("shop\r");
    // The engine made it, the watch saw it, the loop drew it.
    person.shows("made project `shop`");
    person.shows("projects › shop");
    assert!(person.folder.path().join("user/projects/shop").is_dir());
    person.types("X");
    person.answers("d");
    person.shows("no projects yet");
    assert!(!person.folder.path().join("user/projects/shop").exists());
    person.types("u");
    person.shows("projects › shop");
    // Every change is in the log, as its command line.
    person.types("@");
    person.shows("tripmine undo");
    person.shows("tripmine project rm -m default --yes shop");
    // A lone escape waits for what may follow it, and then is one.
    person.types("\x1b");
    person.gone("command log");
    person.types("q");
    assert_eq!(person.ends(), 0);
}

#[test]
fn an_idle_screen_draws_nothing_and_never_wakes() {
    let person = Person::with(120, 30, &["site", "notes"]);
    person.shows("notes");
    person.rests();
    let before = person.counts();
    std::thread::park_timeout(Duration::from_secs(2));
    assert_eq!(person.counts(), before, "frames, and times that it woke up");
    // And yet it hears of what happens: a folder made by somebody else is on the screen at once.
    let begun = Instant::now();
    std::fs::create_dir(person.folder.path().join("user/projects/another")).expect("made");
    person.shows("another");
    println!("a new project was shown after {:?}", begun.elapsed());
}

#[test]
fn news_is_drawn_thirty_times_a_second_and_keys_at_once() {
    let mut person = Person::with(120, 30, &["site", "notes"]);
    std::fs::create_dir_all(person.folder.path().join("data/homes/default")).expect("a home");
    person.types("1R");
    person.shows("0B in 0 files");
    person.rests();
    let mailbox = person.mailbox.clone();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut turn = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                turn += 1;
                // Each shows another size of the home.
                mailbox.send(Msg::Measured("home default".into(), format!("{turn} bytes of home")));
            }
            turn
        })
    };
    person.shows("bytes of home");
    let (frames, _) = person.counts();
    let begun = Instant::now();
    std::thread::park_timeout(Duration::from_secs(1));
    let drawn = person.counts().0 - frames;
    let most = usize::try_from(begun.elapsed().as_millis() / FRAME.as_millis()).expect("few") + 2;
    assert!(drawn <= most, "{drawn} frames, {most} at most");
    assert!(drawn > 2, "news was not drawn at all: {drawn}");
    let mut delays: Vec<Duration> = (0..10)
        .map(|turn| {
            let begun = Instant::now();
            person.types(if turn % 2 == 0 { "?" } else { "\x1b" });
            if turn % 2 == 0 {
                person.shows("help: machines")
            } else {
                person.gone("help: machines")
            }
            begun.elapsed()
        })
        .collect();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let sent = flood.join().expect("flooded");
    delays.sort();
    println!("{sent} messages, {drawn} frames a second, keys {delays:?}");
    assert!(sent > 1000, "no flood: {sent}");
    assert!(delays[5] < Duration::from_millis(250), "{delays:?}");
    person.types("q");
    assert_eq!(person.ends(), 0);
}

#[test]
fn the_terminal_goes_to_the_cube_with_what_was_typed_ahead() {
    let mut person = Person::with(120, 30, &["site"]);
    person.shows("site");
    // In one breath: the key that hands over, and what is meant for the cube.
    person.types("Secho q\r");
    let (command, ahead) = person.until("it is joined", |seen| seen.joined.first().cloned());
    assert_eq!((command.as_str(), ahead.as_slice()), ("tripmine -m default --shell site", &b"echo q\r"[..]));
    // Nothing of it was a key of ours, and the screen is whole again.
    person.shows("it was joined");
    person.shows("projects › site");
    assert!(person.until("taken again", |seen| seen.again.first().copied()), "what was typed at it is gone");
    person.types("q");
    assert_eq!(person.ends(), 0);
}

#[test]
fn sizes_and_signals() {
    let mut person = Person::with(120, 30, &["alpha", "beta", "gamma"]);
    person.shows("gamma");
    person.types("jj");
    person.shows("projects › gamma");
    let before = person.counts().0;
    for turn in 0..200_u16 {
        person.resizes(20 + turn % 150, 5 + turn % 50);
    }
    person.resizes(100, 24);
    person.shows("projects › gamma");
    person.rests();
    let drawn = person.counts().0 - before;
    assert!(drawn < 100, "a storm of sizes is not a storm of frames: {drawn}");
    person.resizes(30, 5);
    person.shows("40x10 needed");
    person.resizes(40, 10);
    person.shows("gamma");
    // Stopped as a shell stops its jobs, and continued.
    person.types("\x1a");
    person.until("it stops", |seen| (seen.stopped == 1 && seen.again == [false]).then_some(()));
    person.signals(libc::SIGTERM);
    assert_eq!(person.ends(), 143);
}

#[test]
fn what_is_copied_goes_to_the_terminal_and_the_mouse_back() {
    let mut person = Person::with(120, 30, &["site"]);
    person.shows("site");
    person.types("M");
    person.until("the mouse is left", |seen| (seen.mouse == [false]).then_some(()));
    if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
        person.types("y");
        let copied = person.until("copied", |seen| seen.copied.first().cloned());
        assert!(copied.ends_with("user/projects/site"), "{copied}");
        person.shows("via your terminal");
    }
    // The other end of the terminal is gone.
    person.keys = None;
    assert_eq!(person.ends(), HUNG_UP);
}
