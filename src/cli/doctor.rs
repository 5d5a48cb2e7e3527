//! `tripmine doctor`: what this host gives, what a lack costs and how to mend it. Exit code 0 when
//! a cube can start, else 1. Looks and tries; changes nothing.

use std::io::{self, Write};

use serde::Serialize;

use crate::host::probe;
use crate::model::host::HostFacts;
use crate::model::sanitize::printable;
use crate::plan::diagnose::{Finding, Matters, Verdict, diagnose, is_ready, works_in_place};

/// The arguments of `tripmine doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct DoctorArgs {
    /// Print the findings and the facts behind them as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Carries it out and returns the exit code. `user` is the login name, for commands to copy.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run(args: &DoctorArgs, user: &str, out: &mut dyn Write) -> io::Result<u8> {
    let facts = probe::all(user);
    let findings = diagnose(&facts);
    if args.json {
        render_json(&facts, &findings, out)?;
    } else {
        render(&facts, &findings, out)?;
    }
    Ok(u8::from(!is_ready(&findings)))
}

#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    ready: bool,
    findings: &'a [Finding],
    facts: &'a HostFacts,
}

fn render_json(facts: &HostFacts, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let report = Report { version: 1, ready: is_ready(findings), findings, facts };
    serde_json::to_writer_pretty(&mut *out, &report)?;
    writeln!(out)
}

/// A sign and a word each: colour is never needed to read it.
const fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✓ pass    ",
        Verdict::Fail => "✗ fail    ",
        Verdict::CouldNotTest => "? untested",
        Verdict::NotPromised => "- no promise",
    }
}

fn render(facts: &HostFacts, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let container =
        facts.container.as_deref().map(|sign| format!(", inside a container: {}", printable(sign)));
    writeln!(
        out,
        "Linux {}, {} of memory{}",
        printable(&facts.kernel.release),
        facts.memory_total,
        container.unwrap_or_default()
    )?;
    let width = findings.iter().map(|finding| finding.title.chars().count()).max().unwrap_or(0);
    let mut group = None;
    for finding in findings {
        if group != Some(finding.matters) {
            group = Some(finding.matters);
            writeln!(out, "\n{}", finding.matters.word())?;
        }
        let found = printable(&finding.found);
        writeln!(out, "  {}  {:width$}  {found}", sign(finding.verdict), finding.title)?;
        if finding.verdict != Verdict::Pass {
            writeln!(out, "      without it: {}", finding.what_it_costs)?;
            for fix in &finding.fix {
                writeln!(out, "      fix: {}", printable(fix))?;
            }
        }
    }
    let failed = |f: &Finding| f.matters == Matters::Essential && f.verdict == Verdict::Fail;
    let words = if is_ready(findings) {
        "a cube can start here"
    } else if works_in_place(findings) {
        "a cube can start here in place only: `--jail landlock`, or `--jail auto`"
    } else if findings.iter().any(failed) {
        "no cube can start here before what is essential is mended"
    } else {
        "whether a cube can start here could not be tested in full"
    };
    writeln!(out, "\n{words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, matters: Matters) -> Finding {
        Finding {
            id: "x",
            title: "a thing",
            verdict,
            matters,
            found: "seen\x1b[2J".to_owned(),
            what_it_costs: "much",
            fix: vec!["one".to_owned(), "two".to_owned()],
        }
    }

    fn text(findings: &[Finding]) -> String {
        let mut out = Vec::new();
        render(&probe::all("nobody"), findings, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_say_verdict_cost_and_fix_without_controls() {
        let shown = text(&[
            finding(Verdict::Pass, Matters::Essential),
            finding(Verdict::CouldNotTest, Matters::Essential),
            finding(Verdict::Fail, Matters::Later),
        ]);
        assert!(shown.contains("✓ pass      a thing  seen\\u{1b}[2J\n  ? untested"), "{shown}");
        assert!(shown.contains("without it: much\n      fix: one\n      fix: two\n"), "{shown}");
        assert!(shown.contains("could not be tested in full") && !shown.contains('\x1b'), "{shown}");
        assert!(text(&[finding(Verdict::Fail, Matters::Essential)]).contains("no cube can start"));
        assert!(text(&[finding(Verdict::Fail, Matters::Useful)]).contains("a cube can start here"));
    }

    #[test]
    fn json_has_a_version_and_the_exit_code_follows_readiness() {
        let mut out = Vec::new();
        let code = run(&DoctorArgs { json: true }, "nobody", &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["version"], 1);
        assert_eq!(value["ready"], code == 0);
        assert!(value["findings"].as_array().unwrap().len() > 10);
    }
}
