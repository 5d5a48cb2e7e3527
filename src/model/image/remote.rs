//! `RemoteRef`: an image in a registry, as people type it: `debian:12`, `ghcr.io/o/r@sha256:…`, `localhost:5000/x`.

use std::fmt;

use super::Digest;
use crate::model::sanitize::printable;

/// Docker Hub, as it is written and as it is reached.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRef {
    /// Host and port, as written; `docker.io` when nothing was.
    pub registry: String,
    /// The repository: lower case parts with slashes between.
    pub repository: String,
    /// The tag; `latest` when neither tag nor digest was written.
    pub tag: Option<String>,
    /// The digest, which wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a text names no image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no image of a registry: {}", printable(.0), .1)]
pub struct RemoteError(String, &'static str);

impl RemoteRef {
    /// Parses what was typed, by the rules of the distribution project's reference grammar.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let fail = |why| Err(RemoteError(text.chars().take(120).collect(), why));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => match Digest::parse(digest) {
                Ok(digest) => (rest, Some(digest)),
                Err(_) => return fail("what follows `@` is no sha256 digest"),
            },
            None => (text, None),
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (HUB, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (rest, None),
        };
        if !host(registry) {
            return fail("its registry is no host with a port");
        }
        let hub = matches!(registry, HUB | "index.docker.io" | HUB_HOST);
        let repository = if hub && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        let part = |part: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            part.bytes().next().is_some_and(plain)
                && part.bytes().last().is_some_and(plain)
                && part.bytes().all(|b| plain(b) || b"._-".contains(&b))
                && !part.contains("..")
        };
        if repository.len() > 255 || !repository.split('/').all(part) {
            return fail("a repository has parts of a-z, 0-9, `.`, `_` and `-`, with `/` between");
        }
        let good_tag = |tag: &str| {
            (1..=128).contains(&tag.len())
                && !tag.starts_with(['.', '-'])
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if tag.as_deref().is_some_and(|tag| !good_tag(tag)) {
            return fail("a tag has letters, digits, `.`, `_` and `-`, at most 128");
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".to_owned()) } else { tag };
        let registry = if hub { HUB.to_owned() } else { registry.to_owned() };
        Ok(Self { registry, repository, tag, digest })
    }

    /// Where it is reached: host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.registry == HUB { HUB_HOST } else { &self.registry }
    }

    /// The key of its credentials in docker's file.
    #[must_use]
    pub fn credential_keys(&self) -> Vec<String> {
        if self.registry == HUB {
            return ["https://index.docker.io/v1/", "index.docker.io", HUB, HUB_HOST]
                .map(str::to_owned)
                .to_vec();
        }
        vec![self.registry.clone(), format!("https://{}", self.registry), format!("http://{}", self.registry)]
    }

    /// What stands in the address of its manifest.
    #[must_use]
    pub fn reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// True when the registry is on this very host, where plain HTTP hides nothing from anybody else.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<core::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

fn host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, port)) if ip.parse::<core::net::Ipv6Addr>().is_ok() => {
            return port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
        }
        _ => text.split_once(':').unwrap_or((text, "443")),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    port.parse::<u16>().is_ok() && name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for RemoteRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_reads_them() {
        let digest = Digest::new([3; 32]);
        for (text, whole, host) in [
            ("debian", "docker.io/library/debian:latest", HUB_HOST),
            ("debian:12", "docker.io/library/debian:12", HUB_HOST),
            ("docker.io/a/b", "docker.io/a/b:latest", HUB_HOST),
            ("a/b/c:v1.2", "docker.io/a/b/c:v1.2", HUB_HOST),
            ("localhost/x", "localhost/x:latest", "localhost"),
            ("localhost:5000/x/y:z", "localhost:5000/x/y:z", "localhost:5000"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000"),
            (&format!("ghcr.io/o/r@{digest}"), &format!("ghcr.io/o/r@{digest}"), "ghcr.io"),
            (&format!("ghcr.io/o/r:1@{digest}"), &format!("ghcr.io/o/r:1@{digest}"), "ghcr.io"),
        ] {
            let parsed = RemoteRef::parse(text).expect(text);
            assert_eq!((parsed.to_string().as_str(), parsed.host()), (whole, host), "{text}");
        }
        for bad in [
            "",
            "A/b",
            "a/../b",
            "a//b",
            "x.y:99999/a",
            "-x.y/a",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a b",
            "a?x=1",
            "x.y/",
            "a/b:c/d",
        ] {
            assert!(RemoteRef::parse(bad).is_err(), "{bad}");
        }
        for (text, loopback) in [
            ("localhost:5000/x", true),
            ("127.0.0.2:1/x", true),
            ("[::1]:1/x", true),
            ("localhost.evil.org/x", false),
        ] {
            assert_eq!(RemoteRef::parse(text).expect(text).is_loopback(), loopback, "{text}");
        }
    }
}
