//! `tripmine image snapshot`: what a cube changed becomes an image, and cubes start from it.

use serde_json::Value;

use crate::env::{Env, PATIENCE, is_root, skip, until};
use crate::pty::Pty;

/// Launches a cube that runs `script`, says when it is through, and goes on with `then`.
fn running(env: &Env, options: &[&str], script: &str, then: &str) -> String {
    let script = format!("{script}\ntouch /tmp/ready; {then}");
    let output = env.tripmine([&["run", "host", "-d"], options, &["--", "/bin/sh", "-c", &script]].concat());
    let id = output.ok(0).to_owned();
    until("the script is through", PATIENCE, || {
        env.tripmine(["exec", &id, "--", "test", "-e", "/tmp/ready"]).code == 0
    });
    id
}

const MAKE: &str = "mkdir -p /opt/x/deep /opt/x/m && cd /opt/x && echo hi > f && ln f g && ln -s f l && rm /etc/fstab && \
    truncate -s 10M sparse && cp /bin/true suid && chmod 4755 suid && chmod 2750 m && touch -d @1000000000 f && mkfifo p && \
    rm -r /var/log && mkdir /var/log && echo home > ~/not-in-it && echo x > /tmp/not-in-it && echo x > /run/not-in-it && \
    echo 'nameserver 1.2.3.4' > /etc/resolv.conf";

const LOOK: &str = "cd /opt/x && stat -c '%a %h %s %Y %n' f g suid m && cat g && readlink l && test -p p && \
    stat -c '%s %b' sparse && test ! -e /etc/fstab && ls /var/log | wc -l && ls ~ /tmp /run && cat /etc/resolv.conf";

/// What a launch from the image finds.
fn look(env: &Env, image: &str) {
    let found = env.tripmine(["run", image, "--ephemeral", "--", "/bin/sh", "-c", LOOK]);
    let text = found.ok(0);
    for part in ["644 2 3 1000000000 f\n644 2 3 1000000000 g\n4755 1", "2750 2", "hi\nf\n10485760 0\n0\n"] {
        assert!(text.contains(part), "`{part}`: {text}");
    }
    assert!(!text.contains("1.2.3.4"), "{text}");
    // The home is the machine's: it is there because of that, not because of the image.
    assert_eq!(text.matches("not-in-it").count(), 1, "{text}");
}

#[test]
fn a_running_cube_stands_still_for_a_moment_and_becomes_an_image() {
    let env = Env::new();
    let id = running(&env, &[], MAKE, "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done");
    let taken = env.tripmine(["image", "snapshot", "dev", &id, "--json"]);
    let value: Value = serde_json::from_str(taken.ok(0)).unwrap();
    assert_eq!(value["image"], "dev");
    assert!(value["frozen_ms"].as_f64().unwrap() > 0.0, "{value}");
    // It goes on.
    let count = || env.tripmine(["exec", &id, "--", "cat", "/tmp/count"]).stdout;
    let before = count();
    until("it goes on", PATIENCE, || count() != before);
    env.tripmine(["kill", &id]).ok(0);
    look(&env, "dev");
    let shown = env.tripmine(["image", "show", "dev"]);
    for part in
        ["dev.tripmine.source.machine=default", "dev.tripmine.base=host", "dev.tripmine.source.image=host"]
    {
        assert!(shown.ok(0).contains(part), "`{part}`: {}", shown.stdout);
    }
    env.tripmine(["image", "check"]).ok(0);
}

#[test]
fn a_kept_cube_becomes_an_image_after_its_end_and_images_grow() {
    let env = Env::new();
    env.inside_with(&["--keep", "box"], MAKE).ok(0);
    assert_eq!(env.tripmine(["image", "snapshot", "dev", "box"]).ok(0), "dev");
    look(&env, "dev");
    // On top of it, and by the same name: the old one keeps its number.
    let more = ["-i", "dev", "--keep", "more", "--shell", "-T"];
    let output = env.tripmine_with(&more, b"echo 2 > /opt/x/f; rm -r /opt/x/deep; echo new > /opt/new\n");
    output.ok(0);
    env.tripmine(["image", "snapshot", "dev", "more"]).ok(0);
    let two = env.tripmine(["run", "dev", "--", "/bin/sh", "-c", "cat /opt/new /opt/x/f; ls /opt/x"]);
    assert!(two.ok(0).starts_with("new\n2\n") && !two.stdout.contains("deep"), "{}", two.stdout);
    look(&env, "dev@1");
    // What an image's cube changed is told against the image.
    let changed = env.tripmine(["changes", "more"]);
    assert_eq!(changed.ok(0), "A /opt/new  4B\nD /opt/x/deep/\nM /opt/x/f  content, 2B");
    env.tripmine(["rm", "--yes", "box", "more"]).ok(0);
}

#[test]
fn what_a_kept_cube_left_is_packed_once_and_unpacked_when_it_is_needed() {
    let env = Env::new();
    env.inside_with(&["--keep", "box"], MAKE).ok(0);
    let taken = env.tripmine(["image", "snapshot", "one", "box"]);
    taken.ok(0);
    assert!(!taken.stderr.contains("stood still"), "{}", taken.stderr);
    env.tripmine(["image", "snapshot", "two", "box"]).ok(0);
    let layer = |image: &str| {
        let shown = env.tripmine(["image", "show", image]).ok(0).to_owned();
        shown.lines().rfind(|line| line.starts_with("layer")).unwrap().to_owned()
    };
    // The same changes are the same layer.
    assert_eq!(layer("one"), layer("two"));
    assert!(layer("one").contains("not unpacked yet"), "{}", layer("one"));
    look(&env, "one");
    assert!(!layer("two").contains("not unpacked yet"), "{}", layer("two"));
    // What a running cube is copied to holds the same.
    let again = ["--keep", "box", "--shell", "-T"];
    env.tripmine_with(&again, b"true\n").ok(0);
    env.tripmine(["image", "snapshot", "three", "box"]).ok(0);
    assert_eq!(layer("one"), layer("three"));
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

/// Whatever a cube does meanwhile, its image is what it was at one moment.
#[test]
fn a_running_cube_is_taken_as_it_is_at_one_moment() {
    let env = Env::new();
    // Enough that the first look takes a while; then a folder that is renamed, a file that is replaced, one that is written
    // in place, one that comes and goes, and a link, all of which tell the same number.
    let many = "mkdir -p /opt/many /opt/t/d1 && cd /opt/many && i=0; while [ $i -lt 3000 ]; do echo $i > f$i; i=$((i+1)); done";
    let churn = "cd /opt/t; echo 1 > d1/n; i=1; while :; do j=$((i+1)); mv d$i d$j; echo $j > d$j/n; echo $j > new; mv new whole; \
        : > gone$j; rm -f gone$i; ln -sfn $j link; i=$j; done";
    let id = running(&env, &[], many, churn);
    for round in 0..6 {
        let image = format!("moment{round}");
        let taken = env.tripmine(["image", "snapshot", &image, &id, "--json"]);
        let value: Value = serde_json::from_str(taken.ok(0)).unwrap();
        assert!(value["frozen_ms"].as_f64().unwrap() > 0.0, "{value}");
        let look = "cd /opt/t; ls -d d*; cat d*/n whole 2>/dev/null; readlink link; ls -d gone*; ls /opt/many | wc -l; \
            cd /opt/many; n=0; for f in f*; do read x < $f; [ f$x = $f ] && n=$((n+1)); done; echo $n";
        let found = env.tripmine(["run", &image, "--", "/bin/sh", "-c", look]);
        let lines: Vec<&str> = found.ok(0).lines().collect();
        let digits =
            |line: &str| line.trim_start_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap();
        let (end, here) = (lines.len() - 2, digits(lines[0]));
        assert_eq!(lines[end..], ["3000", "3000"], "{lines:?}");
        // A file that is being written may be empty at that moment.
        assert!((4..=7).contains(&end), "{lines:?}");
        for line in &lines[..end] {
            assert!((here - 1..=here + 1).contains(&digits(line)), "{lines:?}");
        }
        assert_eq!(lines.iter().filter(|line| line.starts_with('d')).count(), 1, "{lines:?}");
    }
    env.tripmine(["image", "check"]).ok(0);
    env.tripmine(["kill", &id]).ok(0);
}

/// What is written through a mapping sets no time that tells of it.
#[test]
fn what_a_running_cube_writes_through_a_mapping_comes_along() {
    let name = "what_a_running_cube_writes_through_a_mapping_comes_along";
    let env = Env::new();
    if env.inside("python3 -c 'import mmap'").code != 0 {
        return skip(name, "there is no python3 inside");
    }
    let script = "cat > /opt/w.py <<'E'\nimport mmap, os\nopen('/opt/m', 'wb').write(bytes(4096))\nf = open('/opt/m', 'r+b')\n\
        m = mmap.mmap(f.fileno(), 4096)\ng = os.open('/opt/g', os.O_RDWR | os.O_CREAT)\ni = 0\nwhile True:\n  i += 1\n\
        \x20 m[:8] = i.to_bytes(8, 'little')\n  os.pwrite(g, i.to_bytes(8, 'little'), 0)\n  if i == 1000: open('/tmp/goes', 'w')\nE\n\
        mkdir /opt/many; i=0; while [ $i -lt 2000 ]; do echo $i > /opt/many/f$i; i=$((i+1)); done";
    let id = running(&env, &[], script, "exec python3 /opt/w.py");
    until("it writes", PATIENCE, || env.tripmine(["exec", &id, "--", "test", "-e", "/tmp/goes"]).code == 0);
    // Nothing of before counts as changed since any more, but what is mapped.
    std::thread::park_timeout(std::time::Duration::from_millis(2500));
    env.tripmine(["image", "snapshot", "mapped", &id]).ok(0);
    env.tripmine(["kill", &id]).ok(0);
    let read = "import sys\na, b = [int.from_bytes(open('/opt/' + n, 'rb').read(8), 'little') for n in 'mg']\nprint(a - b, b > 1000)";
    let found = env.tripmine(["run", "mapped", "--", "python3", "-c", read]);
    assert!(["0 True", "1 True"].contains(&found.ok(0)), "{found:?}");
}

#[test]
fn what_looks_like_a_secret_is_asked_about() {
    let env = Env::new();
    // Put together inside, so that no scanner takes this file for a leak.
    let script = "printf 'AK%sABCDEFGHIJKLMNOP\\n' IA > /opt/key; mkdir -p /opt/a; echo x > /opt/a/.netrc";
    let id = running(&env, &[], script, "exec sleep 600");
    let refused = env.tripmine(["image", "snapshot", "dev", &id]);
    refused.fails(1, "put 2 files that look like secrets into the image?");
    for part in ["/opt/key (an AWS access key)", "/opt/a/.netrc (passwords for hosts)"] {
        assert!(refused.stderr.contains(part), "`{part}`: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("ABCDEF"), "the secret itself is not shown");
    env.tripmine(["image", "show", "dev"]).fails(1, "dev");
    env.tripmine(["image", "snapshot", "dev", &id, "--yes"]).ok(0);
    env.tripmine(["kill", &id]).ok(0);
}

#[test]
fn machines_are_made_of_and_moved_to_it() {
    let env = Env::new();
    env.tripmine(["machine", "create", "work"]).ok(0);
    let id = running(&env, &["-m", "work"], "echo 1 > /opt/mine", "exec sleep 600");
    env.tripmine(["image", "snapshot", "dev", "-m", "work", "--create-machine", "work"]).fails(1, "already");
    env.tripmine(["image", "snapshot", "dev", "-m", "work", "--create-machine", "lab"]).ok(0);
    env.tripmine(["image", "snapshot", "dev", &id, "--update-machine", "work"]).ok(0);
    env.tripmine(["image", "snapshot", "dev", "-m", "none"]).fails(1, "no cube runs on the machine `none`");
    env.tripmine(["kill", &id]).ok(0);
    for machine in ["lab", "work"] {
        let found = env.tripmine_with(&["-m", machine, "--shell", "-T"], b"cat /opt/mine\n");
        assert_eq!(found.ok(0), "1", "{machine}");
    }
    env.tripmine(["image", "snapshot", "dev", &id]).fails(1, "went with it");
}

#[test]
fn shells_with_work_in_the_foreground_notice_nothing() {
    let env = Env::new();
    let script = "set -m; sleep 1000 & sleep 1000 & jobs > /tmp/before";
    let id = running(&env, &[], script, "sleep 5; jobs > /tmp/after; exec sleep 600");
    env.tripmine(["image", "snapshot", "dev", &id]).ok(0);
    until("it goes on", PATIENCE, || env.tripmine(["exec", &id, "--", "test", "-s", "/tmp/after"]).code == 0);
    let states = env.tripmine(["exec", &id, "--", "cat", "/tmp/before", "/tmp/after"]);
    assert!(!states.ok(0).contains("Stopped"), "{}", states.stdout);
    env.tripmine(["kill", &id]).ok(0);
}

#[test]
fn what_changed_in_the_hosts_own_folders_comes_along() {
    if !is_root() {
        return skip(
            "what_changed_in_the_hosts_own_folders_comes_along",
            "only root's cubes may write there",
        );
    }
    let env = Env::new();
    let script =
        "printf '#!/bin/sh\\necho mine\\n' > /usr/bin/mytool && chmod 755 /usr/bin/mytool && rm /usr/bin/yes";
    env.inside_with(&["--user", "root", "--keep", "box"], script).ok(0);
    assert_eq!(env.tripmine(["changes", "box"]).ok(0), "A /usr/bin/mytool  20B\nD /usr/bin/yes");
    env.tripmine(["image", "snapshot", "dev", "box"]).ok(0);
    for (user, writes) in [("me", "no"), ("root", "yes")] {
        let script = "mytool; test -e /usr/bin/yes || echo gone; test -e /usr/bin/env && touch /usr/x 2>/dev/null && echo yes || echo no";
        let output = env.tripmine(["run", "dev", "--user", user, "--", "/bin/sh", "-c", script]);
        assert_eq!(output.ok(0), format!("mine\ngone\n{writes}"), "{user}");
    }
    assert!(
        std::path::Path::new("/usr/bin/yes").exists() && !std::path::Path::new("/usr/bin/mytool").exists()
    );
    env.tripmine(["rm", "--yes", "box"]).ok(0);
}

#[test]
fn a_throwaway_that_changed_its_system_asks_on_a_terminal() {
    let env = Env::new();
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", "echo hi > /etc/new"]);
    pty.wait_for("[D]iscard?");
    pty.type_text("s\r");
    pty.wait_for("A /etc/new");
    pty.type_text("k\r");
    pty.wait_for("name of the image:");
    pty.type_text("asked\r");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    assert_eq!(env.tripmine(["run", "asked", "--", "cat", "/etc/new"]).ok(0), "hi");
    // The default drops it, a cube that changed nothing is not asked about, and neither is one without a terminal.
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "/bin/sh", "-c", "echo hi > /etc/new"]);
    pty.wait_for("[D]iscard?");
    pty.type_text("\r");
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    let mut pty = Pty::tripmine(&env, &["run", "host", "--", "true"]);
    assert_eq!(pty.wait_exit(PATIENCE), 0);
    assert!(!pty.shown().contains("iscard"));
    env.inside("echo hi > /etc/new").ok(0);
}
