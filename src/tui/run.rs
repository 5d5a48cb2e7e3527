//! Sets the screen up: the terminal, the signals, the thread that looks at the world; and gives the terminal back, however
//! it ends. The loop itself is [`App`].

use super::app::App;
use super::edge::Tty;
use super::mailbox::mailbox;
use super::setup;
use super::terminal::{Terminal, restore};
use super::watch::Watch;
use crate::engine::{Engine, Menu};
use crate::host::tty::Signals;
use crate::model::Failure;

/// What is heard of as a message instead of ending or stopping us.
const HEARD: [i32; 7] =
    [libc::SIGWINCH, libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGCONT];

/// Shows the menu until the user leaves; the exit code.
///
/// # Errors
/// The terminal cannot be used.
pub fn main(engine: &Engine, menu: &Menu) -> Result<u8, Failure> {
    if menu.plain {
        return super::plain::main(engine, menu);
    }
    let fail = |error: &dyn std::error::Error| Failure::failed("cannot use the terminal").because(error);
    // Before any thread: they all have these blocked then, and one place hears of them.
    let signals = Signals::take(&HEARD).map_err(|error| fail(&error))?;
    let (mailbox, inbox) = mailbox().map_err(|error| fail(&error))?;
    let machine = setup::machine(engine, menu);
    // It looks while the rest is set up.
    let watch = Watch::start(engine.clone(), machine, mailbox.clone()).map_err(|error| fail(&error))?;
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // A thread's panic is caught and told on the screen; ours ends the screen.
        if std::thread::current().name() == Some("main") {
            restore();
            hook(info);
        }
    }));
    let terminal = Terminal::enter(engine.config.mouse).map_err(|error| fail(&error))?;
    let start = setup::start(engine, menu, &terminal);
    let mut app = App::new(engine, start, Tty { terminal, signals }, (mailbox, inbox), watch);
    let result = app.run();
    // First the terminal; threads may take a moment to end.
    restore();
    result
}
