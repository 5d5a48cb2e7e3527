//! Tools that fetch things, a static program with a resolver of its own, dante and tor.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::env::{Env, PATIENCE, skip, until};
use crate::net_peers::{files, free_port, has, secret, server, via};
use crate::peers::Peer;

/// Makes a package for both, with their indices, beneath `outside`.
const PACKAGES: &str = r#"
import io, json, os, sys, tarfile, zipfile
os.chdir(sys.argv[1]); host = sys.argv[2]
os.makedirs('simple/tripnone')
wheel = 'tripnone-1.0-py3-none-any.whl'
with zipfile.ZipFile(f'simple/tripnone/{wheel}', 'w') as z:
    z.writestr('tripnone.py', 'print("a module")\n')
    z.writestr('tripnone-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: tripnone\nVersion: 1.0\n')
    z.writestr('tripnone-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    z.writestr('tripnone-1.0.dist-info/RECORD', 'tripnone.py,,\ntripnone-1.0.dist-info/METADATA,,\n'
               'tripnone-1.0.dist-info/WHEEL,,\ntripnone-1.0.dist-info/RECORD,,\n')
open('simple/tripnone/index.html', 'w').write(f'<a href="{wheel}">{wheel}</a>')
package = json.dumps({'name': 'tripnode', 'version': '1.0.0', 'main': 'index.js'}).encode()
os.mkdir('t')
with tarfile.open('t/tripnode-1.0.0.tgz', 'w:gz') as t:
    for name, body in (('package.json', package), ('index.js', b'console.log("a package")\n')):
        info = tarfile.TarInfo('package/' + name); info.size = len(body); t.addfile(info, io.BytesIO(body))
version = {'name': 'tripnode', 'version': '1.0.0', 'dist': {'tarball': f'http://{host}/t/tripnode-1.0.0.tgz'}}
open('tripnode', 'w').write(json.dumps({'name': 'tripnode', 'dist-tags': {'latest': '1.0.0'}, 'versions': {'1.0.0': version}}))
"#;

/// Runs `script` with `$1`, the index's place, once with a rule for it and once without.
fn from_an_index(name: &str, script: &str, good: &str) {
    let env = Env::new();
    let outside = env.root().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let Some((_server, port)) = files(&outside) else { return skip(name, "there is no python3") };
    let host = format!("host.tripmine.internal:{port}");
    let made = Command::new("python3").args(["-c", PACKAGES, outside.to_str().unwrap(), &host]).status();
    assert!(made.unwrap().success());
    let run = |rule: &str| {
        env.tripmine(["run", "host", "--allow", rule, "--", "/bin/sh", "-c", script, "sh", &host])
    };
    let output = run(&format!("127.0.0.1:{port}"));
    assert_eq!(output.ok(0).lines().last(), Some(good), "{output:?}");
    let denied = run("other.example");
    assert!(denied.code != 0 && denied.stderr.contains("net: denied"), "{denied:?}");
}

#[test]
fn pip_installs_from_an_index() {
    let name = "pip_installs_from_an_index";
    if !Path::new("/usr/lib/python3/dist-packages/pip").exists() {
        return skip(name, "there is no pip in /usr");
    }
    let script = "set -e; cd; rm -rf lib; /usr/bin/python3 -m pip install -q --no-cache-dir --disable-pip-version-check --retries 0 --timeout 8 \
                  --target lib --index-url \"http://$1/simple/\" --trusted-host \"${1%:*}\" tripnone >&2; PYTHONPATH=lib /usr/bin/python3 -m tripnone";
    from_an_index(name, script, "a module");
}

#[test]
fn npm_installs_from_a_registry() {
    let name = "npm_installs_from_a_registry";
    if !has("npm") || !has("node") {
        return skip(name, "there is no npm in /usr");
    }
    let script = "set -e; cd; rm -rf n; mkdir n; cd n; npm install --registry \"http://$1/\" --fetch-retries 0 --no-audit --no-fund \
                  --no-update-notifier tripnode >&2; node -e 'require(\"tripnode\")'";
    from_an_index(name, script, "a package");
}

/// No library of the system, a resolver of its own, no variable honoured: our own program is such a one.
#[test]
fn a_static_program_is_captured() {
    let env = Env::new();
    let (proxy, canary) = (Peer::socks(None), Peer::canary());
    let project = env.project("static");
    std::fs::copy(env.binary(), project.join("tm")).unwrap();
    let check = |rule: &str, port: u16| {
        let url = format!("socks5h://host.tripmine.internal:{port}");
        env.tripmine(["--allow", rule, "static", "--", "./tm", "proxy", "check", &url])
    };
    let output = check(&format!("127.0.0.1:{}", proxy.port()), proxy.port());
    assert!(output.ok(0).contains("SOCKS5"), "{output:?}");
    let denied = check("127.0.0.1:1", canary.port());
    assert!(denied.code != 0 && denied.stderr.contains("net: denied host.tripmine.internal"), "{denied:?}");
    assert_eq!(canary.seen(), Vec::<String>::new());
}

/// Dante with users and passwords of its own, as a system's administrator sets it up: it looks the name up, which nobody else
/// could, and lets in who says the right word. Its files of users and names are its own, in a mount namespace.
#[test]
fn dante_lets_in_who_has_the_word() {
    let name = "dante_lets_in_who_has_the_word";
    let Some(danted) =
        ["/usr/sbin/danted", "/usr/sbin/sockd"].into_iter().find(|path| Path::new(path).exists())
    else {
        return skip(name, "dante-server is not installed");
    };
    if !has("curl") {
        return skip(name, "there is no curl in /usr");
    }
    let env = Env::new();
    let folder = env.root().join("dante");
    std::fs::create_dir(&folder).unwrap();
    let at = |file: &str| folder.join(file).display().to_string();
    let port = free_port();
    let config = format!(
        "logoutput: {}\ninternal: 127.0.0.1 port = {port}\nexternal: lo\nclientmethod: none\nsocksmethod: username\n\
         user.privileged: root\nuser.unprivileged: root\nclient pass {{\n from: 127.0.0.0/8 to: 0.0.0.0/0\n}}\n\
         socks pass {{\n from: 127.0.0.0/8 to: 0.0.0.0/0\n protocol: tcp\n log: connect error\n}}\n",
        at("log")
    );
    for (file, text) in [
        ("config", config.as_str()),
        ("passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:0:0::/:/bin/sh\n"),
        // `s3cret`, as crypt(3) has it.
        (
            "shadow",
            "root:*:19000::::::\nann:$6$salt$DGAQW8l.nT4RCbPNEQZjx6ZZzjHy2eW5krORahM6YQzUbUKsZPuhNkX7AUpx1TMPuF37mzmXtWWdUw3tTKEd.1:19000::::::\n",
        ),
        ("hosts", "127.0.0.1 localhost web.only-dante-knows.example\n"),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    let script = "set -e; for file in passwd shadow hosts; do mount --bind \"$1/$file\" \"/etc/$file\"; done; exec \"$2\" -f \"$1/config\"";
    // Its processes go with the first of them.
    let spaces = ["--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"];
    let words = [&spaces[..], &["sh", "-c", script, "sh", folder.to_str().unwrap(), danted]].concat();
    let may = Command::new("unshare").args(spaces).arg("true").status();
    if !may.is_ok_and(|status| status.success()) {
        return skip(name, "a namespace with files of its own cannot be made");
    }
    let Some(_server) = server(port, "unshare", &words) else {
        return skip(name, "there is no unshare");
    };
    let web = Peer::web();
    secret(&env, "ann:s3cret\n");
    let proxy = format!("socks5h://127.0.0.1:{port}");
    let check = env.tripmine(["proxy", "check", &proxy]);
    assert!(check.ok(0).contains("wants a user name and password"), "{check:?}");
    via(&env, &proxy);
    let url = format!("http://web.only-dante-knows.example:{}/", web.port());
    let curl = || env.tripmine(["run", "host", "-m", "via", "--", "curl", "-sS", "-m", "8", &url]);
    assert_eq!(curl().ok(0), "hello from outside");
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    assert!(log.contains("username%ann"), "{log}");
    // Nobody listens there: its refusal is said, as what it is.
    let closed = format!("http://web.only-dante-knows.example:{}/", free_port());
    let refused = env.tripmine(["run", "host", "-m", "via", "--", "curl", "-sS", "-m", "8", &closed]);
    assert!(refused.stdout.contains("was refused by the other end"), "{refused:?}");
    for wrong in ["ann:wrong\n", "bob:s3cret\n"] {
        secret(&env, wrong);
        let output = curl();
        assert!(output.stdout.contains("did not accept the user name and password"), "{output:?}");
    }
    assert_eq!(web.seen().len(), 1);
}

/// Tor keeps streams with different users and passwords apart; it says itself that it was given a name.
#[test]
fn tor_is_given_names_and_who_asks() {
    let name = "tor_is_given_names_and_who_asks";
    let Some(tor) = ["/usr/sbin/tor", "/usr/bin/tor"].into_iter().find(|path| Path::new(path).exists())
    else {
        return skip(name, "tor is not installed");
    };
    let env = Env::new();
    let folder = env.root().join("tor");
    std::fs::create_dir(&folder).unwrap();
    let (port, log, control) = (free_port(), folder.join("log"), free_port());
    // Its only way out is a bridge that does not exist: nothing leaves this host.
    let config = format!(
        "DataDirectory {0}/data\nSocksPort 127.0.0.1:{port} IsolateSOCKSAuth\nControlPort 127.0.0.1:{control}\nCookieAuthentication 0\n\
         TestSocks 1\nSafeLogging 0\nUseBridges 1\nBridge 127.0.0.1:9\nLog notice file {1}\n",
        folder.display(),
        log.display()
    );
    std::fs::write(folder.join("torrc"), config).unwrap();
    let torrc = folder.join("torrc");
    let Some(_server) = server(port, tor, &["-f", torrc.to_str().unwrap(), "--defaults-torrc", "/dev/null"])
    else {
        return skip(name, "tor does not start");
    };
    let mut events = TcpStream::connect(("127.0.0.1", control)).unwrap();
    events.set_read_timeout(Some(PATIENCE)).unwrap();
    events.write_all(b"AUTHENTICATE\r\nSETEVENTS STREAM\r\n").unwrap();
    let mut events = BufReader::new(events);
    secret(&env, "s3cret\n");
    let proxy = format!("socks5h://cube-one@127.0.0.1:{port}");
    via(&env, &proxy);
    let id = env.tripmine(["run", "-d", "-m", "via", "host", "--", "sleep", "600"]).ok(0).to_owned();
    // A shell: it knows nothing of a proxy.
    let client = "exec 3<>/dev/tcp/www.example.com/80";
    let asked = env.tripmine(["exec", "-T", &id, "--", "bash", "-c", client]);
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    // In tor's words.
    let (by_name, by_address) = ("instructed Tor to take care of the DNS", "giving Tor only an IP address");
    until("tor was asked", PATIENCE, || said().contains("Your application"));
    env.tripmine(["kill", &id]).ok(0);
    assert!(said().contains(by_name) && !said().contains(by_address), "{asked:?} {}", said());
    // A stream of its own for this user, and nobody else's.
    let mut line = String::new();
    while !line.contains("NEW") {
        line.clear();
        assert!(events.read_line(&mut line).is_ok_and(|count| count > 0), "tor told of no stream");
    }
    assert!(line.contains("www.example.com:80"), "{line}");
    assert!(line.contains("SOCKS_USERNAME=\"cube-one\" SOCKS_PASSWORD=\"s3cret\""), "{line}");
}

/// A cube from an image asks the gateway for names as one from the host's own system does, whatever the image says.
#[test]
fn names_are_found_from_an_image_too() {
    let env = Env::new();
    let proxy = Peer::socks(None);
    let root = env.root().join("tiny");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::copy(env.binary(), root.join("bin/tm")).unwrap();
    std::fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    env.tripmine(["image", "import", root.to_str().unwrap(), "tiny"]).ok(0);
    let url = format!("socks5h://host.tripmine.internal:{}", proxy.port());
    let rule = format!("127.0.0.1:{}", proxy.port());
    let output = env.tripmine(["run", "--allow", &rule, "tiny", "--", "/bin/tm", "proxy", "check", &url]);
    assert!(output.ok(0).contains("SOCKS5"), "{output:?}");
    // Without a net they do not exist, at once.
    let begun = std::time::Instant::now();
    let output = env.tripmine(["run", "tiny", "--", "/bin/tm", "proxy", "check", &url]);
    assert!(output.code == 3 && begun.elapsed() < std::time::Duration::from_secs(5), "{output:?}");
}
