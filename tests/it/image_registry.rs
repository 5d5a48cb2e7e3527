//! Pull and push against a real registry on loopback, with logins, helpers and another architecture; and against one that
//! lies and breaks off.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::env::{Env, PATIENCE, until};
use crate::image_peers::{has, tool};
use crate::image_root::import;

/// `me` with the password `secret-word`, as htpasswd(1) writes it.
const HTPASSWD: &str = "me:$2b$04$abcdefghijklmnopqrstuujV0zJ3tj1V5vPQQ5i8Bd/sbbeTbZTaC\n";

/// Debian's docker-registry on a free port of loopback.
pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
}

impl Registry {
    pub(crate) fn start(env: &Env, login: bool) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| env.root().join(name).display().to_string();
        fs::write(at("htpasswd"), HTPASSWD).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", at("htpasswd"));
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{}",
            at("registry"),
            if login { auth } else { String::new() }
        );
        fs::write(at("registry.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(at("registry.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until("the registry listens", PATIENCE, || {
            assert!(child.try_wait().unwrap().is_none(), "the registry ended");
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, host: format!("127.0.0.1:{port}") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn images_go_to_a_registry_and_come_back_the_same() {
    if !has("images_go_to_a_registry_and_come_back_the_same", &["docker-registry", "skopeo"]) {
        return;
    }
    let env = Env::new();
    let registry = Registry::start(&env, false);
    let host = &registry.host;
    import(&env, "app", |_| {});
    let remote = format!("{host}/team/app:1");
    env.tripmine(["image", "push", "app", &remote]).fails(1, "--plain-http");
    let pushed = env.tripmine(["image", "push", "--plain-http", "--progress", "lines", "app", &remote]);
    let digest = pushed.ok(0).to_owned();
    // A program that waits hears how far it is, up to the end.
    let told: Vec<&str> = pushed.stderr.lines().filter_map(|line| line.strip_prefix("progress ")).collect();
    let (done, all) = told.last().and_then(|line| line.split_once(' ')).expect("progress");
    assert!(done == all && all.parse::<u64>().unwrap() > 1000, "{pushed:?}");
    let seen = tool(&env, &["skopeo", "inspect", "--tls-verify=false", &format!("docker://{remote}")]);
    assert!(seen.ok(0).contains(&digest), "{seen:?}");
    env.tripmine(["image", "rm", "--yes", "app"]).ok(0);
    env.tripmine(["prune", "--yes"]).ok(0);
    assert_eq!(env.tripmine(["image", "pull", "--plain-http", &remote, "back"]).ok(0), digest);
    assert_eq!(env.tripmine(["run", "back", "--", "cat", "/opt/mark"]).ok(0), "image");
    // What skopeo put there comes too, in docker's own words as well; by digest nothing else does.
    let store = env.tripmine_home.join("data/images");
    for (format, name) in [("oci", "theirs"), ("v2s2", "docker")] {
        let from = format!("oci:{}:back", store.display());
        let to = format!("docker://{host}/{name}:x");
        tool(&env, &["skopeo", "copy", "-q", "--dest-tls-verify=false", "--format", format, &from, &to])
            .ok(0);
        env.tripmine(["image", "pull", "--plain-http", &format!("{host}/{name}:x"), name]).ok(0);
        assert_eq!(env.tripmine(["run", name, "--", "cat", "/opt/mark"]).ok(0), "image", "{name}");
    }
    let by_digest = format!("{host}/team/app@{digest}");
    assert_eq!(env.tripmine(["image", "pull", "--plain-http", &by_digest, "exact"]).ok(0), digest);
    env.tripmine(["image", "pull", "--plain-http", &format!("{host}/none:1")]).fails(1, "404");
    env.tripmine(["image", "pull", "--plain-http", "example.com/x:1"]).fails(1, "only to this host itself");
    // At a launch only when asked.
    let name = format!("{host}/team/app:1");
    env.tripmine(["run", &name, "--", "true"]).fails(125, "there is no image");
    let launch = ["run", "--pull", "missing", "--plain-http", &name, "--", "cat", "/opt/mark"];
    assert_eq!(env.tripmine(launch).ok(0), "image");
    drop(registry);
    assert_eq!(env.tripmine(launch).ok(0), "image", "it is here: nobody is asked");
    let always = ["run", "--pull", "always", "--plain-http", &name, "--", "true"];
    env.tripmine(always).fails(125, "cannot reach");
}

#[test]
fn logins_of_files_and_helpers_are_used_and_never_shown() {
    if !has("logins_of_files_and_helpers_are_used_and_never_shown", &["docker-registry"]) {
        return;
    }
    let env = Env::new();
    let registry = Registry::start(&env, true);
    let host = &registry.host;
    import(&env, "app", |_| {});
    let remote = format!("{host}/app:1");
    let push = || env.tripmine(["image", "push", "--plain-http", "app", &remote]);
    push().fails(1, "does not let us");
    let docker = env.home.join(".docker");
    fs::create_dir(&docker).unwrap();
    let write = |value: Value| fs::write(docker.join("config.json"), value.to_string()).unwrap();
    // base64 of me:wrong, then of me:secret-word.
    write(json!({ "auths": { host.as_str(): { "auth": "bWU6d3Jvbmc=" } } }));
    let refused = push();
    refused.fails(1, "docker's credential file is refused");
    assert!(!refused.stderr.contains("bWU6"), "{refused:?}");
    write(json!({ "auths": { host.as_str(): { "auth": "bWU6c2VjcmV0LXdvcmQ=" } } }));
    push().ok(0);
    env.tripmine(["image", "pull", "--plain-http", &remote, "back"]).ok(0);
    // A helper, found by its name in PATH.
    let bin = env.root().join("bin");
    fs::create_dir(&bin).unwrap();
    let helper = bin.join("docker-credential-here");
    let script = format!(
        "#!/bin/sh\nread -r server\n[ \"$server\" = {host} ] && echo '{{\"Username\":\"me\",\"Secret\":\"secret-word\"}}'\n"
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    write(json!({ "credHelpers": { host.as_str(): "here" } }));
    let mut command = env.command(["image", "pull", "--plain-http", &remote, "helped"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    crate::env::finish(command.spawn().unwrap(), PATIENCE).ok(0);
    env.tripmine(["image", "pull", "--plain-http", &remote, "x"]).fails(1, "docker-credential-here");
}

/// What a registry of ours answers to `GET PATH`: status, headers, body; and how many bytes of it before it breaks off.
type Answers = Arc<
    dyn Fn(&str, Option<u64>) -> (u16, Vec<(&'static str, String)>, Vec<u8>, Option<usize>) + Send + Sync,
>;

/// A registry of a few lines, which lies as it is told. It lives as long as the tests.
fn liar(answers: Answers) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut range) = (String::new(), None);
                reader.read_line(&mut line).unwrap();
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                loop {
                    line.clear();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    let lower = line.to_ascii_lowercase();
                    if let Some(from) = lower.strip_prefix("range: bytes=") {
                        range = from.trim().trim_end_matches('-').parse().ok();
                    }
                }
                let (status, headers, body, stop) = answers(&path, range);
                let mut stream = stream;
                let mut head =
                    format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
                for (key, value) in headers {
                    head.push_str(&format!("{key}: {value}\r\n"));
                }
                // Whoever has heard enough hangs up.
                let _gone = stream.write_all(format!("{head}\r\n").as_bytes());
                let _gone = stream.write_all(&body[..stop.unwrap_or(body.len()).min(body.len())]);
            });
        }
    });
    host
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

const OCI: &str = "application/vnd.oci.image";

/// A layer with one file of noise.
fn layer(size: usize) -> Vec<u8> {
    let (mut tar, mut noise) = (tar::Builder::new(Vec::new()), vec![0_u8; size]);
    let mut state = 88_172_645_463_325_252_u64;
    for byte in &mut noise {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state.to_le_bytes()[3];
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, "noise", &noise[..]).unwrap();
    tar.into_inner().unwrap()
}

/// Config and manifest for a layer: (config, manifest).
fn documents(layer: &[u8], arch: &str) -> (Vec<u8>, Vec<u8>) {
    let config = json!({ "architecture": arch, "os": "linux", "rootfs": { "type": "layers", "diff_ids": [digest(layer)] } });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"),
        "config": { "mediaType": format!("{OCI}.config.v1+json"), "digest": digest(&config), "size": config.len() },
        "layers": [{ "mediaType": format!("{OCI}.layer.v1.tar"), "digest": digest(layer), "size": layer.len() }],
    });
    (config, manifest.to_string().into_bytes())
}

fn here() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

#[test]
fn a_pull_that_breaks_off_goes_on_where_it_stopped() {
    let env = Env::new();
    let layer = layer(600_000);
    let (config, manifest) = documents(&layer, here());
    let (blob, config_digest) = (digest(&layer), digest(&config));
    let asked: Arc<Mutex<Vec<Option<u64>>>> = Arc::default();
    let (heard, size) = (Arc::clone(&asked), layer.len() as u64);
    let host = liar(Arc::new(move |path, range| {
        if path.ends_with(&config_digest) {
            return (200, vec![], config.clone(), None);
        }
        if path.contains("/manifests/") {
            return (200, vec![("Content-Type", format!("{OCI}.manifest.v1+json"))], manifest.clone(), None);
        }
        let mut asked = heard.lock().unwrap();
        asked.push(range);
        let from = usize::try_from(range.unwrap_or(0)).unwrap();
        let headers = vec![("Content-Range", format!("bytes {from}-{}/{size}", size - 1))];
        let status = if range.is_some() { 206 } else { 200 };
        // 100,000 bytes each time, and nothing at all from the second on until it was given up.
        let stop = if (2..=5).contains(&asked.len()) {
            0
        } else if asked.len() == 1 {
            100_000
        } else {
            usize::MAX
        };
        (status, headers, layer[from..].to_vec(), Some(stop))
    }));
    let remote = format!("{host}/app:1");
    env.tripmine(["image", "pull", "--plain-http", &remote, "app"]).fails(1, "goes on from there");
    let partial = env.tripmine_home.join("data/images/partial").join(blob.trim_start_matches("sha256:"));
    let have = fs::metadata(&partial).unwrap().len();
    assert!(have > 0 && have <= 100_000, "{have}");
    env.tripmine(["image", "pull", "--plain-http", &remote, "app"]).ok(0);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.first(), Some(&None));
    assert_eq!(asked.last(), Some(&Some(have)), "{asked:?}");
    assert!(!partial.exists());
    env.tripmine(["image", "check"]).ok(0);
}

#[test]
fn lies_of_a_registry_are_named_and_store_nothing() {
    let env = Env::new();
    let layer = layer(2000);
    let (config, manifest) = documents(&layer, here());
    let wrong = |at: usize| {
        let mut bytes = layer.clone();
        bytes[at] ^= 1;
        bytes
    };
    let text = String::from_utf8(manifest.clone()).unwrap();
    let unknown = text.replace("layer.v1.tar", "layer.v9.squash").into_bytes();
    let contradictory =
        text.replace(&format!("\"size\":{}}}]", layer.len()), &format!("\"size\":{}}}]", layer.len() - 1));
    type Bytes = Vec<u8>;
    let cases: Vec<(&str, Bytes, Bytes, Bytes, &str)> = vec![
        ("bit", config.clone(), manifest.clone(), wrong(700), "is not what its name says"),
        ("short", config.clone(), manifest.clone(), layer[..1000].to_vec(), "layer"),
        ("size", config.clone(), contradictory.into_bytes(), layer.clone(), "layer"),
        ("config", b"{}".to_vec(), manifest.clone(), layer.clone(), "config"),
        ("media", config.clone(), unknown, layer.clone(), "squash"),
        ("noise", config.clone(), b"\x00\x01 nonsense".to_vec(), layer.clone(), "manifest"),
        ("empty", config.clone(), b"{}".to_vec(), layer.clone(), "manifest"),
    ];
    let served: Arc<Mutex<(Bytes, Bytes, Bytes)>> = Arc::default();
    let (now, config_digest) = (Arc::clone(&served), digest(&config));
    let host = liar(Arc::new(move |path, _| {
        let (config, manifest, layer) = now.lock().unwrap().clone();
        if path.contains("/manifests/") {
            return (200, vec![("Content-Type", format!("{OCI}.manifest.v1+json"))], manifest, None);
        }
        (200, vec![], if path.ends_with(&config_digest) { config } else { layer }, None)
    }));
    for (name, config, manifest, layer, part) in cases {
        *served.lock().unwrap() = (config, manifest, layer);
        let pulled = env.tripmine(["image", "pull", "--plain-http", &format!("{host}/app:1"), name]);
        pulled.fails(1, part);
        assert!(pulled.stderr.contains("cannot pull `"), "{name}: {pulled:?}");
        assert!(!env.tripmine(["image", "list"]).stdout.contains(name), "{name}");
        env.tripmine(["image", "check"]).ok(0);
    }
    // An index that leads to itself ends; one for other machines says for which.
    let cycle = json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"), "manifests": [
        { "mediaType": format!("{OCI}.index.v1+json"), "digest": digest(b"any"), "size": 3 } ] });
    let bytes = cycle.to_string().into_bytes();
    let again = bytes.clone();
    let host = liar(Arc::new(move |_, _| {
        (200, vec![("Content-Type", format!("{OCI}.index.v1+json"))], again.clone(), None)
    }));
    let pulled = env.tripmine(["image", "pull", "--plain-http", &format!("{host}/app:1"), "cycle"]);
    assert_eq!(pulled.code, 1, "{pulled:?}");
    assert!(!bytes.is_empty() && !env.tripmine(["image", "list"]).stdout.contains("cycle"));
}

#[test]
fn an_index_of_many_machines_gives_this_one_its_own() {
    let env = Env::new();
    let (ours, theirs) = (layer(1000), layer(1001));
    let (config, manifest) = documents(&ours, here());
    let (other_config, other) = documents(&theirs, "riscv64");
    let line = |manifest: &[u8], arch: &str| {
        json!({ "mediaType": format!("{OCI}.manifest.v1+json"), "digest": digest(manifest), "size": manifest.len(),
            "platform": { "os": "linux", "architecture": arch } })
    };
    let index = |lines: Vec<Value>| {
        json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.index.v1+json"), "manifests": lines })
            .to_string()
            .into_bytes()
    };
    let both = index(vec![line(&other, "riscv64"), line(&manifest, here())]);
    let foreign = index(vec![line(&other, "riscv64")]);
    let blobs = [config, manifest, other_config, other, ours, theirs];
    let host = liar(Arc::new(move |path, _| {
        let index = |bytes: &Vec<u8>| {
            (200, vec![("Content-Type", format!("{OCI}.index.v1+json"))], bytes.clone(), None)
        };
        if path.ends_with("/both") {
            return index(&both);
        }
        if path.ends_with("/foreign") {
            return index(&foreign);
        }
        match blobs.iter().find(|blob| path.ends_with(&digest(blob))) {
            Some(blob) if path.contains("/manifests/") => {
                (200, vec![("Content-Type", format!("{OCI}.manifest.v1+json"))], blob.clone(), None)
            }
            Some(blob) => (200, vec![], blob.clone(), None),
            None => (404, vec![], Vec::new(), None),
        }
    }));
    env.tripmine(["image", "pull", "--plain-http", &format!("{host}/app:both"), "app"]).ok(0);
    let shown = env.tripmine(["image", "show", "app"]);
    assert!(shown.ok(0).contains(&format!("linux/{}", here())), "{shown:?}");
    env.tripmine(["image", "pull", "--plain-http", &format!("{host}/app:foreign"), "no"]).fails(1, "riscv64");
}

#[test]
fn a_pull_killed_at_any_moment_leaves_a_valid_store() {
    let name = "a_pull_killed_at_any_moment_leaves_a_valid_store";
    if !has(name, &["docker-registry", "strace"]) {
        return;
    }
    let env = Env::new();
    let registry = Registry::start(&env, false);
    import(&env, "kept", |_| {});
    let remote = format!("{}/kept:1", registry.host);
    env.tripmine(["image", "push", "--plain-http", "kept", &remote]).ok(0);
    let pull = ["image", "pull", "--plain-http", remote.as_str(), "more"];
    crate::image_killed::pull_killed(&env, &pull);
}

/// microsocks on a free port of loopback.
fn socks() -> Option<(Child, u16)> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("microsocks");
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
    until("the proxy listens", PATIENCE, || {
        assert!(child.try_wait().unwrap().is_none(), "the proxy ended");
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    Some((child, port))
}

#[test]
fn a_machine_behind_a_proxy_pulls_through_it_or_not_at_all() {
    let name = "a_machine_behind_a_proxy_pulls_through_it_or_not_at_all";
    if !has(name, &["docker-registry", "microsocks"]) {
        return;
    }
    let env = Env::new();
    let registry = Registry::start(&env, false);
    import(&env, "kept", |_| {});
    let remote = format!("{}/kept:1", registry.host);
    env.tripmine(["image", "push", "--plain-http", "kept", &remote]).ok(0);
    let (mut proxy, port) = socks().expect("microsocks");
    let url = format!("socks5h://127.0.0.1:{port}");
    env.tripmine(["machine", "create", "via", "--net", "proxy", "--proxy", &url]).ok(0);
    env.tripmine(["image", "pull", "--plain-http", "-m", "via", &remote, "one"]).ok(0);
    env.tripmine(["image", "push", "--plain-http", "-m", "via", "one", &format!("{}/one:2", registry.host)])
        .ok(0);
    for machine in ["via", "default"] {
        // Its home comes from its own image.
        env.tripmine(["-m", machine, "--shell", "-T"]).ok(0);
    }
    let launch = |machine: &str, policy: &str| {
        let options = ["-m", machine, "-i", remote.as_str(), "--pull", policy, "--plain-http"];
        env.tripmine([&options[..], &["--shell", "-T"]].concat())
    };
    launch("via", "always").ok(0);
    proxy.kill().unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut proxy.stderr.take().unwrap(), &mut said).unwrap();
    proxy.wait().unwrap();
    // It tells of each connection that it made.
    let registry_port = registry.host.rsplit(':').next().unwrap();
    assert!(said.lines().filter(|line| line.ends_with(&format!(":{registry_port}"))).count() >= 3, "{said}");
    // Without it nothing goes there, although there is a way.
    let through = format!("through the proxy {url}");
    env.tripmine(["image", "pull", "--plain-http", "-m", "via", &remote, "two"]).fails(1, &through);
    launch("via", "always").fails(125, &through);
    env.tripmine(["image", "pull", "--plain-http", &remote, "three"]).ok(0);
    launch("default", "always").ok(0);
    // What the launch says itself counts for its pull, too.
    let over = [
        "-m",
        "default",
        "--proxy",
        &url,
        "-i",
        &remote,
        "--pull",
        "always",
        "--plain-http",
        "--shell",
        "-T",
    ];
    env.tripmine(over).fails(125, &through);
    // Plain HTTP leaves this host by no proxy.
    let elsewhere = ["image", "pull", "--plain-http", "--proxy", "socks5h://192.0.2.1:1080", &remote, "four"];
    env.tripmine(elsewhere).fails(1, "not through a proxy elsewhere");
    // A machine that goes through a proxy and has none does not go at all.
    env.tripmine(["machine", "create", "lost", "--net", "proxy"]);
    let lost = env.tripmine(["image", "pull", "--plain-http", "-m", "lost", &remote, "five"]);
    assert_ne!(lost.code, 0, "{lost:?}");
}
