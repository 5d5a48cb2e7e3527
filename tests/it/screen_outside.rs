//! The screen and what leads out of a cube: forwards, the net, images of what it changed, the question on its end.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::env::{Env, PATIENCE, skip, until};
use crate::image_peers::has as has_tools;
use crate::image_registry::Registry;
use crate::image_root::import;
use crate::peers::Peer;
use crate::pty::Pty;
use crate::screen::{PROMPT, answer, leave, stop_all};

fn has(path: &str) -> bool {
    std::path::Path::new(path).exists()
}

#[test]
fn a_listener_is_forwarded_and_a_page_fetched_through_it() {
    if !has("/usr/bin/python3") {
        return skip("a_listener_is_forwarded_and_a_page_fetched_through_it", "there is no python3 in /usr");
    }
    let env = Env::new();
    let serve =
        "cd /tmp && echo hello-page > index.html && exec python3 -m http.server 18473 --bind 127.0.0.1";
    env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sh", "-c", serve]).ok(0);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.resize(40, 140);
    screen.wait_shown("1 running");
    screen.type_text("3");
    // What listens is seen in the detail.
    screen.wait_shown("18473 python3");
    screen.type_text("f");
    screen.wait_shown("forward into cube");
    screen.type_text("\r");
    screen.wait_shown("leads to port 18473");
    screen.wait_shown("forwards");
    let list = env.tripmine(["forward", "--list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(list.ok(0)).unwrap();
    let map = list["forwards"][0]["forward"]["map"].as_str().unwrap();
    let port: u16 = map.split(':').next().unwrap().parse().unwrap();
    let mut page = String::new();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("hello-page"), "{page}");
    // The address was given to the clipboard of the terminal.
    assert!(String::from_utf8_lossy(&screen.raw()).contains("\x1b]52;c;"));
    screen.type_text("F");
    screen.wait_shown("close a forward");
    screen.type_text("\r");
    screen.wait_shown("closed 127.0.0.1");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "closed, and yet it answers");
    leave(&mut screen);
    stop_all(&env);
}

#[test]
fn what_is_denied_is_told_allowed_and_tried_again() {
    if !has("/usr/bin/perl") {
        return skip("what_is_denied_is_told_allowed_and_tried_again", "there is no perl in /usr");
    }
    let (env, web) = (Env::new(), Peer::web());
    let script = format!(
        "while :; do perl -e 'use IO::Socket::INET; my $s = IO::Socket::INET->new(\"host.tripmine.internal:{0}\") \
         or exit; print $s \"GET / HTTP/1.0\\r\\n\\r\\n\"; my $a = join \"\", <$s>; \
         print \"GOT-HELLO\\n\" if $a =~ /hello/'; sleep 0.3; done",
        web.port()
    );
    let argv = ["run", "-d", "-t", "--allow", "unused.example:443", "host", "--", "/bin/sh", "-c", &script];
    env.tripmine(argv).ok(0);
    let mut screen = Pty::tripmine(&env, &[]);
    screen.resize(40, 140);
    screen.wait_shown("1 running");
    screen.type_text("3");
    screen.wait_shown("n decides");
    assert!(!screen.shown().contains("GOT-HELLO"));
    screen.type_text("n");
    screen.wait_shown("denied to cube");
    screen.type_text("\r");
    screen.wait_shown("this cube, until it ends");
    answer(&mut screen, "c");
    screen.wait_shown("may reach");
    // It tries again, and gets through.
    screen.wait_shown("GOT-HELLO");
    screen.type_text("@");
    screen.wait_shown(" --cube");
    screen.type_text("q");
    leave(&mut screen);
    assert!(!web.seen().is_empty());
    stop_all(&env);
}

#[test]
fn a_cube_becomes_an_image_and_a_launch_starts_from_it() {
    let env = Env::new();
    let script = "mkdir -p /opt/new && echo from-the-image > /opt/new/f && touch /tmp/ready; exec sleep 600";
    let id = env.tripmine(["run", "-d", "-t", "host", "--", "/bin/sh", "-c", script]).ok(0).to_owned();
    until("the script is through", PATIENCE, || {
        env.tripmine(["exec", &id, "--", "test", "-e", "/tmp/ready"]).code == 0
    });
    let mut screen = Pty::tripmine(&env, &[]);
    screen.resize(40, 140);
    screen.wait_shown("1 running");
    screen.type_text("3c");
    screen.wait_shown("from-the-image");
    screen.type_text("q");
    screen.wait_gone("changes of");
    screen.type_text("s");
    screen.wait_shown("its name");
    screen.type_text("dev\r");
    // What goes in is shown before anything is written.
    screen.wait_shown("make the image dev");
    screen.wait_shown("/opt/new/f");
    assert!(!env.tripmine(["image", "list"]).stdout.contains("dev"));
    answer(&mut screen, "y");
    screen.wait_shown("image `dev` is made");
    stop_all(&env);
    screen.type_text("4/dev\r");
    screen.wait_shown("1 layer");
    screen.wait_shown("machine default");
    screen.type_text("\r");
    screen.wait_shown("tripmine -m default -i dev");
    screen.wait_gone("planning");
    screen.type_text("\r");
    screen.wait_for("comes back, it runs on");
    screen.wait_for(":~");
    screen.type_text("cat /opt/new/f; exit\r");
    screen.wait_for("from-the-image");
    screen.wait_shown("has ended");
    screen.type_text("4X");
    answer(&mut screen, "d");
    screen.wait_shown("deleted `dev`");
    leave(&mut screen);
}

#[test]
fn a_throwaway_that_changed_its_system_asks_on_its_end() {
    let env = Env::new();
    env.project("site");
    let mut screen = Pty::tripmine(&env, &[]);
    screen.resize(40, 140);
    screen.wait_shown("site");
    screen.type_text("S");
    screen.wait_for(PROMPT);
    screen.type_text("echo kept > /opt/kept; exit\r");
    screen.wait_shown("keep what it changed?");
    screen.wait_shown("in its system: 1 added");
    screen.wait_shown("enter leaves it");
    screen.type_text("s");
    screen.wait_shown("A /opt/kept");
    screen.type_text("q");
    screen.wait_shown("keep what it changed?");
    screen.type_text("k");
    screen.wait_shown("its name");
    screen.type_text("kept\r");
    screen.wait_shown("make the image kept");
    screen.wait_shown("enter leaves it");
    screen.type_text("y");
    screen.wait_shown("image `kept` is made");
    screen.wait_gone("keep what it changed?");
    // Nothing holds the cube any more.
    until("the cube is gone", PATIENCE, || env.tripmine(["ps"]).stdout.lines().count() <= 1);
    let found = env.tripmine(["run", "kept", "--", "cat", "/opt/kept"]);
    assert_eq!(found.ok(0), "kept");
    // Discarding is the default.
    screen.type_text("2S");
    screen.wait_times(PROMPT, 2);
    screen.type_text("echo gone > /opt/gone; exit\r");
    screen.wait_shown("keep what it changed?");
    screen.wait_shown("enter leaves it");
    screen.type_text("\r");
    screen.wait_gone("keep what it changed?");
    leave(&mut screen);
    let list = env.tripmine(["image", "list"]).stdout;
    assert_eq!(list.matches("kept").count(), 1, "{list}");
}

/// What takes long says how far it is; and what hangs is broken off, or asks before it is left alone.
#[test]
fn an_image_comes_in_with_its_bytes_and_a_pull_that_hangs_is_broken_off() {
    let env = Env::new();
    let root = env.root().join("big");
    std::fs::create_dir_all(root.join("opt")).unwrap();
    std::fs::File::create(root.join("opt/zeroes")).unwrap().set_len(128 << 20).unwrap();
    let mut screen = Pty::tripmine(&env, &[]);
    screen.resize(30, 140);
    screen.wait_shown("1 machines");
    screen.type_text("4I");
    screen.wait_shown("/srv/root.tar");
    screen.type_text(&format!("{} big\r", root.display()));
    screen.wait_shown("importing");
    screen.wait_shown("of 128.0M");
    screen.wait_shown("`big` is ");
    screen.wait_gone("importing");
    // It accepts a connection and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    screen.type_text("P");
    screen.wait_shown("debian:12");
    screen.type_text(&format!("{}/app:1\r", silent.local_addr().unwrap()));
    screen.wait_shown("pulling");
    screen.type_text("q");
    screen.wait_shown("leave while a job is under way?");
    answer(&mut screen, "\r");
    screen.type_text("J");
    screen.wait_shown("under way: enter breaks it off");
    screen.type_text("\r");
    screen.wait_shown("was broken");
    screen.wait_gone("pulling");
    screen.type_text("@");
    screen.wait_shown("tripmine image import");
    screen.type_text("q");
    leave(&mut screen);
}

/// To a registry and back, by the same requests as the command's.
#[test]
fn an_image_is_pushed_and_pulled_again() {
    if !has_tools("an_image_is_pushed_and_pulled_again", &["docker-registry"]) {
        return;
    }
    let env = Env::new();
    let registry = Registry::start(&env, false);
    import(&env, "app", |_| {});
    let mut screen = Pty::tripmine(&env, &[]);
    screen.resize(30, 140);
    screen.wait_shown("1 machines");
    screen.type_text("4");
    screen.wait_shown("4 images");
    screen.type_text("/app\r");
    screen.wait_shown("images › app");
    screen.type_text("p");
    screen.wait_shown("push app to");
    screen.type_text(&format!("\x15http://{}/team/app:1\r", registry.host));
    screen.wait_shown("pushed `app`");
    screen.type_text("P");
    screen.wait_shown("debian:12");
    screen.type_text(&format!("http://{}/team/app:1\r", registry.host));
    screen.wait_shown("app:1` is ");
    screen.type_text("@");
    screen.wait_shown("tripmine image push -m default --plain-http app");
    screen.type_text("q");
    leave(&mut screen);
    let list = env.tripmine(["image", "list"]).stdout;
    assert!(list.contains("team/app:1"), "{list}");
}
