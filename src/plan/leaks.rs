//! What in a file looks like a secret. Owns the rules, which follow those of gitleaks and of GitHub's secret scanning:
//! well-known names of files, and tokens whose first letters say what they are. Pure: bytes in, the rule's name out.

use std::sync::OnceLock;

use aho_corasick::AhoCorasick;

/// How much of a file is looked at.
pub const LOOKED_AT: usize = 1 << 20;

/// What a token is made of after its first letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Letters and digits.
    Word,
    /// Those, `_` and `-`.
    Url,
    /// Those, and what base64 has.
    Base64,
    /// Capital letters and digits.
    Capital,
    /// Anything: the text itself is the secret's mark.
    Anything,
}

impl Of {
    const fn holds(self, byte: u8) -> bool {
        match self {
            Self::Word => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-'),
            Self::Capital => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Anything => true,
        }
    }
}

/// First letters, what follows, how much of it at least, and what it is.
const TOKENS: &[(&str, Of, usize, &str)] = &[
    ("-----BEGIN RSA PRIVATE KEY-----", Of::Anything, 64, "a private key"),
    ("-----BEGIN EC PRIVATE KEY-----", Of::Anything, 64, "a private key"),
    ("-----BEGIN DSA PRIVATE KEY-----", Of::Anything, 64, "a private key"),
    ("-----BEGIN PRIVATE KEY-----", Of::Anything, 64, "a private key"),
    ("-----BEGIN ENCRYPTED PRIVATE KEY-----", Of::Anything, 64, "a private key"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----", Of::Anything, 64, "a private key"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----", Of::Anything, 64, "a private key"),
    ("AGE-SECRET-KEY-1", Of::Capital, 50, "an age key"),
    ("AKIA", Of::Capital, 16, "an AWS access key"),
    ("ASIA", Of::Capital, 16, "an AWS session key"),
    ("ghp_", Of::Word, 36, "a GitHub token"),
    ("gho_", Of::Word, 36, "a GitHub token"),
    ("ghu_", Of::Word, 36, "a GitHub token"),
    ("ghs_", Of::Word, 36, "a GitHub token"),
    ("ghr_", Of::Word, 36, "a GitHub token"),
    ("github_pat_", Of::Url, 60, "a GitHub token"),
    ("glpat-", Of::Url, 20, "a GitLab token"),
    ("xoxb-", Of::Url, 20, "a Slack token"),
    ("xoxp-", Of::Url, 20, "a Slack token"),
    ("xoxa-", Of::Url, 20, "a Slack token"),
    ("https://hooks.slack.com/services/T", Of::Base64, 30, "a Slack web hook"),
    ("sk_live_", Of::Word, 24, "a Stripe key"),
    ("rk_live_", Of::Word, 24, "a Stripe key"),
    ("AIza", Of::Url, 35, "a Google API key"),
    ("ya29.", Of::Url, 40, "a Google access token"),
    ("npm_", Of::Word, 36, "an npm token"),
    ("pypi-AgEIcHlwaS5vcmc", Of::Url, 50, "a PyPI token"),
    ("sk-ant-", Of::Url, 40, "an Anthropic key"),
    ("sk-proj-", Of::Url, 40, "an OpenAI key"),
    ("hf_", Of::Word, 34, "a Hugging Face token"),
    ("SG.", Of::Url, 60, "a SendGrid key"),
    ("dop_v1_", Of::Word, 64, "a DigitalOcean token"),
    ("shpat_", Of::Word, 32, "a Shopify token"),
    ("hvs.", Of::Url, 80, "a Vault token"),
    ("dckr_pat_", Of::Url, 27, "a Docker token"),
];

const HASHES: &str = "password hashes";

/// Names of files: the end of the path, and what it is. Those of a package that only holds an empty example do no harm.
const NAMES: &[(&str, &str)] = &[
    ("/.netrc", "passwords for hosts"),
    ("/.git-credentials", "git passwords"),
    ("/.pgpass", "database passwords"),
    ("/.my.cnf", "a database password"),
    ("/.npmrc", "perhaps an npm token"),
    ("/.pypirc", "perhaps a PyPI token"),
    ("/.env", "perhaps secrets of a project"),
    ("/.docker/config.json", "registry passwords"),
    ("/.aws/credentials", "AWS keys"),
    ("/.kube/config", "keys of a cluster"),
    ("/.ssh/id_rsa", "an ssh key"),
    ("/.ssh/id_ed25519", "an ssh key"),
    ("/.ssh/id_ecdsa", "an ssh key"),
    ("/.config/gh/hosts.yml", "a GitHub token"),
    ("/.config/gcloud/credentials.db", "Google credentials"),
    ("/.bash_history", "typed commands"),
    ("/.zsh_history", "typed commands"),
    ("/etc/shadow", HASHES),
    (".kdbx", "a password safe"),
    (".p12", "a key with its certificate"),
    (".pfx", "a key with its certificate"),
];

/// What the name of a file says. `path` is absolute, inside.
#[must_use]
pub fn by_name(path: &[u8]) -> Option<&'static str> {
    NAMES.iter().find(|(end, _)| path.ends_with(end.as_bytes())).map(|(_, what)| *what)
}

/// What the first bytes of a file hold.
#[must_use]
pub fn by_content(bytes: &[u8]) -> Option<&'static str> {
    let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
    // Overlapping: what begins inside of another's first letters counts as well.
    let mut found = heads()?.find_overlapping_iter(bytes);
    found.find_map(|head| {
        let (_, of, least, what) = TOKENS.get(head.pattern().as_usize())?;
        holds(bytes, head.start(), head.end(), *of, *least).then_some(*what)
    })
}

/// All first letters at once: a file is read through once, not once for each of them.
fn heads() -> Option<&'static AhoCorasick> {
    static HEADS: OnceLock<Option<AhoCorasick>> = OnceLock::new();
    HEADS.get_or_init(|| AhoCorasick::new(TOKENS.iter().map(|token| token.0)).ok()).as_ref()
}

fn holds(bytes: &[u8], start: usize, end: usize, of: Of, least: usize) -> bool {
    // In the middle of a word it is chance.
    let begins = start == 0 || !bytes[start - 1].is_ascii_alphanumeric();
    let rest = &bytes[end..];
    begins && rest.len() >= least && rest[..least].iter().all(|byte| of.holds(*byte))
}

/// Whether a file that [`by_name`] knows is one after all: a list of accounts without a single password is none.
#[must_use]
pub fn is_empty_of(what: &str, bytes: &[u8]) -> bool {
    what == HASHES && memchr::memmem::find(bytes, b":$").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_and_words_are_not() {
        let long = "x9".repeat(40);
        // Put together here, so that no scanner takes this file for a leak.
        for (text, want) in [
            (format!("token = gh{}{long}", "p_"), Some("a GitHub token")),
            (format!("AK{}ABCDEFGHIJKLMNOP", "IA"), Some("an AWS access key")),
            (format!("-----BEGIN {} KEY-----\n{long}", "OPENSSH PRIVATE"), Some("a private key")),
            (format!("xAK{}ABCDEFGHIJKLMNOP", "IA"), None),
            ("AKIA short".to_owned(), None),
            (format!("AKAK{}ABCDEFGHIJKLMNOP", "IA"), None),
            // Too short for the one, long enough for the one that begins within it.
            (format!("SG.gh{}{}", "p_", &long[..40]), Some("a GitHub token")),
            ("-----BEGIN PUBLIC KEY-----".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(by_content(text.as_bytes()), want, "{text}");
        }
        for (text, empty) in [("root:*:1:\nx:!:1:\n", true), ("root:$y$j9T$abc:1:\n", false)] {
            assert_eq!(
                is_empty_of(by_name(b"/etc/shadow").expect("a name"), text.as_bytes()),
                empty,
                "{text}"
            );
        }
        let far = [vec![b' '; LOOKED_AT], format!("gh{}{long}", "p_").into_bytes()].concat();
        assert_eq!(by_content(&far), None, "only the beginning is looked at");
    }

    #[test]
    fn names() {
        for (path, found) in [
            ("/root/.netrc", true),
            ("/opt/a/.env", true),
            ("/opt/a.env", false),
            ("/etc/shadow-", false),
            ("/x.p12", true),
        ] {
            assert_eq!(by_name(path.as_bytes()).is_some(), found, "{path}");
        }
    }
}
