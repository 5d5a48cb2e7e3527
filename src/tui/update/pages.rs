//! Keys and news for pages: logs, what commands printed, messages.

use super::super::key::{Code, Key};
use super::super::layer::{Layer, Page, PageKind, PageLine, Prompt, PromptKind};
use super::super::model::Model;
use super::super::msg::Effect;
use super::super::view::{page_end, page_height};
use super::layers::Next;

pub(super) fn page_key(model: &mut Model, page: &mut Page, key: Key) -> Next {
    let (height, end) = (page_height(model.size, page), page_end(model.size, page));
    match (key.code, key.ctrl) {
        (Code::Esc | Code::Char('q'), false) => return Next::Close(vec![Effect::EndPage]),
        (Code::Down | Code::Char('j'), false) => page.top += 1,
        (Code::Up | Code::Char('k'), false) => back(page, 1, end),
        (Code::PageDown | Code::Char(' '), false) | (Code::Char('d' | 'f'), true) => page.top += height,
        (Code::PageUp, false) | (Code::Char('u' | 'b'), true) => back(page, height, end),
        (Code::Home | Code::Char('g'), false) => back(page, usize::MAX, end),
        (Code::End | Code::Char('G'), false) => page.top = end,
        (Code::Char('w'), false) => again(model, page, |page| page.wrap = !page.wrap),
        (Code::Char('t'), false) => again(model, page, |page| page.times = !page.times),
        (Code::Char('f'), false) => again(model, page, |page| page.full = !page.full),
        (Code::Char('n'), false) => find(page, true, end),
        (Code::Char('N'), false) => find(page, false, end),
        (Code::Char('y'), false) => {
            let text: Vec<&str> = page
                .lines
                .iter()
                .skip(page.top.min(end))
                .take(height)
                .map(|line| line.text.as_str())
                .collect();
            return Next::Stay(vec![Effect::Copy(text.join("\n"))]);
        }
        (Code::Char('/'), false) => {
            let field = tui_input::Input::new(page.search.clone());
            model.layers.push(Layer::Prompt(Prompt { kind: PromptKind::Search, field, error: None }));
        }
        _ => {}
    }
    let end = page_end(model.size, page);
    page.top = page.top.min(end);
    if page.top == end && matches!(page.kind, PageKind::Log(_)) {
        (page.follow, page.unseen) = (true, 0);
    }
    Next::Stay(Vec::new())
}

/// Shown in another way: who followed, or had the end in sight, goes on there.
fn again(model: &Model, page: &mut Page, change: impl FnOnce(&mut Page)) {
    let at_end = page.follow || page.top >= page_end(model.size, page);
    change(page);
    if at_end {
        page.top = page_end(model.size, page);
    }
}

fn back(page: &mut Page, by: usize, end: usize) {
    page.top = page.top.min(end).saturating_sub(by);
    if end > 0 {
        page.follow = false;
    }
}

pub(super) fn look_for(model: &mut Model, text: String) {
    let size = model.size;
    let Some(page) = model.layers.iter_mut().rev().find_map(|layer| match layer {
        Layer::Page(page) => Some(page),
        _ => None,
    }) else {
        return;
    };
    page.search = text;
    find_from(page, page.top, true, page_end(size, page));
}

fn find(page: &mut Page, forward: bool, end: usize) {
    let from = if forward { page.top + 1 } else { page.top.saturating_sub(1) };
    find_from(page, from, forward, end);
}

fn find_from(page: &mut Page, from: usize, forward: bool, end: usize) {
    if page.search.is_empty() {
        return;
    }
    let search = page.search.to_lowercase();
    let has = |at: &usize| page.lines.get(*at).is_some_and(|line| line.text.to_lowercase().contains(&search));
    let found = if forward { (from..page.lines.len()).find(has) } else { (0..=from).rev().find(has) };
    if let Some(at) = found {
        page.top = at.min(end);
        page.follow = false;
    }
}

pub(super) fn lines(model: &mut Model, lines: Vec<PageLine>) {
    let size = model.size;
    for layer in &mut model.layers {
        if let Layer::Page(page) = layer
            && matches!(page.kind, PageKind::Log(_) | PageKind::Command(_))
        {
            page.add(lines);
            if page.follow {
                page.top = page_end(size, page);
            }
            return;
        }
    }
}
