//! Programs that people use inside, and a SOCKS server that people use outside. What is not installed is skipped by name.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::env::{Env, skip, until};
use crate::peers::Peer;

/// A process of the host that listens, until dropped.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a program of the host and waits for its port. `None` where it is not installed.
pub(crate) fn server(port: u16, program: &str, args: &[&str]) -> Option<Server> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Server(child.ok()?);
    until("it listens", Duration::from_secs(15), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Some(server)
}

pub(crate) fn files(folder: &Path) -> Option<(Server, u16)> {
    let port = free_port();
    let folder = folder.to_str().unwrap();
    let args = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, &port.to_string()];
    Some((server(port, "python3", &args)?, port))
}

pub(crate) fn has(program: &str) -> bool {
    ["/usr/bin", "/usr/local/bin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

#[test]
fn curl_is_answered_or_told_why_not() {
    if !has("curl") {
        return skip("curl_is_answered_or_told_why_not", "there is no curl in /usr");
    }
    let (env, web) = (Env::new(), Peer::web());
    let rule = format!("127.0.0.1:{}", web.port());
    let url = format!("http://host.tripmine.internal:{}/", web.port());
    let curl = |url: &str, rule: &str| {
        let output = env.tripmine([
            "run",
            "host",
            "--allow",
            rule,
            "--",
            "curl",
            "-sS",
            "-m",
            "8",
            "-w",
            "%{http_code}",
            url,
        ]);
        output.stdout
    };
    assert_eq!(curl(&url, &rule), "hello from outside\n200");
    let refused = curl(&url, "other.example:80");
    assert!(refused.contains("was refused") && refused.ends_with("403"), "{refused}");
    assert!(refused.contains(&format!("allow host.tripmine.internal:{}", web.port())), "{refused}");
    assert_eq!(web.seen().len(), 1);
}

#[test]
fn git_clones() {
    if !has("git") || !has("python3") {
        return skip("git_clones", "there is no git or no python3 in /usr");
    }
    let env = Env::new();
    let outside = env.root().join("outside");
    let script = "set -e; mkdir -p \"$1\"; cd \"$1\"; git init -q work; cd work; echo text > file; git add file; \
                  git -c user.name=a -c user.email=a@b commit -q -m one; cd ..; git clone -q --bare work repo.git; \
                  cd repo.git; git update-server-info";
    let made = Command::new("sh")
        .args(["-c", script, "sh", outside.to_str().unwrap()])
        .env("HOME", &env.home)
        .status();
    assert!(made.unwrap().success());
    let Some((_server, port)) = files(&outside) else { return skip("git_clones", "there is no python3") };
    let script = format!(
        "cd; rm -rf r; git clone -q http://host.tripmine.internal:{port}/repo.git r 2>&1 && cat r/file"
    );
    assert_eq!(env.inside_with(&["--allow", &format!("127.0.0.1:{port}")], &script).ok(0), "text");
    let denied = env.inside_with(&["--allow", "other.example"], &script);
    assert!(denied.code != 0 && denied.stdout.contains("403"), "{denied:?}");
}

#[test]
fn apt_gets_its_lists() {
    if !has("apt-get") || !has("python3") {
        return skip("apt_gets_its_lists", "there is no apt-get or no python3 in /usr");
    }
    let env = Env::new();
    let outside = env.root().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let package = "Package: tripmine-none\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nFilename: ./none.deb\nSize: 1\nDescription: none\n\n";
    std::fs::write(outside.join("Packages"), package).unwrap();
    let Some((_server, port)) = files(&outside) else {
        return skip("apt_gets_its_lists", "there is no python3");
    };
    let script = format!(
        "cd; mkdir -p a/lists/partial a/cache/archives/partial a/etc; echo 'deb [trusted=yes] http://host.tripmine.internal:{port}/ ./' > a/sources; \
         : > a/status; o=\"-o Dir::Etc=$HOME/a/etc -o Dir::Etc::sourcelist=$HOME/a/sources -o Dir::Etc::sourceparts=/nowhere -o Dir::State=$HOME/a \
         -o Dir::State::lists=$HOME/a/lists -o Dir::State::status=$HOME/a/status -o Dir::Cache=$HOME/a/cache -o APT::Sandbox::User=\"; \
         apt-get $o update 2>&1; apt-cache $o show tripmine-none | grep '^Version'"
    );
    let output = env.inside_with(&["--allow", &format!("127.0.0.1:{port}")], &script);
    assert!(output.ok(0).ends_with("Version: 1"), "{output:?}");
}

/// What a proxy is shown, in a file of the user's alone.
pub(crate) fn secret(env: &Env, text: &str) {
    let file = env.home.join("secret");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// A machine `via` that goes through a proxy, with that secret.
pub(crate) fn via(env: &Env, proxy: &str) {
    let words =
        ["machine", "create", "via", "--net", "proxy", "--proxy", proxy, "--proxy-auth-file", "~/secret"];
    env.tripmine(words).ok(0);
}

/// A real SOCKS server, with user and password, which looks the name up itself.
#[test]
fn microsocks_leads_out() {
    if !has("microsocks") || !has("curl") {
        return skip("microsocks_leads_out", "microsocks or curl is not installed");
    }
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let env = Env::new();
    let web = Peer::web_everywhere();
    let known = std::net::ToSocketAddrs::to_socket_addrs(&(hostname.as_str(), web.port()))
        .is_ok_and(|mut all| all.any(|address| std::net::TcpStream::connect(address).is_ok()));
    if !known || !hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte)) {
        return skip("microsocks_leads_out", "the host's own name leads nowhere");
    }
    let port = free_port();
    let text = port.to_string();
    let Some(_server) =
        server(port, "microsocks", &["-i", "127.0.0.1", "-p", &text, "-u", "me", "-P", "s3cret"])
    else {
        return skip("microsocks_leads_out", "microsocks does not start");
    };
    secret(&env, "s3cret\n");
    let proxy = format!("socks5h://me@127.0.0.1:{port}");
    env.tripmine(["proxy", "check", &proxy]).ok(0);
    via(&env, &proxy);
    let url = format!("http://{hostname}:{}/", web.port());
    let curl = ["run", "host", "-m", "via", "--", "curl", "-sS", "-m", "8", &url];
    assert_eq!(env.tripmine(curl).ok(0), "hello from outside");
    secret(&env, "wrong\n");
    let output = env.tripmine(curl);
    assert!(!output.stdout.contains("hello"), "{output:?}");
    assert_eq!(web.seen().iter().filter(|line| line.starts_with("GET")).count(), 1);
}

/// Verdicts of a face: what works, what does not, what is no proxy.
#[test]
fn proxies_are_greeted() {
    let env = Env::new();
    let (proxy, web) = (Peer::socks(None), Peer::web());
    let check = |address: &str| env.tripmine(["proxy", "check", "--json", &format!("socks5h://{address}")]);
    let output = check(&proxy.address.to_string());
    let json: serde_json::Value = serde_json::from_str(output.ok(0)).unwrap();
    assert_eq!(json["proxies"][0]["verdict"], "works");
    // A web server says nothing to a greeting: it could be slow.
    let output = check(&web.address.to_string());
    assert!(matches!(output.code, 1 | 3), "{output:?}");
    let port = free_port();
    assert_eq!(check(&format!("127.0.0.1:{port}")).code, 1);
    env.tripmine(["proxy", "check", "http://x"]).fails(2, "socks5h");
    env.tripmine(["proxy", "check"]).fails(2, "no proxy is given");
}
