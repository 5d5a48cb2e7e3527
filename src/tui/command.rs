//! The one registry of commands. From it come the keys, the help, the palette, the hints, what can be clicked, the
//! reasons why something cannot be done now, and `docs/keys.md`.

use super::acts;
use super::model::{Model, Pane};
use super::msg::Effect;

/// Where a command can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Everywhere.
    Everywhere,
    /// Where this list has the keys.
    In(Pane),
}

/// How much a command can do harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// It can be taken back, or changes nothing.
    Reversible,
    /// It interrupts something: asks, and Enter says no.
    Disruptive,
    /// Something is lost: asks, with numbers.
    Lossy,
}

/// Whether it can be given now; if not, why.
pub type Enabled = Result<(), String>;

/// One command.
pub struct Command {
    /// Its name: that of the verb, where there is one.
    pub id: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// What it does, in one sentence.
    pub about: &'static str,
    /// Its keys.
    pub keys: &'static [&'static str],
    /// Where.
    pub place: Place,
    /// How much harm.
    pub tier: Tier,
    /// What does the same on the command line; empty for what only moves about.
    pub cli: &'static str,
    /// It stands in the line of hints, under this word.
    pub hint: &'static str,
    /// Some part of this build carries it out.
    pub built: bool,
    /// Whether it can be given now, if it is built.
    pub enabled: fn(&Model) -> Enabled,
    /// Gives it.
    pub run: fn(&mut Model) -> Vec<Effect>,
}

impl Command {
    /// Whether it can be given now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, model: &Model) -> Enabled {
        if self.built { (self.enabled)(model) } else { Err("not built yet".into()) }
    }
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.place == other.place
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

fn always(_: &Model) -> Enabled {
    Ok(())
}

fn nothing(_: &mut Model) -> Vec<Effect> {
    Vec::new()
}

const BASE: Command = Command {
    id: "",
    title: "",
    about: "",
    keys: &[],
    place: Place::Everywhere,
    tier: Tier::Reversible,
    cli: "",
    hint: "",
    built: true,
    enabled: always,
    run: nothing,
};

macro_rules! commands {
    ($($id:literal $title:literal $about:literal { $($field:ident: $value:expr),* $(,)? })+) => {
        /// Every command, in the order in which help shows them.
        pub const COMMANDS: &[Command] = &[$(Command {
            id: $id, title: $title, about: $about, $($field: $value,)* ..BASE
        }),+];
    };
}

const MACHINES: Place = Place::In(Pane::Machines);
const PROJECTS: Place = Place::In(Pane::Projects);
const CUBES: Place = Place::In(Pane::Cubes);
const IMAGES: Place = Place::In(Pane::Images);

commands! {
    "launch" "launch" "Open the launch sheet for this project: choices, the plan, the equal command."
        { keys: &["enter"], place: PROJECTS, cli: "tripmine PROJECT", hint: "launch", enabled: acts::has_row, run: acts::sheet }
    "run" "run at once" "Launch this project as it is set, without the sheet."
        { keys: &["r"], place: PROJECTS, cli: "tripmine PROJECT", hint: "run", enabled: acts::has_row, run: acts::run_now }
    "shell" "throwaway shell" "Launch a shell in this project, whatever its entry is."
        { keys: &["S"], place: PROJECTS, cli: "tripmine --shell PROJECT", hint: "shell", enabled: acts::has_row, run: acts::shell }
    "project-create" "new project" "Make an empty project beneath the projects root."
        { keys: &["n"], place: PROJECTS, cli: "tripmine project create NAME", hint: "new", run: acts::project_create }
    "project-rm" "remove project" "Delete this project with everything in it, into the trash."
        { keys: &["X"], place: PROJECTS, tier: Tier::Lossy, cli: "tripmine project rm NAME", enabled: acts::project_idle, run: acts::project_rm }
    "attach" "attach" "Hand your terminal to this cube; a kept cube that has ended is started again."
        { keys: &["enter"], place: CUBES, cli: "tripmine attach CUBE", hint: "attach", enabled: acts::can_attach, run: acts::attach }
    "enter" "type into it here" "Type into this cube in a pane, with the lists beside it."
        { keys: &["i"], place: CUBES, cli: "tripmine attach CUBE", enabled: acts::has_terminal, run: acts::enter }
    "take-over" "take typing over" "Attach, and take typing over from whoever has it."
        { keys: &["T"], place: CUBES, cli: "tripmine attach --take-over CUBE", enabled: acts::cube_runs, run: acts::take_over }
    "exec" "run a command in it" "Start another process in this cube, on your terminal."
        { keys: &["e"], place: CUBES, cli: "tripmine exec CUBE -- CMD", hint: "exec", enabled: acts::cube_runs, run: acts::exec }
    "logs" "logs" "What this cube printed: follow it, search it."
        { keys: &["l"], place: CUBES, cli: "tripmine logs -f CUBE", hint: "logs", enabled: acts::has_row, run: acts::logs }
    "inspect" "inspect" "All that is known of this cube."
        { keys: &["I"], place: CUBES, cli: "tripmine inspect CUBE", enabled: acts::has_row, run: acts::inspect }
    "events" "events" "What happened to this cube, in order."
        { keys: &["v"], place: CUBES, cli: "tripmine events CUBE", enabled: acts::has_row, run: acts::events }
    "stop" "stop" "End this cube: it gets a moment to end by itself."
        { keys: &["x"], place: CUBES, tier: Tier::Disruptive, cli: "tripmine stop CUBE", hint: "stop", enabled: acts::runs_or_marked, run: acts::stop }
    "kill" "kill" "End this cube at once."
        { keys: &["K"], place: CUBES, tier: Tier::Disruptive, cli: "tripmine kill CUBE", enabled: acts::runs_or_marked, run: acts::kill }
    "pause" "pause" "Save the memory of this kept microvm, and end it: it goes on where it was."
        { keys: &["P"], place: CUBES, tier: Tier::Disruptive, cli: "tripmine pause CUBE", enabled: acts::can_pause, run: acts::pause }
    "resume" "resume" "Let this paused cube go on where it was."
        { keys: &["r"], place: CUBES, cli: "tripmine resume CUBE", enabled: acts::is_paused, run: acts::go_on }
    "rm" "remove" "Delete this cube with its log, and what it kept."
        { keys: &["X"], place: CUBES, tier: Tier::Lossy, cli: "tripmine rm CUBE", enabled: acts::ended_or_marked, run: acts::rm }
    "rename" "rename" "Give this kept cube another name."
        { keys: &["m"], place: CUBES, cli: "tripmine rename CUBE NAME", enabled: acts::cube_kept, run: acts::rename }
    "again" "launch another" "Open the launch sheet for what this cube was launched from."
        { keys: &["a"], place: CUBES, cli: "tripmine PROJECT", enabled: acts::has_row, run: acts::again }
    "image-snapshot" "snapshot" "Make an image of what this cube changed; what goes in is shown first."
        { keys: &["s"], place: CUBES, cli: "tripmine image snapshot NAME CUBE", hint: "snapshot", enabled: acts::has_changes, run: acts::snapshot }
    "forward" "forward a port" "Lead a port of this host to one of this cube; the address is copied."
        { keys: &["f"], place: CUBES, cli: "tripmine forward -d CUBE", hint: "forward", enabled: acts::cube_runs, run: acts::forward }
    "forward-rm" "close a forward" "Close a way from this host into this cube."
        { keys: &["F"], place: CUBES, cli: "tripmine forward --rm HOST CUBE", enabled: acts::has_forwards, run: acts::unforward }
    "ports" "ports" "What listens in this cube."
        { keys: &["p"], place: CUBES, cli: "tripmine ports CUBE", enabled: acts::cube_runs, run: acts::ports }
    "net" "net decisions" "What this cube was denied: allow it once, here, on the machine, or never."
        { keys: &["n"], place: CUBES, cli: "tripmine net CUBE allow NAME:PORT", enabled: acts::cube_runs, run: acts::net }
    "net-log" "net log" "What this cube reached and was denied, in order."
        { keys: &["N"], place: CUBES, cli: "tripmine net CUBE", enabled: acts::has_row, run: acts::net_log }
    "changes" "changes" "What this cube changed in its system and, with --review, in its project."
        { keys: &["c"], place: CUBES, cli: "tripmine changes --diff CUBE", enabled: acts::has_row, run: acts::changes }
    "apply" "apply changes" "Take over what this cube changed in its project."
        { keys: &["A"], place: CUBES, tier: Tier::Lossy, cli: "tripmine apply CUBE", enabled: acts::cube_ended, run: acts::apply }
    "use" "use this machine" "Launch on this machine from now on, and show its projects."
        { keys: &["enter"], place: MACHINES, cli: "tripmine -m NAME", hint: "use", enabled: acts::machine_good, run: acts::use_machine }
    "machine-shell" "shell on it" "Launch a throwaway shell on this machine, without a project."
        { keys: &["S"], place: MACHINES, cli: "tripmine -m NAME --shell", hint: "shell", enabled: acts::machine_good, run: acts::machine_shell }
    "machine-create" "new machine" "Make a machine: a home and a policy of its own."
        { keys: &["n"], place: MACHINES, cli: "tripmine machine create NAME", hint: "new", run: acts::machine_create }
    "machine-edit" "edit a setting" "Change one setting of this machine."
        { keys: &["E"], place: MACHINES, cli: "tripmine machine edit NAME --KEY VALUE", hint: "edit", enabled: acts::machine_good, run: acts::machine_edit }
    "machine-rename" "rename" "Give this machine and its home another name."
        { keys: &["m"], place: MACHINES, cli: "tripmine machine rename NAME NEW", enabled: acts::machine_not_default, run: acts::machine_rename }
    "machine-reset-home" "reset its home" "Delete this machine's home, into the trash; the next launch makes a new one."
        { keys: &["H"], place: MACHINES, tier: Tier::Lossy, cli: "tripmine machine reset-home NAME", enabled: acts::machine_seeded, run: acts::machine_reset_home }
    "machine-rm" "remove machine" "Delete this machine and its home, into the trash."
        { keys: &["X"], place: MACHINES, tier: Tier::Lossy, cli: "tripmine machine rm NAME", enabled: acts::machine_not_default, run: acts::machine_rm }
    "image-launch" "launch from it" "Open the launch sheet with this image, without a project."
        { keys: &["enter"], place: IMAGES, cli: "tripmine run IMAGE", hint: "launch", enabled: acts::has_row, run: acts::image_launch }
    "resume" "resume" "Launch the cube again that this continuation was made of: its changes, project, command and limits."
        { keys: &["r"], place: IMAGES, cli: "tripmine resume IMAGE", enabled: acts::stored_image, run: acts::resume }
    "machine-set-image" "set for the machine" "Let the machine in use start from this image."
        { keys: &["w"], place: IMAGES, cli: "tripmine machine set-image NAME REF", enabled: acts::has_row, run: acts::set_image }
    "image-pull" "pull" "Fetch an image from a registry."
        { keys: &["P"], place: IMAGES, cli: "tripmine image pull REF", hint: "pull", run: acts::image_pull }
    "image-push" "push" "Send this image to a registry."
        { keys: &["p"], place: IMAGES, cli: "tripmine image push NAME REF", enabled: acts::stored_image, run: acts::image_push }
    "image-import" "import" "Make an image of a folder or an archive."
        { keys: &["I"], place: IMAGES, cli: "tripmine image import PATH", hint: "import", run: acts::image_import }
    "image-export" "export" "Write this image into a folder or an archive."
        { keys: &["e"], place: IMAGES, cli: "tripmine image export NAME TARGET", enabled: acts::stored_image, run: acts::image_export }
    "image-tag" "another name" "Give this image another name."
        { keys: &["m"], place: IMAGES, cli: "tripmine image tag NAME NEW", enabled: acts::stored_image, run: acts::image_tag }
    "image-history" "history" "How this image came to be, layer by layer, and what its name named before."
        { keys: &["h"], place: IMAGES, cli: "tripmine image history NAME", enabled: acts::stored_image, run: acts::image_history }
    "image-check" "check" "Read all stored images whole, and say what is damaged."
        { keys: &["c"], place: IMAGES, cli: "tripmine image check", run: acts::image_check }
    "image-rm" "remove image" "Delete this image with its history, and the layers that nothing else needs."
        { keys: &["X"], place: IMAGES, tier: Tier::Lossy, cli: "tripmine image rm NAME", enabled: acts::stored_image, run: acts::image_rm }
    "mark" "mark" "Mark this cube, or take its mark away: what is stopped, killed or removed then is all that is marked."
        { keys: &["space"], place: CUBES, enabled: acts::has_row, run: acts::mark }
    "filter" "filter" "Narrow this list: fuzzy, several words, !word for what must not be there."
        { keys: &["/"], hint: "filter", run: acts::filter }
    "palette" "commands" "Find any command by its name and run it."
        { keys: &[":"], run: acts::palette }
    "help" "help" "The commands for here; type to search, Enter runs one."
        { keys: &["?"], hint: "help", run: acts::help }
    "next-pane" "next list" "Go to the next list."
        { keys: &["tab", "right"], run: acts::next_pane }
    "previous-pane" "previous list" "Go to the list before."
        { keys: &["shift-tab", "left"], run: acts::previous_pane }
    "machines" "machines" "Go to the machines." { keys: &["1"], cli: "tripmine machine list", run: |m| acts::focus(m, Pane::Machines) }
    "projects" "projects" "Go to the projects." { keys: &["2"], cli: "tripmine project list", run: |m| acts::focus(m, Pane::Projects) }
    "cubes" "cubes" "Go to the cubes." { keys: &["3"], cli: "tripmine ps -a", run: |m| acts::focus(m, Pane::Cubes) }
    "images" "images" "Go to the images." { keys: &["4"], cli: "tripmine image list", run: |m| acts::focus(m, Pane::Images) }
    "down" "down" "One row down." { keys: &["j", "down"], run: |m| acts::move_by(m, 1) }
    "up" "up" "One row up." { keys: &["k", "up"], run: |m| acts::move_by(m, -1) }
    "page-down" "page down" "Ten rows down." { keys: &["ctrl-d", "pagedown"], run: |m| acts::move_by(m, 10) }
    "page-up" "page up" "Ten rows up." { keys: &["ctrl-u", "pageup"], run: |m| acts::move_by(m, -10) }
    "first" "first row" "To the first row." { keys: &["g g", "home"], run: |m| acts::move_by(m, isize::MIN / 2) }
    "last" "last row" "To the last row." { keys: &["G", "end"], run: |m| acts::move_by(m, isize::MAX / 2) }
    "copy" "copy" "Copy the id, name or path of this row."
        { keys: &["y"], enabled: acts::has_row, run: acts::copy }
    "copy-command" "copy the command" "Copy the last change as its command line."
        { keys: &["Y"], enabled: acts::has_last, run: acts::copy_command }
    "repeat" "repeat" "Do the last change again."
        { keys: &["."], enabled: acts::can_repeat, run: acts::repeat }
    "undo" "undo" "Bring back what was deleted last."
        { keys: &["u"], cli: "tripmine undo", run: acts::undo }
    "refresh" "refresh" "Look at everything again." { keys: &["R"], run: acts::refresh }
    "theme" "theme" "Choose a theme; it is shown at once." { keys: &["t"], cli: "tripmine theme", run: acts::theme }
    "doctor" "doctor" "What this host gives, what a lack costs and how to mend it."
        { keys: &["D"], cli: "tripmine doctor", run: |m| acts::command_page(m, "doctor", &[]) }
    "verify-jail" "try the jail" "Try every promise of the jail from inside a cube."
        { cli: "tripmine verify-jail", run: |m| acts::command_page(m, "verify-jail", &[]) }
    "proxy" "find proxies" "Greet what listens on this host where SOCKS5 proxies usually do."
        { cli: "tripmine proxy detect", run: |m| acts::command_page(m, "proxy", &["detect"]) }
    "prune" "prune" "Delete for good what is left over: the trash, old records, unused parts of images."
        { tier: Tier::Lossy, cli: "tripmine prune", run: acts::prune }
    "jobs" "under way" "What is being done just now; Enter breaks off what can be."
        { keys: &["J"], enabled: acts::has_jobs, run: acts::jobs }
    "commands" "command log" "Every change that was made, as its command line."
        { keys: &["@"], run: acts::command_log }
    "notices" "messages" "Every message there was." { keys: &["!"], run: acts::notices }
    "mouse" "mouse on or off" "Take the mouse, or leave it to your terminal. Shift and drag selects text in any case."
        { keys: &["M"], run: acts::mouse }
    "suspend" "suspend" "Stop tripmine and go back to your shell; `fg` comes back."
        { keys: &["ctrl-z"], run: |_| vec![Effect::Suspend] }
    "quit" "quit" "Leave. What runs goes on running." { keys: &["q"], hint: "quit", run: acts::quit }
}

/// The command called `id`, for where `pane` has the keys.
#[must_use]
pub fn find(id: &str, pane: Pane) -> Option<&'static Command> {
    let named = |command: &&Command| command.id == id;
    let here = COMMANDS.iter().filter(named).find(|command| command.place == Place::In(pane));
    here.or_else(|| COMMANDS.iter().find(named))
}

/// `docs/keys.md`.
#[must_use]
pub fn keys_page() -> String {
    let mut page = String::from(
        "# Keys\n\nGenerated from the registry of commands (`src/tui/command.rs`); `?` shows the same on the screen. \
         Keys are changed in `config.toml`, beneath `[keys]`: `quit = \"ctrl-q\"`, `none` for no key at all.\n",
    );
    let places = [
        ("Projects", PROJECTS),
        ("Cubes", CUBES),
        ("Machines", MACHINES),
        ("Images", IMAGES),
        ("Everywhere", Place::Everywhere),
    ];
    for (title, place) in places {
        page.push_str(&format!(
            "\n## {title}\n\n| key | command | what it does | on the command line |\n|---|---|---|---|\n"
        ));
        for command in COMMANDS.iter().filter(|command| command.place == place) {
            let keys: Vec<String> = command.keys.iter().map(|keys| format!("`{keys}`")).collect();
            let cli = if command.cli.is_empty() { String::new() } else { format!("`{}`", command.cli) };
            let asks = match command.tier {
                Tier::Reversible => "",
                Tier::Disruptive => " Asks; Enter says no.",
                Tier::Lossy => " Asks, and says what would be lost.",
            };
            let built = if command.built { "" } else { " (not built yet)" };
            page.push_str(&format!(
                "| {} | `{}` | {}{asks}{built} | {cli} |\n",
                keys.join(" "),
                command.id,
                command.about
            ));
        }
    }
    page.push_str(
        "\nIn questions, prompts, sheets and pages, `esc` goes back one step; it never leaves the program. \
         `ctrl-c` ends what is on top, twice it leaves.\n\
         Inside a cube, the leader (`ctrl-]` unless `leader` in `config.toml` says otherwise) and then `d` comes back \
         with the cube running on; the leader twice types it; the leader and `?` explains.\n\n\
         What else `config.toml` says of the screen: `theme`, `theme_light` (on a terminal whose ground is light), \
         `color` (`auto`, `never`, `16`, `256`, `true`; `tripmine tui --color` for once), `glyphs` (`unicode`, \
         `ascii`, `nerd`), `mouse` (`true`, `false`), `leader` (`ctrl-a`, `none`).\n",
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_keys_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/keys.md");
        if std::env::var_os("TRIPMINE_WRITE_DOCS").is_some() {
            std::fs::write(path, keys_page()).expect("written");
        }
        let written = std::fs::read_to_string(path).expect("docs/keys.md");
        assert!(written == keys_page(), "docs/keys.md is stale: run this test with TRIPMINE_WRITE_DOCS=1");
    }

    #[test]
    fn names_are_names_and_sentences_are_sentences() {
        for (at, command) in COMMANDS.iter().enumerate() {
            let good = |c: char| c.is_ascii_lowercase() || c == '-';
            assert!(command.id.chars().all(good), "{}", command.id);
            assert!(command.about.ends_with('.'), "{}", command.id);
            assert!(!COMMANDS[at + 1..].contains(command), "{} twice", command.id);
            assert!(command.tier == Tier::Reversible || !command.cli.is_empty(), "{}", command.id);
        }
    }

    /// Every change that can be asked for can be asked for here.
    #[test]
    fn every_request_is_on_the_screen() {
        for kind in crate::engine::request::Request::KINDS {
            let id = kind.replace(' ', "-");
            let found = COMMANDS.iter().find(|command| command.id == id);
            assert!(found.is_some_and(|command| command.built), "{kind}");
        }
    }
}
