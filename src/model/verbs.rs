//! The one list of verbs: it feeds the command line, the reserved names and the help.

/// One verb of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// The word that is typed.
    pub name: &'static str,
    /// True once the verb does its work; false while it only holds its reserved place.
    pub built: bool,
}

const fn built(name: &'static str) -> Verb {
    Verb { name, built: true }
}

const fn reserved(name: &'static str) -> Verb {
    Verb { name, built: false }
}

/// Every verb. `Name` refuses each of them, so that `tripmine WORD` is never ambiguous.
pub const VERBS: &[Verb] = &[
    built("run"),
    built("resume"),
    built("pause"),
    built("ps"),
    built("attach"),
    built("exec"),
    built("logs"),
    built("events"),
    built("net"),
    built("proxy"),
    built("stop"),
    built("kill"),
    built("rm"),
    built("rename"),
    built("inspect"),
    built("changes"),
    built("apply"),
    built("stats"),
    built("wait"),
    built("forward"),
    built("ports"),
    built("machine"),
    built("project"),
    built("image"),
    built("undo"),
    built("prune"),
    built("init"),
    built("theme"),
    built("tui"),
    built("vm"),
    built("doctor"),
    built("verify-jail"),
    built("completions"),
    built("man"),
    built("version"),
    built("help"),
    reserved("build"),
    reserved("sign"),
    reserved("verify"),
    reserved("author"),
    reserved("trust"),
    reserved("up"),
    reserved("down"),
    reserved("status"),
    reserved("restart"),
    reserved("remove"),
    reserved("serve"),
    reserved("keys"),
];

/// True when `word` is a verb, built or reserved.
#[must_use]
pub fn is_verb(word: &str) -> bool {
    VERBS.iter().any(|verb| verb.name == word)
}

/// The verbs that are reserved for a capability that is not built yet.
pub fn not_built() -> impl Iterator<Item = &'static str> {
    VERBS.iter().filter(|verb| !verb.built).map(|verb| verb.name)
}
