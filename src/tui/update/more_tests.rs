//! Tables about what is typed, marked, copied and waited for.

use super::hands::{carried, cube, on, press, say, typed};
use super::*;
use crate::engine::request::Request;
use crate::model::{Failure, FailureKind};
use crate::tui::layer::{DEAF_MS, PageLine};
use crate::tui::testing::world;

#[test]
fn several_at_once_need_their_number() {
    let mut model = cube(0);
    press(&mut model, "space space space");
    assert_eq!(model.marked.len(), 3, "and each went on to the next row");
    press(&mut model, "x");
    let Some(Layer::Confirm(confirm)) = model.layers.last() else { panic!("not asked") };
    assert_eq!(confirm.title, "stop 2 cubes?", "the third has ended");
    assert!(confirm.lines.iter().any(|line| line.contains("1 more are marked")), "{confirm:?}");
    assert!(acts::bulk_line(&confirm.bulk.as_ref().expect("a bulk").requests).matches(' ').count() == 3);
    assert_eq!(press(&mut model, "2"), [], "typed ahead");
    model.now_ms += DEAF_MS;
    assert_eq!(press(&mut model, "y 3 1"), [], "no other number, and no yes");
    let effects = press(&mut model, "2");
    assert_eq!(carried(&effects).len(), 2, "{effects:?}");
    assert!(model.layers.is_empty() && model.marked.is_empty() && model.jobs.len() == 2);
    // Enter is no, whatever was typed.
    press(&mut model, "g g space space K");
    model.now_ms += DEAF_MS;
    assert_eq!(carried(&press(&mut model, "enter")), Vec::<String>::new());
    assert!(model.layers.is_empty());
    // A mark is taken away as it was made.
    press(&mut model, "g g space space");
    assert!(model.marked.is_empty());
}

#[test]
fn several_lines_become_one_only_when_that_is_meant() {
    for (answer, filter) in [("n", ""), ("f", "one"), ("j", "one two"), ("enter", "")] {
        let mut model = cube(0);
        press(&mut model, "/");
        say(&mut model, Msg::Input(Input::Paste("one\ntwo\n".into())));
        assert!(matches!(model.layers.last(), Some(Layer::Confirm(_))));
        model.now_ms += DEAF_MS;
        press(&mut model, answer);
        assert!(model.layers.is_empty() && model.filtering, "{answer}");
        assert_eq!(model.list().filter, filter, "{answer}");
    }
    // One line, however it ends, is typed at once; and where nothing is typed, nothing happens.
    let mut model = cube(0);
    press(&mut model, "/");
    say(&mut model, Msg::Input(Input::Paste("one\r\n".into())));
    assert_eq!((model.list().filter.as_str(), model.layers.len()), ("one", 0));
    let mut model = cube(0);
    assert_eq!(say(&mut model, Msg::Input(Input::Paste("x\ny\n".into()))), []);
    assert!(model.layers.is_empty());
}

#[test]
fn the_palette_takes_what_it_is_about() {
    let mut model = on(Pane::Projects, "site");
    let command = |model: &mut Model, text: &str| {
        press(model, ":");
        typed(model, text)
    };
    command(&mut model, "rename box lab");
    assert_eq!(model.focus, Pane::Cubes);
    let Some(Layer::Prompt(prompt)) = model.layers.last() else { panic!("nothing asked") };
    assert_eq!(prompt.field.value(), "lab");
    assert_eq!(carried(&press(&mut model, "enter")).len(), 1);
    // By the start of its row, and the question comes all the same.
    let id = world().cubes[0].id.short().to_owned();
    assert_eq!(carried(&command(&mut model, &format!("stop {id}"))), Vec::<String>::new());
    assert!(matches!(model.layers.last(), Some(Layer::Confirm(_))));
    press(&mut model, "esc");
    command(&mut model, "stop nobody");
    assert!(model.toasts().iter().any(|toast| toast.text.contains("no `nobody` among the cubes")));
    let effects = command(&mut model, "machine-rm default");
    assert_eq!(carried(&effects), Vec::<String>::new());
    assert!(model.toasts().iter().any(|toast| toast.text.contains("always exists")), "{:?}", model.toasts());
}

#[test]
fn a_silent_keeper_is_a_grey_row_with_a_time() {
    let mut model = cube(0);
    let id = world().cubes[0].id.clone();
    let row = |model: &Model| super::super::rows::rows(model, Pane::Cubes).remove(0);
    assert!(!row(&model).grey);
    let again = model.now_ms + 5000;
    say(&mut model, Msg::Silent(id.clone(), Some(again)));
    assert!(row(&model).grey && row(&model).note.contains("no answer, again in 5s"), "{:?}", row(&model));
    model.now_ms += 3200;
    assert!(row(&model).note.contains("again in 2s"));
    say(&mut model, Msg::Usage(id.clone(), crate::keeper::protocol::Usage::default(), 1));
    assert!(!row(&model).grey && model.silent.is_empty());
    say(&mut model, Msg::Silent(id, Some(again)));
    say(&mut model, Msg::World(Box::default()));
    assert!(model.silent.is_empty(), "it is gone");
}

#[test]
fn what_takes_long_can_be_broken_off() {
    let mut model = on(Pane::Images, "dev");
    press(&mut model, "J");
    assert!(model.toasts().iter().any(|toast| toast.text.contains("nothing is under way")));
    press(&mut model, "P");
    assert_eq!(carried(&typed(&mut model, "debian:12")), ["tripmine image pull -m default debian:12"]);
    press(&mut model, "u J");
    let Some(Layer::Picker(picker)) = model.layers.last() else { panic!("nothing to pick") };
    assert_eq!(picker.items.len(), 2);
    assert!(picker.items[0].disabled.is_none() && picker.items[1].disabled.is_some(), "{picker:?}");
    assert_eq!(press(&mut model, "enter"), [Effect::Cancel(0)]);
    // Leaving now would lose it: asked, and enter stays.
    press(&mut model, "q");
    model.now_ms += DEAF_MS;
    press(&mut model, "enter");
    assert_eq!((model.quit, model.layers.len()), (None, 0));
    press(&mut model, "q");
    // What kept one from leaving has failed: that is read, and nothing is asked any more.
    say(&mut model, Msg::Done(1, Err(Failure::new(FailureKind::Busy, "there is nothing to undo"))));
    assert_eq!((model.jobs.len(), model.layers.len()), (1, 1), "the other one goes on");
    say(&mut model, Msg::Done(0, Err(Failure::new(FailureKind::Busy, "broken off"))));
    assert_eq!((model.layers.len(), model.quit), (0, None));
    press(&mut model, "u q");
    let done =
        crate::engine::carry::Done { message: "back".into(), undo: false, warnings: Vec::new(), copy: None };
    say(&mut model, Msg::Done(2, Ok(done)));
    assert_eq!(model.quit, Some(0), "nothing keeps one any more");
    model.quit = None;
    press(&mut model, "u q|y");
    assert_eq!(model.quit, Some(0));
}

#[test]
fn how_far_a_job_is_shows_and_ends_with_it() {
    let mut model = on(Pane::Images, "dev");
    press(&mut model, "p");
    // Nothing is sent anywhere by entering alone.
    assert_eq!(carried(&press(&mut model, "enter")), Vec::<String>::new());
    // Another name than its own is where it goes; its own needs no word.
    press(&mut model, "ctrl-u");
    assert_eq!(carried(&typed(&mut model, "dev")), ["tripmine image push -m default dev"]);
    let progress = |done| Msg::Progress(0, crate::tui::model::Progress { done, total: Some(4 << 20) });
    say(&mut model, progress(1 << 20));
    let row = |model: &Model| super::super::rows::rows(model, Pane::Images).remove(1);
    assert_eq!(row(&model).note, "pushing 25 %…");
    press(&mut model, "J");
    say(&mut model, progress(3 << 20));
    let Some(Layer::Picker(picker)) = model.layers.last() else { panic!("nothing to pick") };
    assert!(picker.items[0].about.contains("75 %  3.0M of 4.0M"), "the open list goes on: {picker:?}");
    let done = crate::engine::carry::Done {
        message: "pushed".into(),
        undo: false,
        warnings: Vec::new(),
        copy: None,
    };
    say(&mut model, Msg::Done(0, Ok(done)));
    assert_eq!(row(&model).note, "41M · 2 layers");
    // What comes too late is about nothing.
    say(&mut model, progress(4 << 20));
    assert!(model.jobs.is_empty());
}

#[test]
fn what_no_program_takes_the_terminal_may() {
    let mut model = cube(0);
    assert_eq!(say(&mut model, Msg::NotTaken("text".into())), [Effect::CopyByTerminal("text".into())]);
    let effects = press(&mut model, "y");
    assert!(matches!(&effects[..], [Effect::Copy(id)] if *id == world().cubes[0].id.as_str()), "{effects:?}");
}

#[test]
fn a_refused_jail_says_why_before_it_is_chosen() {
    let mut model = on(Pane::Projects, "site");
    let effects = press(&mut model, "enter");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Offers(_))), "{effects:?}");
    let refusal =
        Failure::new(FailureKind::Unsupported, "there is no /dev/kvm").hint("sudo modprobe kvm_intel");
    let word = super::super::sheet::JAILS.last().expect("jails");
    say(&mut model, Msg::Offers(vec![((*word).to_owned(), Some(refusal))]));
    press(&mut model, "down down /");
    let Some(Layer::Picker(picker)) = model.layers.last() else { panic!("nothing to pick") };
    let item = picker.items.iter().find(|item| item.id == *word).expect("offered");
    assert_eq!(item.disabled.as_deref(), Some("there is no /dev/kvm"));
    assert_eq!(item.about, "sudo modprobe kvm_intel");
    let free = picker.items.iter().filter(|item| item.disabled.is_none()).count();
    assert_eq!(free, picker.items.len() - 1);
}

#[test]
fn a_log_is_full_wrapped_and_never_loses_its_end() {
    let mut model = cube(0);
    press(&mut model, "l");
    let lines = |from: usize, to: usize| {
        let long = "word ".repeat(60);
        (from..to).map(|n| PageLine { text: format!("line {n} {long}"), ..PageLine::default() }).collect()
    };
    say(&mut model, Msg::Lines(lines(0, 200)));
    let page = |model: &Model| match model.layers.last() {
        Some(Layer::Page(page)) => (page.top, page.follow, page.full),
        other => panic!("no page: {other:?}"),
    };
    let cut = page(&model).0;
    press(&mut model, "w");
    // Three rows a line: the last third of what fitted before, and still the end.
    assert!(page(&model).0 > cut + 20 && page(&model).1, "{:?}", page(&model));
    press(&mut model, "k");
    assert!(!page(&model).1, "one line back is one line back");
    press(&mut model, "f");
    assert!(page(&model).2);
    press(&mut model, "G");
    assert!(page(&model).1);
    press(&mut model, "w f");
    assert_eq!((page(&model).0, page(&model).2), (cut, false));
}

#[test]
fn what_a_cube_changed_is_asked_for_once_it_is_looked_at() {
    let mut model = cube(0);
    let id = world().cubes[0].id.clone();
    let usage = |age_ms| crate::keeper::protocol::Usage { age_ms, ..Default::default() };
    (model.samples, model.measured) = Default::default();
    let wanted = Effect::Measure(format!("changes {id}"));
    assert!(!say(&mut model, Msg::Usage(id.clone(), usage(1000), 1)).contains(&wanted), "only passing by");
    assert!(say(&mut model, Msg::Usage(id.clone(), usage(2000), 1)).contains(&wanted));
    assert!(!say(&mut model, Msg::Usage(id.clone(), usage(3000), 1)).contains(&wanted), "once");
    // It is the loss that the question states.
    press(&mut model, "x");
    say(&mut model, Msg::Measured(format!("changes {id}"), "3 added, 41K".into()));
    let Some(Layer::Confirm(confirm)) = model.layers.last() else { panic!("not asked") };
    assert!(confirm.lines[0].contains("3 added, 41K would go"), "{confirm:?}");
    let snapshot = confirm.choices.iter().any(|choice| choice.key == 's' && choice.then.is_some());
    assert!(snapshot && matches!(confirm.choices[1].request, Some(Request::Stop(_))));
}

#[test]
fn a_cube_that_cannot_be_paused_says_why_and_a_paused_one_goes_on() {
    use crate::model::ExitReason;
    use crate::tui::command::find;
    let check = |model: &Model, id| find(id, Pane::Cubes).expect("a command").check(model);
    let mut running = cube(0);
    assert_eq!((check(&running, "pause"), check(&running, "resume").is_err()), (Ok(()), true));
    if let Ok(record) = &mut running.world.cubes[0].record {
        std::sync::Arc::make_mut(record).cannot_pause = Some("QEMU 7.2.22 does not".into());
    }
    assert_eq!(check(&running, "pause"), Err("QEMU 7.2.22 does not".into()));
    assert_eq!(press(&mut running, "P"), [], "and is not asked");
    let mut kept = cube(2);
    assert_eq!(check(&kept, "resume"), Err("it is not paused".into()));
    if let Ok(record) = &mut kept.world.cubes[2].record
        && let Some(exit) = &mut std::sync::Arc::make_mut(record).exit
    {
        exit.reason = ExitReason::Paused;
    }
    let joined = press(&mut kept, "r");
    assert!(matches!(&joined[..], [Effect::Join(Request::Resume { keep: None, .. })]), "{joined:?}");
}
