//! The only place that prints: data to stdout, talk to stderr. A reader that went away is success.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

use super::inspect::escape_invisible;
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};

/// Where text goes. What is shown is made printable here, so callers need not.
#[derive(Debug)]
pub struct Out {
    sink: Sink,
    /// The reader of stdout is gone: nothing more is written.
    closed: Cell<bool>,
    /// Writing failed otherwise, for example on a full disk.
    failed: RefCell<Option<String>>,
}

#[derive(Debug)]
enum Sink {
    Real,
    Captured(RefCell<(String, String)>),
}

/// How much of something is done, for a program that reads standard error. Any thread may say so.
pub fn progress_line(done: u64, total: Option<u64>) {
    let total = total.map_or_else(|| "-".to_owned(), |total| total.to_string());
    // Who does not listen any more need not be told.
    let _told = writeln!(io::stderr().lock(), "progress {done} {total}");
}

/// Says that a launch waits: layers of its image are unpacked, once.
pub fn unpacking(image: &str, bytes: u64) {
    let size = crate::model::ByteSize::bytes(bytes);
    Out::real().note(format!("unpacking `{image}` for its first launch: {size} of layers"));
}

impl Out {
    /// The process's own stdout and stderr.
    #[must_use]
    pub fn real() -> Self {
        Self::to(Sink::Real)
    }

    /// Keeps everything, for tests. It is no terminal.
    #[must_use]
    pub fn captured() -> Self {
        Self::to(Sink::Captured(RefCell::default()))
    }

    fn to(sink: Sink) -> Self {
        Self { sink, closed: Cell::new(false), failed: RefCell::new(None) }
    }

    /// What was captured: stdout and stderr.
    #[must_use]
    pub fn text(&self) -> (String, String) {
        match &self.sink {
            Sink::Real => Default::default(),
            Sink::Captured(text) => text.borrow().clone(),
        }
    }

    /// One line of data.
    pub fn line(&self, text: impl AsRef<str>) {
        self.data(&format!("{}\n", printable(text.as_ref())));
    }

    /// Lines of ours (help, a manual page), as they are.
    pub fn text_block(&self, text: &str) {
        self.data(text);
    }

    /// What `render` writes, as it is: it has made its text printable.
    ///
    /// # Errors
    /// What `render` could not write down.
    pub fn rendered(&self, render: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        let mut text = Vec::new();
        render(&mut text).map_err(|error| Failure::failed("cannot write the output").because(&error))?;
        self.bytes(&text);
        Ok(())
    }

    /// Stdout as a stream, for what has no end in sight. Writing fails once the reader is gone.
    #[must_use]
    pub const fn writer(&self) -> OutWriter<'_> {
        OutWriter(self)
    }

    /// A failure, as a person reads it: one line, then causes, then next steps.
    pub fn failure(&self, failure: &Failure) {
        self.note(format!("error: {}", failure.message.lines().next().unwrap_or_default()));
        for line in failure.message.lines().skip(1) {
            self.note(line);
        }
        for cause in &failure.causes {
            self.note(format!("  because: {cause}"));
        }
        for hint in &failure.hints {
            self.note(format!("hint: {hint}"));
        }
    }

    /// A value as JSON, whose strings a terminal does not act on.
    ///
    /// # Errors
    /// It cannot be written as JSON (a path that is no UTF-8).
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::failed("cannot write this as JSON").because(&error))?;
        self.data(&format!("{}\n", escape_invisible(&text)));
        Ok(())
    }

    /// Rows in columns as wide as their widest cell. Without rows nothing is printed.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let shown: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        let head: Vec<String> = head.iter().map(ToString::to_string).collect();
        let all = || std::iter::once(&head).chain(&shown);
        let width = |column: usize| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for row in all() {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.push_str(&" ".repeat(width.saturating_sub(cell.width()) + 2));
            }
            self.data(&format!("{}\n", line.trim_end()));
        }
    }

    /// One line of talk.
    pub fn note(&self, text: impl AsRef<str>) {
        let line = format!("{}\n", printable(text.as_ref()));
        match &self.sink {
            // Nobody can be told that stderr is gone.
            Sink::Real => drop(io::stderr().lock().write_all(line.as_bytes())),
            Sink::Captured(text) => text.borrow_mut().1.push_str(&line),
        }
    }

    /// True when nobody reads stdout any more: a loop may end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Whether all data arrived; to be asked once at the end.
    ///
    /// # Errors
    /// Writing failed, other than by a reader that went away.
    pub fn finish(&self) -> Result<(), Failure> {
        match self.failed.borrow().as_ref() {
            Some(cause) => Err(Failure::failed(format!("cannot write the output: {cause}"))),
            None => Ok(()),
        }
    }

    /// Asks on a terminal; `yes` answers beforehand.
    ///
    /// # Errors
    /// The answer is no, or there is neither a terminal nor `yes`.
    pub fn confirm(&self, question: &str, yes: bool) -> Result<(), Failure> {
        if yes {
            return Ok(());
        }
        if !self.can_ask() {
            return Err(Failure::new(FailureKind::Denied, format!("not confirmed: {question}"))
                .hint("there is no terminal to ask on: pass --yes"));
        }
        if self.ask(question) {
            Ok(())
        } else {
            Err(Failure::new(FailureKind::Denied, "not confirmed: nothing was changed"))
        }
    }

    /// True when a question can be asked.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        matches!(self.sink, Sink::Real) && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks a yes-or-no question whose default is no.
    #[must_use]
    pub fn ask(&self, question: &str) -> bool {
        let text = format!("{} [y/N] ", printable(question));
        let asked = io::stderr().lock().write_all(text.as_bytes());
        let mut answer = String::new();
        asked.is_ok()
            && io::stdin().lock().read_line(&mut answer).is_ok()
            && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Asks for a word; empty when nothing was typed or nobody answers.
    #[must_use]
    pub fn question(&self, question: &str) -> String {
        let mut answer = String::new();
        let text = format!("{} ", printable(question));
        let heard = self.can_ask()
            && io::stderr().lock().write_all(text.as_bytes()).is_ok()
            && io::stdin().lock().read_line(&mut answer).is_ok();
        if heard { answer.trim().to_owned() } else { String::new() }
    }

    /// Lets the user pick one of several rows on the terminal: its index. `None` when there is no
    /// terminal or nothing was picked.
    #[must_use]
    pub fn pick(&self, question: &str, rows: &[String]) -> Option<usize> {
        if !self.can_ask() {
            return None;
        }
        for (index, row) in rows.iter().enumerate() {
            self.note(format!("{:3}  {row}", index + 1));
        }
        let text = format!("{} [1-{}] ", printable(question), rows.len());
        io::stderr().lock().write_all(text.as_bytes()).ok()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).ok()?;
        let number: usize = answer.trim().parse().ok()?;
        (1..=rows.len()).contains(&number).then(|| number - 1)
    }

    fn data(&self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&self, text: &[u8]) {
        if self.closed.get() {
            return;
        }
        let written = match &self.sink {
            Sink::Real => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(text).and_then(|()| stdout.flush())
            }
            Sink::Captured(kept) => {
                kept.borrow_mut().0.push_str(&String::from_utf8_lossy(text));
                Ok(())
            }
        };
        if let Err(error) = written {
            self.closed.set(true);
            if error.kind() != ErrorKind::BrokenPipe {
                *self.failed.borrow_mut() = Some(error.to_string());
            }
        }
    }
}

/// Stdout as a stream: [`Out::writer`].
#[derive(Debug)]
pub struct OutWriter<'a>(&'a Out);

impl Write for OutWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes);
        if self.0.is_closed() { Err(ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_controls_are_shown() {
        let out = Out::captured();
        out.table(&["NAME", "X"], &[vec!["漢字abc".into(), "1".into()], vec!["a\x1b".into(), "2".into()]]);
        out.note("hm\x07");
        let (data, talk) = out.text();
        assert_eq!(data, "NAME     X\n漢字abc  1\na\\u{1b}  2\n");
        assert_eq!(talk, "hm\\u{7}\n");
        assert_eq!(out.finish(), Ok(()));
    }

    #[test]
    fn json_means_what_it_did_and_steers_nothing() {
        let out = Out::captured();
        let words = "\u{1b}]0;x\u{7}\u{9b}2J\u{7f}\u{202e}\u{e0041}ä";
        out.json(&serde_json::json!({ "label": words })).expect("written");
        let (data, _) = out.text();
        assert!(data.chars().all(|c| c == '\n' || printable(&c.to_string()) == c.to_string()), "{data:?}");
        let value: serde_json::Value = serde_json::from_str(&data).expect("json");
        assert_eq!(value["label"], words);
    }

    #[test]
    fn without_a_terminal_only_yes_confirms() {
        let out = Out::captured();
        assert_eq!(out.confirm("delete?", true), Ok(()));
        assert_eq!(out.confirm("delete?", false).expect_err("no terminal").kind, FailureKind::Denied);
    }
}
