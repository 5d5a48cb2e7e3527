//! Drawing: a model and a look become a buffer of cells, and a map of what can be pressed where. Pure.

pub mod boxes;
mod confirm;
mod cube;
mod detail;
mod hints;
mod list;
mod page;
pub mod picker;
mod picture;
mod prompt;
mod sheet;
mod status;
pub mod terminal;
mod toasts;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::key::Key;
use super::layer::Layer;
use super::look::Look;
use super::model::{Model, Pane};
use super::role::Role;
use boxes::Brush;

/// What a press leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A list.
    Pane(Pane),
    /// A row of a list, by id.
    Row(Pane, String),
    /// A command, by id.
    Command(&'static str),
    /// A row of the uppermost layer.
    Item(usize),
    /// As if this key were pressed.
    Key(Key),
}

/// What was drawn where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    places: Vec<(Rect, Target)>,
    /// Where the cursor is to be: column and row; shown when something is typed.
    pub cursor: Option<(u16, u16)>,
    /// Something is typed there.
    pub typing: bool,
}

impl Zones {
    /// What lies there, uppermost first.
    #[must_use]
    pub fn at(&self, x: u16, y: u16) -> Option<&Target> {
        let there = |area: &Rect| area.contains((x, y).into());
        self.places.iter().rev().find(|(area, _)| there(area)).map(|(_, target)| target)
    }

    pub(super) fn add(&mut self, area: Rect, target: Target) {
        self.places.push((area, target));
    }
}

pub use page::{page_end, page_height};

/// Draws everything.
pub fn draw(model: &Model, look: &Look, buffer: &mut Buffer) -> Zones {
    let mut zones = Zones::default();
    let area = buffer.area;
    buffer.set_style(area, look.style(Role::Text));
    let layout = model.layout();
    {
        let mut brush = Brush { buffer: &mut *buffer, look };
        if layout.too_small {
            let (columns, rows) = super::layout::SMALLEST;
            let text = format!("{columns}x{rows} needed · q leaves");
            let y = area.height / 2;
            let x = area.width.saturating_sub(u16::try_from(super::text::width(&text)).unwrap_or(0)) / 2;
            brush.text(
                Rect { x, y, width: area.width.saturating_sub(x), height: 1 }.intersection(area),
                Role::Warn,
                &text,
            );
            zones.cursor = Some((0, y));
            look.finish(buffer);
            return zones;
        }
        if let Some(tabs) = layout.tabs {
            list::tabs(model, &mut brush, tabs, &mut zones);
        }
        for (pane, area) in &layout.panes {
            list::draw(model, &mut brush, *pane, *area, &mut zones);
        }
        if let Some(area) = layout.detail {
            match model.layers.last() {
                Some(Layer::Terminal(_)) => {}
                _ => detail::draw(model, &mut brush, area),
            }
        }
        hints::draw(model, &mut brush, layout.hints, &mut zones);
        status::draw(model, &mut brush, layout.status);
        for layer in &model.layers {
            match layer {
                Layer::Sheet(sheet) => sheet::draw(sheet, &mut brush, area, &mut zones),
                Layer::Confirm(confirm) => confirm::draw(model, confirm, &mut brush, area, &mut zones),
                Layer::Prompt(prompt) => prompt::draw(prompt, &mut brush, area, &mut zones),
                Layer::Picker(picker) => {
                    picker::draw(picker, &mut brush, picker::place(picker, model.size, area), &mut zones)
                }
                Layer::Page(shown) => {
                    page::draw(model, shown, &mut brush, page::area(model.size, shown.full), &mut zones)
                }
                Layer::Terminal(terminal) => {
                    terminal::draw(model, terminal, &mut brush, terminal::area(&layout), &mut zones)
                }
            }
        }
        toasts::draw(model, &mut brush, area);
    }
    look.finish(buffer);
    zones
}

#[cfg(test)]
mod tests;
