//! The jail `landlock`: what it cannot give is refused by name, with the reason and another way; and what `auto`, a project's
//! own file and a host without user namespaces make of it.

use std::process::{Command, Stdio};

use crate::env::{Env, Output, PATIENCE, finish, is_root, skip};

#[test]
fn what_it_cannot_give_is_refused_by_name() {
    let env = Env::new();
    env.project("p");
    for (options, part) in [
        (&["--keep", "box"][..], "cannot give `--keep`"),
        (&["--ephemeral"], "cannot give `--ephemeral`"),
        (&["--review"], "cannot give `--review`"),
        (&["--user", "root"], "cannot give `user root`"),
        (&["--allow", "a.example:443"], "cannot give the net policy `allow`"),
        (&["--proxy", "socks5h://127.0.0.1:9050"], "cannot give the net policy `proxy`"),
        (&["-p", "8080:80"], "cannot give forwards"),
        (&["--disk", "1G"], "cannot give a disk limit"),
    ] {
        let args = [&["--jail", "landlock"], options, &["p", "--", "true"]].concat();
        let output = env.tripmine(&args);
        output.fails(125, part);
        assert!(output.stderr.contains("hint: "), "{output:?}");
        // `--dry-run` says the same.
        env.tripmine([&["--dry-run"], &args[..]].concat()).fails(125, part);
    }
    assert!(env.records().is_empty(), "nothing was made");
    // The whole plan is told beforehand.
    let plan = env.tripmine(["--dry-run", "--jail", "landlock", "p"]);
    for part in ["landlock: in place", "the host's own", "signals stay inside", "no TCP", "warden"] {
        assert!(plan.ok(0).contains(part), "{part}: {plan:?}");
    }
}

#[test]
fn a_running_one_refuses_what_it_has_not() {
    let env = Env::new();
    env.project("p");
    env.tripmine(["--jail", "landlock", "-d", "p", "--", "sleep", "300"]).ok(0);
    for (args, part) in [
        (&["changes", "p"][..], "cannot give changes or a snapshot"),
        (&["image", "snapshot", "new", "p"], "cannot give changes or a snapshot"),
        (&["forward", "p", "--port", "18080:80"], "cannot give a forward"),
        (&["net", "p", "allow", "a.example:443"], "has no network of its own"),
        (&["ports", "p"], "has no network of its own"),
    ] {
        let output = env.tripmine(args);
        assert_ne!(output.code, 0, "{args:?}: {output:?}");
        assert!(output.stderr.contains(part), "{args:?}: {output:?}");
    }
    // Nor does the host's own table pass for a cube's.
    assert_eq!(env.tripmine(["ports"]).ok(0).lines().count(), 0);
    env.tripmine(["kill", "p"]).ok(0);
}

/// A machine may say it, `auto` may say it, and a project's own file may not make it weaker.
#[test]
fn machines_and_project_files_choose_it() {
    let env = Env::new();
    let project = env.project("p");
    env.tripmine(["machine", "create", "low", "--jail", "landlock"]).ok(0);
    env.tripmine(["machine", "create", "any", "--jail", "auto"]).ok(0);
    env.tripmine(["-m", "low", "p", "--", "true"]).ok(0);
    assert_eq!(env.record()["jail"], "landlock");
    env.tripmine(["-m", "any", "p", "--", "true"]).ok(0);
    assert_eq!(env.record()["jail"], "container");
    assert!(env.tripmine(["--dry-run", "-m", "any", "p"]).ok(0).contains("container (auto)"));
    std::fs::write(project.join(".tconfig.yml"), "jail: landlock\n").unwrap();
    let output = env.tripmine(["p", "--", "true"]);
    output.ok(0);
    assert!(output.stderr.contains("asks for `jail landlock`"), "{output:?}");
    assert_eq!(env.record()["jail"], "container");
    std::fs::write(project.join(".tconfig.yml"), "jail: container\n").unwrap();
    env.tripmine(["-m", "low", "p", "--", "true"]).ok(0);
    assert_eq!(env.record()["jail"], "container", "stronger is fine");
}

/// Runs a shell script where no user namespace can be made: in one, of the caller's own ids, whose limit is none.
fn without_user_namespaces(env: &Env, script: &str) -> Option<Output> {
    let drop = if is_root() { "" } else { "setpriv --inh-caps=-all --ambient-caps=-all" };
    let script = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces || exit 77; exec {drop} /bin/sh -c '{}'",
        script.replace('\'', "'\\''")
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "/bin/sh", "-c", &script]);
    command.env_clear().envs(env.variables()).env("TM", env.binary()).current_dir(&env.home);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command.spawn().ok()?, PATIENCE);
    (output.code != 77).then_some(output)
}

#[test]
fn where_user_namespaces_are_refused() {
    const NAME: &str = "where_user_namespaces_are_refused";
    let env = Env::new();
    env.project("p");
    let Some(output) = without_user_namespaces(&env, "$TM p -- true; echo $?") else {
        return skip(NAME, "no user namespace can be made, or its limit cannot be set");
    };
    // Never weaker than asked, and never without a word on what else there is.
    assert_eq!(output.ok(0), "125", "{output:?}");
    assert!(output.stderr.contains("making the namespaces"), "{output:?}");
    assert!(output.stderr.contains("`--jail landlock` confines in place"), "{output:?}");
    let run = |script: &str| without_user_namespaces(&env, script).expect("as before");
    assert_eq!(run("$TM --jail container p -- true; echo $?").ok(0), "125");
    let output = run("$TM --jail landlock p -- /bin/sh -c 'id -u; cat /etc/machine-id; true'");
    assert_eq!(output.ok(0), rustix::process::geteuid().as_raw().to_string(), "{output:?}");
    let output = run("$TM --jail auto p -- echo inside");
    assert_eq!(output.ok(0), "inside");
    assert!(output.stderr.contains("the jail is `landlock`, the strongest that works here"), "{output:?}");
    assert_eq!(env.record()["jail"], "landlock");
    // `open` would be wider in place than its name says elsewhere: `auto` does not choose that for anybody.
    let output = run("$TM --jail auto --net open p -- true; echo $?");
    assert_eq!(output.ok(0), "125");
    assert!(output.stderr.contains("left to `auto`"), "{output:?}");
    let output = run("$TM doctor; echo $?");
    for part in ["✗ fail      container, the default", "✓ pass      landlock, in place", "in place only"]
    {
        assert!(output.ok(0).contains(part), "{part}: {output:?}");
    }
    let output = run("$TM verify-jail --jail landlock");
    assert!(output.ok(0).contains(" 0 broken, 0 untested"), "{output:?}");
}
