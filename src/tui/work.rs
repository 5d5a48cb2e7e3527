//! What is done beside the loop: requests, plans, sizes, logs, what our own commands print.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::clipboard::{Helper, hand_over};
use super::errand::{self, Cancel};
use super::join::totals;
use super::layer::{PAGE_MAX, PageLine};
use super::mailbox::Mailbox;
use super::model::Loud;
use super::msg::{Drafted, Msg, Planned};
use super::setup::fresh;
use super::sheet::JAILS;
use super::text::clean;
use super::update::clock;
use crate::engine::request::Request;
use crate::engine::snapshot::{self, Draft};
use crate::engine::{Engine, environment, forward, launch, net, prune};
use crate::model::sanitize::printable_bytes;
use crate::model::{ByteSize, Failure, Name, TripId};
use crate::plan::Typed;
use crate::plan::explain::explain;
use crate::store::cubes;
use crate::store::log::{LogFilter, LogReader, LogRecord, Stream};
use crate::store::usage::usage;
use crate::term::filter::plain;

/// Lines of a page that are sent at once.
const BATCH: usize = 500;
/// The most that a command of ours may print into a page, in bytes.
const PRINTED_MAX: u64 = 4 << 20;
/// Between looks whether a followed cube still lives.
const GLANCE: Duration = Duration::from_millis(250);

/// Runs `work` in a thread of its own; a panic in it is an answer too.
fn spawn(name: &str, mailbox: &Mailbox, work: impl FnOnce() -> Msg + Send + 'static, lost: Msg) {
    let mailbox_for_work = mailbox.clone();
    let body = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        mailbox_for_work.send(result.unwrap_or(lost));
    };
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(body) {
        let failure = Failure::failed("cannot start a thread").because(&error);
        mailbox.send(Msg::Back(Err(failure)));
    }
}

fn broken() -> Failure {
    Failure::failed("this went wrong inside tripmine").hint("`tripmine` on the command line may say more")
}

pub(super) fn carry(engine: &Engine, number: usize, request: Request, mailbox: &Mailbox) {
    let engine = engine.clone();
    let work = move || {
        // What is launched follows the configuration as it is now.
        let engine = match &request {
            Request::Launch(_) => fresh(&engine),
            _ => Ok(engine),
        };
        Msg::Done(number, engine.and_then(|engine| engine.carry_out(&request)))
    };
    spawn("request", mailbox, work, Msg::Done(number, Err(broken())));
}

/// The same for what may take long, and may be broken off.
pub(super) fn errand(number: usize, request: Request, cancel: Cancel, mailbox: &Mailbox) {
    let told = mailbox.clone();
    let tell = move |progress| {
        told.send(Msg::Progress(number, progress));
    };
    let work = move || Msg::Done(number, errand::run(&request, &cancel, tell));
    spawn("errand", mailbox, work, Msg::Done(number, Err(broken())));
}

/// What was copied of a cube for an image, until it is decided on.
pub(super) type DraftSlot = Arc<Mutex<Option<Draft>>>;

fn take(slot: &DraftSlot) -> Option<Draft> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Makes the image of what was shown.
pub(super) fn carry_draft(
    engine: &Engine,
    number: usize,
    request: Request,
    slot: &DraftSlot,
    mailbox: &Mailbox,
) {
    let (engine, held) = (engine.clone(), take(slot));
    let work = move || {
        let result = match (&request, held) {
            (Request::Snapshot { cube, name, machine }, Some(draft)) if draft.ground.id == *cube => {
                engine.keep_snapshot(&draft, name, machine)
            }
            _ => engine.carry_out(&request),
        };
        Msg::Done(number, result)
    };
    spawn("request", mailbox, work, Msg::Done(number, Err(broken())));
}

/// Lets what was copied go, beside the loop: it may be much.
pub(super) fn drop_draft(slot: &DraftSlot) {
    if let Some(draft) = take(slot) {
        let _started = std::thread::Builder::new().name("draft".into()).spawn(move || drop(draft));
    }
}

/// Lines of each kind that are shown of a draft.
const SHOWN: usize = 5;

pub(super) fn draft(engine: &Engine, id: TripId, name: String, slot: &DraftSlot, mailbox: &Mailbox) {
    let (engine, slot, lost) = (engine.clone(), Arc::clone(slot), (id.clone(), name.clone()));
    let work = move || {
        // There is one at a time.
        drop(take(&slot));
        let drafted = cubes::load(&engine.layout.mines_dir(), &id)
            .map_err(Failure::from)
            .and_then(|entry| snapshot::draft(&engine, &entry));
        let shown = drafted.map(|draft| {
            let shown = drafted_lines(&draft);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(draft);
            shown
        });
        Msg::Drafted(id, name, shown)
    };
    spawn("draft", mailbox, work, Msg::Drafted(lost.0, lost.1, Err(broken())));
}

fn drafted_lines(draft: &Draft) -> Drafted {
    let frozen = draft
        .frozen
        .map(|time| format!("; the cube stood still for {:.1} ms", time.as_secs_f64() * 1000.0))
        .unwrap_or_default();
    let size = ByteSize::bytes(draft.bytes);
    let changes = if draft.entries == 1 { "change" } else { "changes" };
    let mut lines = vec![format!("{} {changes}, {size}{frozen}", draft.entries)];
    for (path, size) in draft.largest.iter().take(SHOWN) {
        lines.push(format!("{:>8}  /{}", ByteSize::bytes(*size).to_string(), printable_bytes(path)));
    }
    for (what, list) in [("left out", &draft.left_out), ("LOOKS LIKE A SECRET", &draft.secrets)] {
        for (path, why) in list.iter().take(SHOWN) {
            lines.push(format!("{what}: /{} ({why})", printable_bytes(path)));
        }
        if list.len() > SHOWN {
            lines.push(format!("{what}: and {} more", list.len() - SHOWN));
        }
    }
    Drafted { lines: lines.iter().map(|line| clean(line)).collect(), secrets: draft.secrets.len() }
}

/// What listens in a cube, to choose from.
pub(super) fn ports(engine: &Engine, id: TripId, mailbox: &Mailbox) {
    let (engine, lost) = (engine.clone(), id.clone());
    let work = move || {
        let found = cubes::load(&engine.layout.mines_dir(), &id)
            .map_err(Failure::from)
            .and_then(|entry| forward::ports(&entry.record.map_err(Failure::from)?));
        Msg::Ports(id, true, found)
    };
    spawn("ports", mailbox, work, Msg::Ports(lost, true, Err(broken())));
}

/// What a cube was denied, to decide on.
pub(super) fn denials(engine: &Engine, id: TripId, mailbox: &Mailbox) {
    let (engine, lost) = (engine.clone(), id.clone());
    let work = move || {
        let dir = engine.layout.mines_dir().join(id.as_str()).join("log");
        Msg::Denials(id, true, net::denials(&dir))
    };
    spawn("denials", mailbox, work, Msg::Denials(lost, true, Err(broken())));
}

pub(super) fn plan(engine: &Engine, number: u64, typed: Typed, mailbox: &Mailbox) {
    let engine = engine.clone();
    let work = move || {
        let planned = fresh(&engine).and_then(|engine| launch::plan(&engine, &typed, Vec::new(), true));
        let planned = planned.map(|planned| Planned {
            lines: explain(&planned.plan).iter().map(|line| clean(line)).collect(),
            warnings: planned.plan.warnings.iter().map(|warning| clean(warning)).collect(),
            settings: planned.plan.settings.iter().map(|set| (set.key.clone(), clean(&set.value))).collect(),
        });
        Msg::Planned(number, planned)
    };
    spawn("plan", mailbox, work, Msg::Planned(number, Err(broken())));
}

/// Which jails `typed` can have: each is planned, so that what is said of it is what a launch would say.
pub(super) fn offers(engine: &Engine, typed: Typed, mailbox: &Mailbox) {
    let engine = engine.clone();
    let work = move || {
        let refusal = |word: &str| -> Option<Failure> {
            let jail = word.parse().map_err(|_| Failure::usage("there is no such jail")).ok()?;
            let mut typed = typed.clone();
            typed.settings.jail = Some(jail);
            launch::plan(&engine, &typed, Vec::new(), true).err()
        };
        Msg::Offers(JAILS.iter().map(|word| ((*word).to_owned(), refusal(word))).collect())
    };
    spawn("offers", mailbox, work, Msg::Offers(Vec::new()));
}

/// Gives a text to a clipboard's program, which may take its time.
pub(super) fn copy(helper: Helper, text: String, mailbox: &Mailbox) {
    let lost = Msg::NotTaken(text.clone());
    let work = move || match hand_over(&helper, &text) {
        Ok(()) => Msg::Copied(Ok(format!("copied {} bytes via {}", text.len(), helper.name))),
        Err(_) => Msg::NotTaken(text),
    };
    spawn("copy", mailbox, work, lost);
}

/// Measures what a cube changed (`changes ID`), `home NAME`, `project NAME` (of `machine`) or `cube ID`.
pub(super) fn measure(engine: &Engine, machine: &Name, what: String, mailbox: &Mailbox) {
    let (engine, machine, lost) = (engine.clone(), machine.clone(), what.clone());
    let work = move || {
        if let Some(id) = what.strip_prefix("changes ") {
            let text = changes(&engine, id).unwrap_or_else(|| "—".to_owned());
            return Msg::Measured(what, text);
        }
        if what == "prune" {
            let doomed = prune::look(&engine, None, prune::usual(&engine));
            return Msg::Measured(what, doomed.map_or_else(|_| "—".to_owned(), |doomed| doomed.text()));
        }
        let path = match what.split_once(' ') {
            Some(("home", name)) => Name::parse(name).ok().map(|name| engine.layout.home(&name)),
            Some(("project", name)) => engine.projects_root(&machine).ok().map(|root| root.join(name)),
            Some(("cube", id)) => Some(engine.layout.mines_dir().join(id).join("system-copy")),
            _ => None,
        };
        let size = match path {
            // A link goes, not what it leads to.
            Some(path) if path.is_symlink() => "the link only".to_owned(),
            Some(path) => usage(&path).text(),
            None => "—".to_owned(),
        };
        Msg::Measured(what, size)
    };
    spawn("measure", mailbox, work, Msg::Measured(lost, "—".into()));
}

fn changes(engine: &Engine, id: &str) -> Option<String> {
    let entry = cubes::load(&engine.layout.mines_dir(), &TripId::parse(id).ok()?).ok()?;
    let (system, project) = totals(engine, &entry).ok()?;
    let mut text = if system.is_empty() { "nothing in its system".to_owned() } else { system.text() };
    if !project.is_empty() {
        text.push_str(&format!("; under review: {}", project.text()));
    }
    Some(text)
}

/// What fills a page; it stops when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Filling(Arc<AtomicBool>);

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends the log of a cube, then what it goes on to print.
pub(super) fn log(engine: &Engine, id: TripId, mailbox: &Mailbox) -> Filling {
    let (engine, mailbox, filling) = (engine.clone(), mailbox.clone(), Filling::default());
    let stop = Arc::clone(&filling.0);
    let body = move || {
        let mines = engine.layout.mines_dir();
        let mut reader = LogReader::open(&mines.join(id.as_str()).join("log"), LogFilter::default());
        reader.watch();
        let mut printer = Lines::default();
        let result = (|| -> std::io::Result<()> {
            for record in reader.tail(PAGE_MAX)? {
                printer.take(&record);
            }
            mailbox.send(Msg::Lines(printer.done.drain(..).collect()));
            while !stop.load(Ordering::Relaxed) {
                let lives = cubes::load(&mines, &id).is_ok_and(|entry| entry.live);
                while let Some(record) = reader.next_record()? {
                    printer.take(&record);
                    if printer.done.len() >= BATCH {
                        // More than a page holds would only push itself out again.
                        let last = printer.done.len().saturating_sub(PAGE_MAX);
                        mailbox.send(Msg::Lines(printer.done.drain(..).skip(last).collect()));
                    }
                    if stop.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                }
                if !lives {
                    printer.end();
                }
                if !printer.done.is_empty() {
                    mailbox.send(Msg::Lines(printer.done.drain(..).collect()));
                }
                if !lives {
                    return Ok(());
                }
                reader.wait(GLANCE);
            }
            Ok(())
        })();
        if let Err(error) = result {
            let text = clean(&format!("cannot read the log: {error}"));
            mailbox.send(Msg::Lines(vec![PageLine { text, loud: Some(Loud::Error), ..PageLine::default() }]));
        }
    };
    // Without a thread the page stays empty, and says that it looks.
    let _started = std::thread::Builder::new().name("log".into()).spawn(body);
    filling
}

/// Chunks of output as lines; standard error and terminal apart, each with its own unfinished line.
#[derive(Default)]
struct Lines {
    open: [Option<(u64, Vec<u8>)>; 3],
    done: Vec<PageLine>,
}

/// The longest line that is kept whole, in bytes.
const LINE_MAX: usize = 16 * 1024;

impl Lines {
    fn take(&mut self, record: &LogRecord) {
        if record.dropped > 0 {
            let text = format!("{} bytes were lost here: the disk was full", record.dropped);
            self.done.push(PageLine { text, loud: Some(Loud::Warn), ..PageLine::default() });
        }
        let index = record.stream as usize;
        for part in record.data.split_inclusive(|byte| *byte == b'\n') {
            let (time, line) = self.open[index].get_or_insert_with(|| (record.unix_ms, Vec::new()));
            let time = *time;
            line.extend_from_slice(&part[..part.len().min(LINE_MAX.saturating_sub(line.len()))]);
            if part.ends_with(b"\n") {
                let whole = std::mem::take(line);
                self.open[index] = None;
                self.push(time, record.stream, &whole);
            }
        }
    }

    /// What had no line end yet.
    fn end(&mut self) {
        for (index, stream) in [(0, Stream::Tty), (1, Stream::Out), (2, Stream::Err)] {
            if let Some((time, rest)) = self.open[index].take() {
                self.push(time, stream, &rest);
            }
        }
    }

    fn push(&mut self, time: u64, stream: Stream, line: &[u8]) {
        // Of what was written over itself, the last.
        let line = line.trim_ascii_end();
        let line = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
        let mut harmless = Vec::new();
        plain(line, &mut harmless);
        let text = without_colours(&String::from_utf8_lossy(&harmless));
        let mark = if stream == Stream::Err { "! " } else { "" };
        self.done.push(PageLine {
            time: clock(time),
            mark,
            text: clean(&text.replace('\t', "    ")),
            loud: None,
        });
    }
}

/// Without the colours that the filter leaves in.
fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("\x1b[") {
        out.push_str(&rest[..start]);
        rest = rest[start..].find('m').map_or("", |end| &rest[start + end + 1..]);
    }
    out.push_str(rest);
    out
}

/// Runs one of our own commands and sends what it prints: the page is what the command line would have shown.
pub(super) fn run(verb: &'static str, words: Vec<String>, mailbox: &Mailbox) -> Filling {
    let (mailbox, filling) = (mailbox.clone(), Filling::default());
    let stop = Arc::clone(&filling.0);
    let body = move || {
        let printed = || -> Result<Vec<u8>, Failure> {
            let fail = |error: &std::io::Error| {
                Failure::failed(format!("cannot run `tripmine {verb}`")).because(error)
            };
            // What it says belongs to what it prints: why it could not, how many there were.
            let (reader, writer) = std::io::pipe().map_err(|error| fail(&error))?;
            let said = writer.try_clone().map_err(|error| fail(&error))?;
            let mut child = Command::new(environment::own_program()?)
                .arg(verb)
                .args(&words)
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(writer)
                .stderr(said)
                .spawn()
                .map_err(|error| fail(&error))?;
            let mut bytes = Vec::new();
            reader.take(PRINTED_MAX).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
            // It has closed its output: it ends by itself, or was cut off.
            let _killed = child.kill();
            child.wait().map_err(|error| fail(&error))?;
            Ok(bytes)
        };
        let lines = match printed() {
            Ok(bytes) => String::from_utf8_lossy(&bytes).lines().take(PAGE_MAX).map(plain_line).collect(),
            Err(failure) => {
                vec![PageLine {
                    text: clean(&failure.to_string()),
                    loud: Some(Loud::Error),
                    ..PageLine::default()
                }]
            }
        };
        if !stop.load(Ordering::Relaxed) {
            mailbox.send(Msg::Lines(lines));
        }
    };
    let _started = std::thread::Builder::new().name("command".into()).spawn(body);
    filling
}

fn plain_line(line: &str) -> PageLine {
    PageLine { text: clean(line), ..PageLine::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_become_harmless_lines() {
        let mut lines = Lines::default();
        let record =
            |stream, data: &[u8]| LogRecord { unix_ms: 3_661_000, stream, data: data.to_vec(), dropped: 0 };
        lines.take(&record(Stream::Out, b"one\ntw"));
        lines.take(&record(Stream::Err, b"\x1b[31mbad\x1b[0m\x1b]52;c;x\x07\n"));
        lines.take(&record(Stream::Out, b"o\n10%\r50%\rdone\r\n\xff\x9b2J\tend"));
        lines.end();
        let shown: Vec<String> =
            lines.done.iter().map(|line| format!("{} {}{}", line.time, line.mark, line.text)).collect();
        assert_eq!(shown[..3], ["01:01:01 one", "01:01:01 ! bad", "01:01:01 two"]);
        assert_eq!(shown[3], "01:01:01 done");
        assert!(shown[4].ends_with("    end") && !shown[4].chars().any(char::is_control), "{shown:?}");
    }
}
