//! `tripmine completions`: a script for a shell, made from the grammar. Names of cubes, machines and
//! projects are asked for with a hidden verb when Tab is pressed; they are plain words, which no
//! shell takes for anything else.

use clap_complete::Shell;

use super::args;
use super::ctx::{Ctx, Out};
use super::verb_args::CompletionsArgs;
use crate::model::{Failure, Name};
use crate::store::{cubes, machines, projects, trash};

/// The hidden verb that prints names: `cubes`, `running`, `machines`, `projects`, `images` or `deletions`.
pub const NAMES_VERB: &str = "__names";

/// Verbs that take cubes, running or ended.
const CUBE_VERBS: &str = "attach logs events net resume rm rename inspect changes apply wait";
/// Verbs that take running ones.
const RUNNING_VERBS: &str = "exec pause stop kill stats forward ports";
/// Verbs of `machine` that take one that is there.
const MACHINE_VERBS: &str = "show edit set-image rename rm reset-home";
/// Verbs of `image` that take one that is there.
const IMAGE_VERBS: &str = "show history tag push export rm";

/// After clap's own function has answered, names are added.
const BASH: &str = r#"
_tripmine_with_names() {
    _tripmine "$@"
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}" kind= word
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        # A command of the cube follows: files and nothing of ours.
        [[ "${word}" == -- ]] && { COMPREPLY=(); return; }
    done
    case "${previous}" in
        -m|--machine) COMPREPLY=() kind=machines ;;
        -i|--image) COMPREPLY=() kind=images ;;
        # Their values are no names of ours.
        -e|-p|-w|--env|--env-file|--publish|--workdir|--mount|--pull|--jail|--vm-accel|--net|--allow|--proxy) ;;
        --user|--seccomp|--memory|--cpus|--pids|--disk|--timeout|--keep|--stream|--tail|--since|--signal|--time) ;;
        *) case " @CUBE_VERBS@ : : @RUNNING_VERBS@ " in
            *" ${COMP_WORDS[1]} "*" : "*) [[ "${COMP_CWORD}" -gt 1 ]] && kind=cubes ;;
            *" : "*" ${COMP_WORDS[1]} "*) [[ "${COMP_CWORD}" -gt 1 ]] && kind=running ;;
            *) case "${COMP_CWORD} ${COMP_WORDS[1]} ${COMP_WORDS[2]}" in
                "4 machine set-image") kind=images ;;
                "4 image snapshot") kind=cubes ;;
                "3 machine "*) [[ " @MACHINE_VERBS@ " == *" ${COMP_WORDS[2]} "* ]] && kind=machines ;;
                "3 image "*) [[ " @IMAGE_VERBS@ " == *" ${COMP_WORDS[2]} "* ]] && kind=images ;;
                "3 project rm") kind=projects ;;
                "2 undo "*) kind=deletions ;;
                "2 run "*) kind=images ;;
                *) [[ "${COMP_CWORD}" -eq 1 || "${COMP_WORDS[1]}" == -* ]] && kind=projects ;;
            esac ;;
        esac ;;
    esac
    if [[ -n "${kind}" && "${current}" != -* ]]; then
        COMPREPLY+=( $(compgen -W "$(tripmine @NAMES@ "${kind}" 2>/dev/null)" -- "${current}") )
    fi
}
complete -F _tripmine_with_names -o bashdefault -o default tripmine
"#;

const FISH: &str = r#"
complete -c tripmine -n "__fish_tripmine_needs_command" -f -a "(tripmine @NAMES@ projects 2>/dev/null)" -d Project
complete -c tripmine -s m -l machine -x -a "(tripmine @NAMES@ machines 2>/dev/null)"
complete -c tripmine -s i -l image -x -a "(tripmine @NAMES@ images 2>/dev/null)"
complete -c tripmine -n "__fish_tripmine_using_subcommand @CUBE_VERBS@" -f -a "(tripmine @NAMES@ cubes 2>/dev/null)" -d Cube
complete -c tripmine -n "__fish_tripmine_using_subcommand @RUNNING_VERBS@" -f -a "(tripmine @NAMES@ running 2>/dev/null)" -d Cube
complete -c tripmine -n "__fish_tripmine_using_subcommand run" -f -a "(tripmine @NAMES@ images 2>/dev/null)" -d Image
complete -c tripmine -n "__fish_tripmine_using_subcommand undo" -f -a "(tripmine @NAMES@ deletions 2>/dev/null)" -d Deletion
complete -c tripmine -n "__fish_tripmine_using_subcommand machine; and __fish_seen_subcommand_from @MACHINE_VERBS@" -f -a "(tripmine @NAMES@ machines 2>/dev/null)" -d Machine
complete -c tripmine -n "__fish_tripmine_using_subcommand image; and __fish_seen_subcommand_from @IMAGE_VERBS@" -f -a "(tripmine @NAMES@ images 2>/dev/null)" -d Image
complete -c tripmine -n "__fish_tripmine_using_subcommand project; and __fish_seen_subcommand_from rm" -f -a "(tripmine @NAMES@ projects 2>/dev/null)" -d Project
"#;

/// Stands before clap's function, whose file must call it last.
const ZSH: &str = r#"
_tripmine_cubes() { compadd -- ${(f)"$(tripmine @NAMES@ cubes 2>/dev/null)"} }
_tripmine_machines() { compadd -- ${(f)"$(tripmine @NAMES@ machines 2>/dev/null)"} }
_tripmine_projects() { compadd -- ${(f)"$(tripmine @NAMES@ projects 2>/dev/null)"} }
_tripmine_images() { compadd -- ${(f)"$(tripmine @NAMES@ images 2>/dev/null)"} }
_tripmine_deletions() { compadd -- ${(f)"$(tripmine @NAMES@ deletions 2>/dev/null)"} }
"#;

/// Carries the command out.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &CompletionsArgs, out: &Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "tripmine", &mut script);
    let script = with_names(args.shell, &String::from_utf8_lossy(&script));
    out.rendered(|to| to.write_all(script.as_bytes()))
}

fn with_names(shell: Shell, script: &str) -> String {
    let filled = |text: &str| {
        let words = [
            ("@CUBE_VERBS@", CUBE_VERBS),
            ("@RUNNING_VERBS@", RUNNING_VERBS),
            ("@MACHINE_VERBS@", MACHINE_VERBS),
            ("@IMAGE_VERBS@", IMAGE_VERBS),
        ];
        words
            .iter()
            .fold(text.replace("@NAMES@", NAMES_VERB), |text, (mark, words)| text.replace(mark, words))
    };
    match shell {
        Shell::Bash => format!("{script}{}", filled(BASH)),
        Shell::Fish => format!("{script}{}", filled(FISH)),
        Shell::Zsh => {
            let lines: Vec<String> = script.lines().map(zsh_line).collect();
            let text = lines.join("\n");
            // The first line says whose completions these are.
            match text.split_once('\n') {
                Some((first, rest)) => format!("{first}\n{}{rest}\n", filled(ZSH)),
                None => text,
            }
        }
        _ => script.to_owned(),
    }
}

/// One argument of `_arguments`: what takes a cube, machine or project completes it.
fn zsh_line(line: &str) -> String {
    let of = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
    let names = if of(&["':cube -- ", "'*::cubes -- "]) {
        "_tripmine_cubes"
    } else if of(&["'-m+[", "'--machine=["]) {
        "_tripmine_machines"
    } else if of(&["'-i+[", "'--image=[", "':image -- ", "'::named -- "]) {
        "_tripmine_images"
    } else if of(&["'::what -- "]) {
        "_tripmine_deletions"
    } else if of(&["'::words -- "]) {
        "_tripmine_projects"
    } else {
        return line.to_owned();
    };
    line.replace(":_default'", &format!(":{names}'"))
}

/// Prints names of `kind`, a line each. Never fails: a Tab that finds nothing says nothing.
pub fn names(kind: &str, ctx: &Ctx) {
    for name in find(kind, ctx) {
        ctx.out.line(name);
    }
}

fn find(kind: &str, ctx: &Ctx) -> Vec<String> {
    match kind {
        "cubes" | "running" => {
            let mut names = Vec::new();
            let all = cubes::list(&ctx.layout.mines_dir()).unwrap_or_default();
            for entry in all.into_iter().filter(|entry| kind == "cubes" || entry.live) {
                names.push(entry.id.short().to_owned());
                if let Ok(record) = entry.record {
                    names.extend(record.name.map(String::from));
                    // A folder that was mounted may be called anything.
                    let project = record.project.filter(|name| entry.live && Name::parse(name).is_ok());
                    names.extend(project);
                }
            }
            names.sort();
            names.dedup();
            names
        }
        "machines" => machines::list(&ctx.layout)
            .unwrap_or_default()
            .into_iter()
            .map(|(name, _)| name.to_string())
            .collect(),
        "projects" => {
            let machine = machines::load(&ctx.layout, &ctx.default_machine()).ok();
            let root = projects::root(machine.as_ref(), &ctx.config, &ctx.home);
            projects::list(&root)
                .unwrap_or_default()
                .into_iter()
                .map(|project| project.name.to_string())
                .collect()
        }
        "images" => {
            let entries = crate::image::Store::open(&ctx.layout).and_then(|store| store.entries());
            let entries = entries.unwrap_or_default();
            std::iter::once("host".to_owned()).chain(entries.iter().map(|entry| entry.reference())).collect()
        }
        "deletions" => {
            trash::list(&ctx.layout).unwrap_or_default().into_iter().map(|record| record.name).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ctx::testing;
    use crate::store::cubes::create;
    use crate::store::cubes::tests::{durable, sample};

    #[test]
    fn every_shell_gets_a_script_that_knows_the_verbs() {
        for (shell, parts) in [
            (Shell::Bash, &["complete -F _tripmine_with_names", "__names", "verify-jail"][..]),
            (
                Shell::Zsh,
                &[
                    "_tripmine_cubes'",
                    "_tripmine_machines'",
                    "_tripmine_projects'",
                    "_tripmine_images'",
                    "#compdef",
                ],
            ),
            (Shell::Fish, &["__fish_tripmine_using_subcommand attach", "verify-jail"]),
            (Shell::Elvish, &["verify-jail"]),
        ] {
            let out = Out::captured();
            run(&CompletionsArgs { shell }, &out).expect("printed");
            let (text, _) = out.text();
            for part in parts {
                assert!(text.contains(part), "{shell}: {part}");
            }
            assert!(!text.contains("@NAMES@") && !text.contains("_VERBS@"), "{shell}");
        }
    }

    #[test]
    fn names_are_plain_words() {
        let (_folder, ctx) = testing::ctx();
        let mines = ctx.layout.mines_dir();
        let mut odd = sample(1);
        odd.project = Some("$(reboot)".into());
        let live = sample(2);
        let _held = [&odd, &live].map(|record| create(&mines, record).expect("created"));
        drop(create(&mines, &durable(3, "box")).expect("created"));
        let found = find("cubes", &ctx);
        assert!(found.contains(&"box".to_owned()) && found.contains(&"site".to_owned()), "{found:?}");
        assert!(found.iter().all(|name| name.chars().all(|c| c.is_ascii_alphanumeric())), "{found:?}");
        let running = find("running", &ctx);
        assert!(running.contains(&"site".to_owned()) && !running.contains(&"box".to_owned()), "{running:?}");
        assert!(find("machines", &ctx).contains(&"default".to_owned()));
        assert_eq!(find("images", &ctx), ["host"]);
        assert!(find("nonsense", &ctx).is_empty());
    }
}
