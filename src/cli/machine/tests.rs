//! The machine verbs, from typed words to what is on disk and shown.

use std::fs;

use clap::Parser;

use super::*;
use crate::cli::ctx::testing;
use crate::model::FailureKind;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: MachineArgs,
}

/// Runs a command line; a word that clap refuses comes back as a usage failure.
fn machine(ctx: &Ctx, line: &str) -> Result<(), Failure> {
    let words = shell_words::split(line).expect("words");
    let parsed = Line::try_parse_from(std::iter::once("machine".to_owned()).chain(words))
        .map_err(|error| Failure::usage(error.to_string()))?;
    run(&parsed.args, ctx)
}

#[test]
fn create_show_edit_list() {
    let (_folder, ctx) = testing::ctx();
    machine(
        &ctx,
        "create work --memory 512M! --cpus 1.5 -e A=b --entry 'npm run dev' --user root --colour red",
    )
    .expect("create");
    machine(&ctx, "show work").expect("show");
    machine(&ctx, "edit work --pids 100 --unset env.A --unset colour").expect("edit");
    machine(&ctx, "list").expect("list");
    machine(&ctx, "list --json").expect("json");
    let (data, talk) = ctx.out.text();
    for part in [
        "memory    512M!",
        "cpus      1.5",
        "entry     npm run dev",
        "env       A",
        "work     host   container",
    ] {
        assert!(data.contains(part), "{part}: {data}");
    }
    let json = &data[data.find('{').expect("json")..];
    let json: serde_json::Value = serde_json::from_str(json).expect("json");
    assert_eq!(
        (json["version"].as_u64(), json["machines"][1]["settings"]["pids"].as_str()),
        (Some(1), Some("100"))
    );
    assert_eq!(json["machines"][1]["settings"]["env_names"].as_array().map(Vec::len), Some(0));
    assert!(talk.contains("made machine `work`"));
}

/// Rules and a proxy mean their policy, as on the command line of a launch, and are shown; a policy that somebody named stays.
#[test]
fn rules_and_a_proxy_bring_their_policy() {
    for (lines, net, shown) in [
        (&["create m --allow a.example:443"][..], Some("allow"), "allows a.example:443"),
        (&["create m --proxy socks5h://h:1"], Some("proxy"), "through socks5h://h:1"),
        (&["create m --net none --allow a.example:443"], Some("none"), "allows a.example:443"),
        (&["create m --net open --allow 10.0.0.1:80 --lan"], Some("open"), "lan true"),
        (&["create m", "edit m --allow a.example:443"], Some("allow"), "allows a.example:443"),
        (&["create m --net open", "edit m --allow 10.0.0.1:80"], Some("open"), "allows 10.0.0.1:80"),
        (&["create m", "edit m --unset net --allow a.example:443"], None, "allows a.example:443"),
        (&["create m --allow a.example:443 --proxy socks5h://h:1"], None, "through socks5h://h:1"),
        (
            &["create m --proxy socks5h://h:1 --proxy-auth-file /s --hole 10.0.0.1:80 --setup open"],
            Some("proxy"),
            "secret from file /s",
        ),
    ] {
        let (_folder, ctx) = testing::ctx();
        for line in lines {
            machine(&ctx, line).expect(line);
        }
        let loaded = machines::load(&ctx.layout, &name("m").expect("name")).expect("machine");
        assert_eq!(loaded.settings.net.map(|net| net.to_string()).as_deref(), net, "{lines:?}");
        machine(&ctx, "show m").expect("show");
        let (data, _) = ctx.out.text();
        assert!(data.contains(shown), "{lines:?}: {data}");
    }
    let (_folder, ctx) = testing::ctx();
    machine(&ctx, "create m --proxy socks5h://localhost:4000").expect("create");
    let failure = machine(&ctx, "edit m --hole 127.0.0.1:4000").expect_err("the proxy itself");
    assert!(failure.message.contains("is the proxy itself"), "{failure}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let (_folder, ctx) = testing::ctx();
    for (line, kind) in [
        ("create work --memory lots", FailureKind::Usage),
        ("create work --net opne", FailureKind::Usage),
        ("create work -e A", FailureKind::Usage),
        ("create ../x", FailureKind::Usage),
        ("create run", FailureKind::Usage),
        ("create default2 --entry ''", FailureKind::Usage),
        ("show work", FailureKind::Missing),
        ("rm work --yes", FailureKind::Missing),
        ("edit work --pids 5", FailureKind::Missing),
        ("edit default --unset imgae", FailureKind::Usage),
        ("rename default x", FailureKind::Denied),
        ("reset-home default --yes", FailureKind::Missing),
    ] {
        assert_eq!(machine(&ctx, line).expect_err(line).kind, kind, "{line}");
    }
    assert!(!ctx.layout.machines_dir().exists());
}

#[test]
fn deletions_say_how_much_ask_and_come_back() {
    let (_folder, mut ctx) = testing::ctx();
    machine(&ctx, "create work").expect("create");
    let home = ctx.layout.home(&Name::parse("work").expect("name"));
    fs::create_dir_all(&home).expect("mkdir");
    fs::write(home.join("f"), [0; 2048]).expect("write");
    let refused = machine(&ctx, "rm work").expect_err("no --yes");
    assert_eq!(refused.kind, FailureKind::Denied);
    assert!(refused.message.contains("2K in 1 file"), "{refused}");
    ctx.live = Box::new(|| vec![testing::cube("work", None)]);
    for line in ["rm work --yes", "reset-home work --yes", "rename work w2"] {
        assert_eq!(machine(&ctx, line).expect_err(line).kind, FailureKind::Busy, "{line}");
    }
    ctx.live = Box::new(Vec::new);
    machine(&ctx, "reset-home work --yes").expect("reset");
    assert!(!home.exists());
    crate::store::trash::undo(&ctx.layout, None).expect("undo");
    machine(&ctx, "rm work --yes").expect("rm");
    crate::store::trash::undo(&ctx.layout, None).expect("undo");
    assert!(home.join("f").exists() && machine(&ctx, "show work").is_ok());
    let journal = fs::read_to_string(ctx.layout.journal_file()).expect("journal");
    assert_eq!(journal.lines().count(), 3);
}

#[test]
fn the_editor_s_text_counts_only_when_it_is_right() {
    let (folder, mut ctx) = testing::ctx();
    machine(&ctx, "create work").expect("create");
    assert!(machine(&ctx, "edit work").expect_err("no editor").message.contains("no editor"));
    let script = folder.path().join("new.toml");
    let file = ctx.layout.machine_file(&Name::parse("work").expect("name"));
    for (text, outcome) in [
        ("# ok\npids = 7\n", Ok(())),
        ("pids = 7\nmemroy = 1\n", Err("work.toml:2:1: unknown key `memroy`")),
        ("jail = \"microwm\"\n", Err("work.toml:1:8: `microwm` is no jail")),
    ] {
        fs::write(&script, text).expect("write");
        ctx.editor = Some(format!("cp {}", script.display()));
        match (machine(&ctx, "edit work"), outcome) {
            (Ok(()), Ok(())) => assert_eq!(fs::read_to_string(&file).expect("read"), text),
            (Err(failure), Err(part)) => assert!(failure.message.contains(part), "{failure}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }
    assert_eq!(fs::read_to_string(&file).expect("read"), "# ok\npids = 7\n");
    ctx.editor = Some("true".to_owned());
    machine(&ctx, "edit work").expect("nothing changed");
    assert!(ctx.out.text().1.contains("is unchanged"));
    ctx.editor = Some("false".to_owned());
    assert!(machine(&ctx, "edit work").expect_err("fails").message.contains("failed"));
}
