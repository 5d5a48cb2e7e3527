use super::hands::{cube, on, press, requests, say};
use super::*;
use crate::engine::request::Request;
use crate::model::{Failure, FailureKind, Name};
use crate::tui::command::COMMANDS;
use crate::tui::layer::{DEAF_MS, PageLine};
use crate::tui::model::Pane;
use crate::tui::msg::Planned;
use crate::tui::testing::{model, world};

#[test]
fn the_selection_is_kept_by_id() {
    let mut model = on(Pane::Projects, "site");
    let mut less = world();
    less.projects.remove(0);
    say(&mut model, Msg::World(Box::new(less.clone())));
    assert_eq!(model.selected().as_deref(), Some("site"));
    // What is gone leaves the selection at its place.
    less.projects.retain(|project| project.name.as_str() != "site");
    say(&mut model, Msg::World(Box::new(less.clone())));
    assert_eq!(model.selected().as_deref(), Some("webshop"));
    less.projects.clear();
    say(&mut model, Msg::World(Box::new(less)));
    assert_eq!(model.selected(), None);
}

#[test]
fn a_filter_narrows_and_gives_the_selection_back() {
    let mut model = on(Pane::Projects, "notes");
    press(&mut model, "/ w e b");
    assert_eq!(model.selected().as_deref(), Some("webshop"));
    press(&mut model, "esc");
    assert_eq!((model.selected().as_deref(), model.list().filter.as_str()), (Some("notes"), ""));
    press(&mut model, "/ s i t e enter");
    assert_eq!((model.filtering, model.selected().as_deref()), (false, Some("site")));
    // It is remembered by its list, and esc shows all again with the same row selected.
    press(&mut model, "3 2");
    assert_eq!(model.ids(Pane::Projects).len(), 1);
    press(&mut model, "esc");
    assert_eq!((model.ids(Pane::Projects).len(), model.selected().as_deref()), (4, Some("site")));
    // Letters that are keys elsewhere are letters here.
    press(&mut model, "/ q X");
    assert_eq!((model.quit, model.list().filter.as_str(), model.layers.len()), (None, "qX", 0));
}

#[test]
fn what_was_typed_before_a_question_was_seen_does_not_answer_it() {
    let mut model = cube(0);
    assert_eq!(press(&mut model, "x y"), []);
    assert!(matches!(model.layers.last(), Some(Layer::Confirm(_))), "too early to be meant");
    model.now_ms += DEAF_MS;
    press(&mut model, "enter");
    assert!(model.layers.is_empty(), "enter is no");
    press(&mut model, "x");
    model.now_ms += DEAF_MS;
    assert_eq!(press(&mut model, "z"), [], "no answer");
    let effects = press(&mut model, "y");
    let id = world().cubes[0].id.clone();
    assert!(requests(&effects).contains(&Request::Stop(id)), "{effects:?}");
    assert_eq!(model.jobs[0].verb, "stopping");
    assert!(model.log[0].command.starts_with("tripmine stop "));
    say(&mut model, Msg::Done(0, Err(Failure::new(FailureKind::Busy, "no\x1b[2J"))));
    assert!(model.jobs.is_empty() && matches!(&model.log[0].result, Some(Err(why)) if !why.contains('\x1b')));
    assert_eq!(model.toasts()[0].loud, Loud::Error);
}

#[test]
fn what_is_lost_is_measured_and_needs_another_key() {
    let mut model = cube(2);
    let effects = press(&mut model, "X");
    assert!(matches!(&effects[..], [Effect::Measure(what)] if what.starts_with("cube ")), "{effects:?}");
    say(&mut model, Msg::Measured(format!("cube {}", world().cubes[2].id), "41M in 212 files".into()));
    let Some(Layer::Confirm(confirm)) = model.layers.last() else { panic!("no question") };
    assert!(confirm.lines[0].contains("41M in 212 files"));
    assert_eq!(confirm.choices[0].key, 's', "saving it comes first");
    assert!(confirm.choices.iter().filter(|choice| choice.request.is_some()).all(|choice| choice.key != 'X'));
    model.now_ms += DEAF_MS;
    assert_eq!(press(&mut model, "X X enter"), []);
    assert!(model.layers.is_empty());
    // A throwaway that has ended kept nothing: no question.
    let mut model = cube(3);
    assert!(matches!(requests(&press(&mut model, "X"))[..], [Request::Remove(_)]));
}

#[test]
fn what_cannot_be_done_says_why() {
    for (at, keys, why) in [
        (0, "X", "it runs: stop it first"),
        (2, "x", "it has ended"),
        (3, "enter", "it has ended, and was not kept"),
        (1, "i", "it has no terminal"),
        (0, "m", "only a cube that is kept has a name"),
        (3, "s", "it has ended, and was not kept"),
        (0, "F", "nothing is forwarded into it"),
        (2, "n", "it has ended"),
    ] {
        let mut model = cube(at);
        assert_eq!(requests(&press(&mut model, keys)), Vec::<Request>::new(), "{keys}");
        let toasts = model.toasts();
        assert!(toasts.iter().any(|toast| toast.text.contains(why)), "{keys}: {toasts:?}");
    }
    let mut model = on(Pane::Machines, "default");
    press(&mut model, "X");
    assert!(model.toasts()[0].text.contains("always exists"), "{:?}", model.toasts());
    let mut model = on(Pane::Projects, "site");
    press(&mut model, "X");
    assert!(model.toasts()[0].text.contains("runs in it"), "{:?}", model.toasts());
}

#[test]
fn nothing_but_q_and_two_interrupts_leave() {
    let mut model = on(Pane::Projects, "site");
    press(&mut model, "esc esc esc esc ctrl-c");
    assert_eq!(model.quit, None);
    model.now_ms += 5000;
    press(&mut model, "ctrl-c");
    assert_eq!(model.quit, None, "too late for the first");
    press(&mut model, "ctrl-c");
    assert_eq!(model.quit, Some(130));
    let mut model = on(Pane::Projects, "site");
    press(&mut model, "enter ctrl-c");
    assert!(model.layers.is_empty() && model.quit.is_none(), "it ends what is on top");
    press(&mut model, "q");
    assert_eq!(model.quit, Some(0));
}

#[test]
fn a_launch_is_planned_before_and_a_refused_one_stays() {
    let mut model = on(Pane::Projects, "site");
    let effects = press(&mut model, "enter");
    assert!(matches!(effects[..], [Effect::Plan(1, _), Effect::Offers(_)]), "{effects:?}");
    let planned = || Planned { lines: vec!["jail".into()], warnings: Vec::new(), settings: Vec::new() };
    // Down to `net`, and to the next word: asked again, and the first answer comes too late.
    let effects = press(&mut model, "down down down right");
    assert!(
        matches!(&effects[..], [Effect::Plan(2, typed), Effect::Offers(_)] if typed.settings.net.is_some()),
        "{effects:?}"
    );
    say(&mut model, Msg::Planned(1, Ok(planned())));
    assert!(matches!(model.layers.last(), Some(Layer::Sheet(sheet)) if sheet.plan.is_none()));
    let refusal = Failure::new(FailureKind::Unsupported, "the net policy `open` is not built yet");
    say(&mut model, Msg::Planned(2, Err(refusal)));
    assert_eq!(press(&mut model, "enter"), []);
    assert!(matches!(model.layers.last(), Some(Layer::Sheet(_))), "it is not launched");
    assert!(model.toasts()[0].text.contains("not built yet"));
    press(&mut model, "left");
    say(&mut model, Msg::Planned(3, Ok(planned())));
    let effects = press(&mut model, "enter");
    assert!(matches!(requests(&effects)[..], [Request::Launch(_)]), "{effects:?}");
    assert_eq!(model.log[0].command, "tripmine -m default site");
    // Back, with the cube left running: it is selected as soon as it is seen.
    let id = world().cubes[1].id.clone();
    say(
        &mut model,
        Msg::Back(Ok(Return { text: "runs on".into(), runs_on: Some(id.clone()), question: None })),
    );
    say(&mut model, Msg::World(Box::new(world())));
    assert_eq!((model.focus, model.selected().as_deref()), (Pane::Cubes, Some(id.as_str())));
}

#[test]
fn names_are_checked_before_anything_is_made() {
    let mut model = on(Pane::Projects, "site");
    press(&mut model, "n");
    say(&mut model, Msg::Input(Input::Paste("p\x1b[2Js\nrm -rf\n".into())));
    // Several lines for one: asked, and nothing of it is a key.
    let Some(Layer::Confirm(confirm)) = model.layers.last() else { panic!("not asked") };
    assert!(confirm.title.contains("paste 2 lines"), "{confirm:?}");
    assert_eq!(press(&mut model, "f"), [], "typed ahead");
    model.now_ms += DEAF_MS;
    press(&mut model, "f");
    let Some(Layer::Prompt(prompt)) = model.layers.last() else { panic!("no prompt") };
    assert_eq!(prompt.field.value(), "p[2Js", "one line, no controls, and nothing entered");
    press(&mut model, "enter");
    assert!(matches!(model.layers.last(), Some(Layer::Prompt(prompt)) if prompt.error.is_some()));
    press(&mut model, "ctrl-u s h o p");
    let effects = press(&mut model, "enter");
    let made = Request::ProjectCreate {
        machine: Name::default_machine(),
        name: Name::parse("shop").expect("a name"),
    };
    assert_eq!(requests(&effects), [made]);
    let mut model = on(Pane::Machines, "work");
    press(&mut model, "E m e m o r y = 2 G");
    let effects = press(&mut model, "enter");
    assert_eq!(requests(&effects)[0].command_line(), "tripmine machine edit work --memory 2G");
    press(&mut model, "E m e m r o y = 2 enter");
    let Some(Layer::Prompt(prompt)) = model.layers.last() else { panic!("no prompt") };
    assert!(prompt.error.as_deref().is_some_and(|why| why.contains("did you mean `memory`?")), "{prompt:?}");
}

#[test]
fn help_runs_what_it_shows_and_themes_are_tried() {
    let mut model = cube(0);
    press(&mut model, "? l o g s");
    let effects = press(&mut model, "enter");
    assert!(matches!(effects[..], [Effect::Log(_)] | [Effect::Log(_), ..]), "{effects:?}");
    assert!(matches!(model.layers.last(), Some(Layer::Page(_))));
    press(&mut model, "q");
    assert!(model.layers.is_empty() && model.quit.is_none(), "q leaves the page only");
    assert_eq!(press(&mut model, "t down"), [Effect::Theme("mono".into())]);
    say(&mut model, Msg::Themed(Ok("mono".into())));
    assert_eq!(press(&mut model, "esc"), [Effect::Theme("default".into())]);
    say(&mut model, Msg::Themed(Ok("default".into())));
    press(&mut model, "t n o r d");
    assert_eq!(press(&mut model, "enter"), [Effect::KeepTheme("nord".into())]);
}

#[test]
fn a_log_follows_until_one_looks_back() {
    let mut model = cube(0);
    press(&mut model, "l");
    let lines = |from: usize, to: usize| {
        (from..to).map(|n| PageLine { text: format!("line {n}"), ..PageLine::default() }).collect()
    };
    say(&mut model, Msg::Lines(lines(0, 100)));
    let page = |model: &Model| match model.layers.last() {
        Some(Layer::Page(page)) => (page.top, page.follow, page.unseen),
        other => panic!("no page: {other:?}"),
    };
    let (end, follow, _) = page(&model);
    assert!(end > 50 && follow);
    press(&mut model, "k");
    say(&mut model, Msg::Lines(lines(100, 228)));
    assert_eq!(page(&model), (end - 1, false, 128));
    press(&mut model, "G");
    assert!(page(&model).1 && page(&model).0 > 100 && page(&model).2 == 0);
    press(&mut model, "g / l i n e space 7 7 enter");
    assert_eq!((page(&model).0, page(&model).1), (77, false), "found, and held there");
}

#[test]
fn the_selected_cube_is_watched_and_no_other() {
    let mut model = on(Pane::Projects, "site");
    let first = world().cubes[0].id.clone();
    let watched = |mut effects: Vec<Effect>| {
        effects.retain(|effect| matches!(effect, Effect::Watch(_)));
        effects
    };
    assert_eq!(watched(press(&mut model, "3")), [Effect::Watch(Some(first.clone()))]);
    assert_eq!(watched(press(&mut model, "k")), [], "it is watched already");
    assert_eq!(watched(press(&mut model, "j")), [Effect::Watch(Some(world().cubes[1].id.clone()))]);
    assert_eq!(watched(press(&mut model, "j")), [Effect::Watch(None)], "it has ended");
    // A picture of a cube that is no longer selected is not shown.
    say(&mut model, Msg::Picture(first, Ok(crate::term::cells::Picture::default())));
    assert!(model.peek.is_none());
    // No room for a detail, nothing to watch.
    press(&mut model, "g g");
    assert_eq!(say(&mut model, Msg::Resize(50, 20)), [Effect::Watch(None)]);
}

#[test]
fn typing_into_a_cube_follows_the_size() {
    let mut model = cube(0);
    let effects = press(&mut model, "i");
    let sizes = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Enter { rows, cols, .. } => Some((*rows, *cols)),
            _ => None,
        })
    };
    let before = sizes(&effects).expect("entered");
    assert_eq!(effects.len(), 1, "nothing takes it away again: {effects:?}");
    assert_eq!(press(&mut model, "q x ctrl-d"), [], "keys are the cube's");
    assert!(model.quit.is_none() && model.layers.len() == 1);
    let after = sizes(&say(&mut model, Msg::Resize(200, 60))).expect("resized");
    assert!(after.0 > before.0 && after.1 > before.1);
    assert_eq!(say(&mut model, Msg::Resize(20, 5)), [], "too small for anything");
    say(&mut model, Msg::Left);
    assert!(model.layers.is_empty());
}

#[test]
fn every_command_can_be_given_everywhere() {
    for columns in [30, 50, 80, 120] {
        for pane in Pane::ALL {
            for command in COMMANDS {
                let mut model = model(columns, 24);
                model.focus = pane;
                say(&mut model, Msg::Tick);
                let _effects = give(&mut model, command);
                model.settle();
                let empty = Box::default();
                say(&mut model, Msg::World(empty));
                let _effects = give(&mut model, command);
            }
        }
    }
}

fn denial(place: &str) -> crate::engine::net::Denial {
    crate::engine::net::Denial {
        place: place.into(),
        why: "no rule allows it".into(),
        rule: crate::model::net::Rule::parse(place).ok(),
        count: 1,
        time_ms: 1,
    }
}

#[test]
fn a_denial_is_told_decided_on_and_silenced() {
    let mut model = cube(0);
    let id = world().cubes[0].id.clone();
    say(&mut model, Msg::Denied(id.clone(), denial("a.example:443")));
    assert!(model.toasts()[0].text.contains("denied a.example:443"), "{:?}", model.toasts());
    assert_eq!(press(&mut model, "n"), [Effect::Denials(id.clone())]);
    say(&mut model, Msg::Denials(id.clone(), true, Ok(vec![denial("a.example:443")])));
    press(&mut model, "enter");
    model.now_ms += DEAF_MS;
    let effects = press(&mut model, "m");
    let asked = requests(&effects);
    let [Request::NetAllow { cube, until, .. }] = &asked[..] else { panic!("{effects:?}") };
    assert_eq!((cube, *until), (&id, crate::engine::request::Until::Machine));
    assert!(model.layers.is_empty());
    // Never: it is not told again, and nothing is asked of the cube.
    say(&mut model, Msg::Denials(id.clone(), true, Ok(vec![denial("b.example:443")])));
    press(&mut model, "enter");
    model.now_ms += DEAF_MS + 60_000;
    assert_eq!(requests(&press(&mut model, "v")), Vec::<Request>::new());
    let before = model.notices.len();
    say(&mut model, Msg::Denied(id, denial("b.example:443")));
    assert_eq!(model.notices.len(), before);
}

#[test]
fn a_listener_is_chosen_and_its_address_copied() {
    let mut model = cube(0);
    let id = world().cubes[0].id.clone();
    assert_eq!(press(&mut model, "f"), [Effect::Ports(id.clone())]);
    let found = crate::model::Listening {
        port: 3000,
        address: [127, 0, 0, 1].into(),
        program: Some("ev\u{1b}il".into()),
        pid: None,
    };
    say(&mut model, Msg::Ports(id.clone(), true, Ok(vec![found])));
    let Some(Layer::Picker(picker)) = model.layers.last() else { panic!("nothing to pick") };
    assert!(!picker.items[0].about.contains('\u{1b}'));
    let effects = press(&mut model, "enter");
    let map = crate::model::PortMap::same(3000.try_into().expect("no zero"));
    assert_eq!(requests(&effects), [Request::Forward { cube: id, map }]);
    let done = crate::engine::carry::Done {
        message: "open".into(),
        undo: false,
        warnings: Vec::new(),
        copy: Some("http://127.0.0.1:3000".into()),
    };
    let effects = say(&mut model, Msg::Done(0, Ok(done)));
    assert!(effects.contains(&Effect::Copy("http://127.0.0.1:3000".into())), "{effects:?}");
}

#[test]
fn what_a_throwaway_changed_is_held_until_it_is_decided_on() {
    let mut model = cube(0);
    let id = world().cubes[0].id.clone();
    let question = || Return { question: Some((id.clone(), vec!["1 added".into()])), ..Return::default() };
    say(&mut model, Msg::Back(Ok(question())));
    model.now_ms += DEAF_MS;
    assert!(!press(&mut model, "k d e v").contains(&Effect::Release));
    let effects = press(&mut model, "enter");
    assert!(effects.contains(&Effect::Draft(id.clone(), "dev".into())), "{effects:?}");
    let drafted = crate::tui::msg::Drafted { lines: Vec::new(), secrets: 1 };
    say(&mut model, Msg::Drafted(id.clone(), "dev".into(), Ok(drafted)));
    model.now_ms += DEAF_MS;
    let effects = press(&mut model, "y");
    assert!(matches!(requests(&effects)[..], [Request::Snapshot { .. }]), "{effects:?}");
    assert!(!effects.contains(&Effect::Release), "not before it is done");
    // It failed: the question is still there. Enter discards.
    say(&mut model, Msg::Done(0, Err(Failure::new(FailureKind::Busy, "full"))));
    assert!(model.held.is_some());
    model.now_ms += DEAF_MS;
    assert!(press(&mut model, "enter").contains(&Effect::Release));
    assert_eq!((model.held.clone(), model.layers.len()), (None, 0));
}
