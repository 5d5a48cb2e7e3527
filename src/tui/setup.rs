//! How the screen is set up: theme, colours, keys and signs, from the configuration and the terminal. What is wrong with
//! any of it is a warning with its place, and the safe choice is used.

use super::ground;
use super::join;
use super::keymap::Keymap;
use super::look::{Depth, Look};
use super::model::{Loud, Model, Setup};
use super::terminal::{Terminal, size};
use crate::config::load::load_config;
use crate::engine::{Engine, Menu};
use crate::keeper::state::now_ms;
use crate::model::{Failure, Name};
use crate::store::themes;

/// What the loop begins with.
pub(super) struct Start {
    pub(super) model: Model,
    pub(super) look: Look,
    pub(super) depth: Depth,
    /// What was typed before anything was drawn.
    pub(super) ahead: Vec<u8>,
}

/// The machine that launches happen on.
pub(super) fn machine(engine: &Engine, menu: &Menu) -> Name {
    menu.machine.clone().or_else(|| engine.config.machine.clone()).unwrap_or_else(Name::default_machine)
}

/// Once the terminal is entered.
pub(super) fn start(engine: &Engine, menu: &Menu, _entered: &Terminal) -> Start {
    let config = &engine.config;
    let depth = menu.color.or(config.color).unwrap_or_else(|| Depth::of(|key| std::env::var(key).ok()));
    let (light, ahead) = if config.theme_light.is_some() { ground::light() } else { (false, Vec::new()) };
    let wanted = config.theme_light.as_ref().filter(|_| light).or(config.theme.as_ref());
    let mut warnings = Vec::new();
    let theme =
        themes::load(&engine.layout, wanted.map_or("default", String::as_str)).unwrap_or_else(|why| {
            warnings.push(why);
            themes::safe()
        });
    warnings.extend(theme.warnings.iter().cloned());
    let (keymap, wrong) = Keymap::new(&config.keys);
    warnings.extend(wrong);
    let setup = Setup {
        theme: theme.name.clone(),
        glyphs: config.glyphs,
        mouse: config.mouse,
        leader: join::leader(engine).map(|leader| leader.to_string()),
        themes: themes::names(&engine.layout),
    };
    let look = Look::new(&theme, setup.glyphs, depth);
    let mut model = Model::new(size(), machine(engine, menu), setup, keymap);
    model.now_ms = now_ms();
    for warning in warnings {
        model.tell(Loud::Warn, warning, Vec::new());
    }
    if let Some(problem) = &menu.problem {
        let hint = "nothing is launched until the file is mended; everything else has its usual value";
        let hints = problem.hints.iter().cloned().chain([hint.to_owned()]).collect();
        model.tell(Loud::Error, problem.to_string(), hints);
    }
    Start { model, look, depth, ahead }
}

/// The engine with `config.toml` as it is now: what is launched follows the file, and a broken one is no policy.
///
/// # Errors
/// What is wrong with the file, with its place.
pub(super) fn fresh(engine: &Engine) -> Result<Engine, Failure> {
    let config = load_config(&engine.layout.config_file())?;
    Ok(Engine { config, ..engine.clone() })
}
