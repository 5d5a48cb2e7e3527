//! Where everything goes: a pure function of the size. Three shapes: lists beside a detail from 100 columns, one above
//! the other from 60, the list alone below.

use ratatui::layout::Rect;

use super::model::Pane;

/// The least that anything is drawn in.
pub const SMALLEST: (u16, u16) = (40, 10);
/// From here on lists and detail stand side by side.
const WIDE: u16 = 100;
/// From here on the detail is below the list.
const MIDDLE: u16 = 60;

/// Where everything goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Too small for anything but one line.
    pub too_small: bool,
    /// One line with the names of the lists, when only one list is drawn.
    pub tabs: Option<Rect>,
    /// The lists that are drawn.
    pub panes: Vec<(Pane, Rect)>,
    /// The detail of what is selected.
    pub detail: Option<Rect>,
    /// Keys that matter here.
    pub hints: Rect,
    /// Where one is, and how it goes.
    pub status: Rect,
}

impl Layout {
    /// Where a list is drawn.
    #[must_use]
    pub fn pane(&self, pane: Pane) -> Option<Rect> {
        self.panes.iter().find(|(one, _)| *one == pane).map(|(_, area)| *area)
    }
}

/// The layout of a screen of `size` (columns and rows). `counts` are the rows of each list.
#[must_use]
pub fn layout(size: (u16, u16), focus: Pane, counts: [usize; 4]) -> Layout {
    let (width, height) = size;
    let last = |from_end: u16| Rect::new(0, height.saturating_sub(from_end), width, 1.min(height));
    let mut layout = Layout {
        too_small: width < SMALLEST.0 || height < SMALLEST.1,
        tabs: None,
        panes: Vec::new(),
        detail: None,
        hints: last(2),
        status: last(1),
    };
    let body = Rect::new(0, 0, width, height.saturating_sub(2));
    if width >= WIDE && height >= 20 {
        let left = (width * 2 / 5).clamp(38, 56);
        layout.panes = stack(Rect { width: left, ..body }, focus, counts);
        layout.detail = Some(Rect { x: left, width: width - left, ..body });
    } else {
        layout.tabs = Some(Rect { height: 1, ..body });
        let body = Rect { y: 1, height: body.height.saturating_sub(1), ..body };
        if width >= WIDE {
            let left = (width * 2 / 5).clamp(38, 56);
            layout.panes = vec![(focus, Rect { width: left, ..body })];
            layout.detail = Some(Rect { x: left, width: width - left, ..body });
        } else if width >= MIDDLE && height >= 16 {
            let rows = u16::try_from(counts[focus.index()]).unwrap_or(u16::MAX).max(1);
            let list = rows.saturating_add(2).clamp(4, body.height * 2 / 5);
            layout.panes = vec![(focus, Rect { height: list, ..body })];
            layout.detail = Some(Rect { y: body.y + list, height: body.height - list, ..body });
        } else {
            layout.panes = vec![(focus, body)];
        }
    }
    layout
}

/// The four lists above one another. The one that has the keys gets what the others leave.
fn stack(area: Rect, focus: Pane, counts: [usize; 4]) -> Vec<(Pane, Rect)> {
    let share = (area.height / 5).max(3);
    let wanted =
        |pane: Pane| u16::try_from(counts[pane.index()]).unwrap_or(u16::MAX).max(1).saturating_add(2);
    let mut heights = Pane::ALL.map(|pane| wanted(pane).min(share).max(3));
    let others: u16 = Pane::ALL.iter().filter(|pane| **pane != focus).map(|pane| heights[pane.index()]).sum();
    heights[focus.index()] = area.height.saturating_sub(others);
    // What the focused list cannot fill goes to the cubes, else to the projects: those grow.
    for grows in [Pane::Cubes, Pane::Projects] {
        let spare = heights[focus.index()].saturating_sub(wanted(focus).max(4));
        if grows != focus {
            let more = wanted(grows).saturating_sub(heights[grows.index()]).min(spare);
            heights[grows.index()] += more;
            heights[focus.index()] -= more;
        }
    }
    let mut y = area.y;
    Pane::ALL
        .iter()
        .map(|pane| {
            let rect = Rect { y, height: heights[pane.index()], ..area };
            y += rect.height;
            (*pane, rect)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_filled_and_nothing_overlaps() {
        for width in [1, 39, 40, 59, 60, 80, 99, 100, 120, 200, 500] {
            for height in [1, 5, 9, 10, 15, 16, 19, 20, 24, 40, 60, 200] {
                for focus in Pane::ALL {
                    for counts in [[0; 4], [1, 3, 2, 1], [3, 2000, 1000, 40]] {
                        let layout = layout((width, height), focus, counts);
                        let screen = Rect::new(0, 0, width, height);
                        let areas: Vec<Rect> = layout
                            .panes
                            .iter()
                            .map(|(_, area)| *area)
                            .chain(layout.detail)
                            .chain(layout.tabs)
                            .collect();
                        for (at, area) in areas.iter().enumerate() {
                            assert_eq!(area.intersection(screen), *area, "{width}x{height} {layout:?}");
                            let apart = |other: &Rect| area.intersection(*other).is_empty();
                            assert!(areas[at + 1..].iter().all(apart), "{width}x{height} {layout:?}");
                        }
                        assert_eq!(layout.too_small, width < 40 || height < 10);
                        let focused = layout.pane(focus).expect("drawn");
                        assert!(layout.too_small || focused.height >= 3, "{width}x{height} {layout:?}");
                    }
                }
            }
        }
    }
}
