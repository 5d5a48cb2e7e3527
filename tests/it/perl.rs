//! Raw system calls from inside a cube, through the perl that every Debian has: independent of the program's own
//! probe, so that one mistake cannot hide in both.

use std::collections::BTreeMap;
use std::process::Stdio;

use crate::env::{Env, Output, PATIENCE, finish, skip};

/// Each argument is `LABEL NUMBER ARGS…`; prints `LABEL ANSWER`, the answer being OK, an error's name, a signal or HANG.
const CALLS: &str = r#"
use Errno; $| = 1;
sub number { my $t = shift; return $t =~ /^0x/ ? hex($t) : $t =~ /^-?\d+$/ ? $t + 0 : "$t\0"; }
for my $row (@ARGV) {
  my ($label, @words) = split ' ', $row;
  pipe(my $r, my $w);
  my $pid = fork();
  if (!$pid) {
    my @n = map { number($_) } @words;
    my $top = $$;
    alarm 5;
    my $result = syscall($n[0], @n[1..$#n]);
    exit 0 if $$ != $top;
    my ($error) = $result == -1 ? sort grep { $!{$_} } keys %! : ("OK");
    syswrite($w, $error // "errno" . ($! + 0));
    kill 9, $$;
  }
  close $w;
  my $said = join '', <$r>;
  waitpid($pid, 0);
  my $signal = $? & 127;
  $said = $signal == 14 ? "HANG" : "SIG$signal" if $said eq "";
  print "$label $said\n";
}
"#;

/// Makes the calls in one cube; the answers by label. `None` where there is no perl.
pub(crate) fn calls(env: &Env, options: &[&str], rows: &[String]) -> Option<BTreeMap<String, String>> {
    let mut args = vec!["run", "host"];
    args.extend_from_slice(options);
    args.extend_from_slice(&["--", "perl", "-e", CALLS]);
    args.extend(rows.iter().map(String::as_str));
    let output = env.tripmine(args);
    (output.code != 127).then(|| answers(&output, rows))
}

/// The same in a bubblewrap without a filter: what the calls lead to when nobody refuses them. `None` where there is no
/// bubblewrap, or it may not work.
pub(crate) fn calls_without_filter(rows: &[String]) -> Option<BTreeMap<String, String>> {
    let mut command = std::process::Command::new("bwrap");
    command.args([
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
    ]);
    command.args(["--tmpfs", "/tmp", "--", "perl", "-e", CALLS]).args(rows);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command.spawn().ok()?, PATIENCE);
    (output.code == 0).then(|| answers(&output, rows))
}

fn answers(output: &Output, rows: &[String]) -> BTreeMap<String, String> {
    let answers: BTreeMap<String, String> = output
        .ok(0)
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(label, answer)| (label.to_owned(), answer.to_owned()))
        .collect();
    assert_eq!(answers.len(), rows.len(), "{output:?}");
    answers
}

/// One call and the answers that are good, `|` between them.
pub(crate) type Row = (&'static str, &'static str, &'static str);

/// Makes the calls of `rows` (label, call, good answers) and compares.
#[track_caller]
pub(crate) fn check(test: &str, env: &Env, options: &[&str], rows: &[Row]) {
    let lines: Vec<String> = rows.iter().map(|(label, call, _)| format!("{label} {call}")).collect();
    let Some(answers) = calls(env, options, &lines) else {
        return skip(test, "there is no perl in /usr");
    };
    let wrong = wrong(rows, &answers);
    assert!(wrong.is_empty(), "{options:?}: {}", wrong.join("; "));
}

/// The rows whose answer is not good, from answers by label.
pub(crate) fn wrong(rows: &[Row], answers: &BTreeMap<String, String>) -> Vec<String> {
    rows.iter()
        .filter(|(label, _, good)| !good.split('|').any(|good| answers[*label] == good))
        .map(|(label, call, good)| format!("{label} ({call}): {}, not {good}", answers[*label]))
        .collect()
}
