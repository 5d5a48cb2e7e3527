//! How a registry is reached: with whose login, and through whose proxy. A machine whose net goes through a proxy has its
//! images fetched through it as well, or not at all.

use std::path::{Path, PathBuf};

use super::{Engine, environment};
use crate::gateway::read_secret;
use crate::image::registry::client::{Client, ClientOptions, Proxy};
use crate::image::registry::credentials;
use crate::model::image::remote::RemoteRef;
use crate::model::net::{ProxyAuth, ProxyUrl};
use crate::model::{Failure, FailureKind, Name, Settings};
use crate::plan::launch::Origin;
use crate::plan::pick::Places;
use crate::plan::reach;
use crate::store::machines;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub struct Way {
    /// Without encryption, on this host only.
    pub plain_http: bool,
    /// This proxy, whatever a machine says.
    pub proxy: Option<String>,
    /// For this machine; `None`: the default one.
    pub machine: Option<Name>,
    /// What a launch says itself.
    pub typed: Settings,
}

impl Way {
    /// For this machine.
    #[must_use]
    pub fn of(machine: &Name, plain_http: bool) -> Self {
        Self { plain_http, machine: Some(machine.clone()), ..Self::default() }
    }
}

impl Engine {
    /// A registry, to pull or also to push.
    ///
    /// # Errors
    /// A proxy that is none or whose secret cannot be read, a machine that is not there, a login that cannot be got.
    pub fn registry(&self, remote: &RemoteRef, way: &Way, push: bool) -> Result<Client, Failure> {
        let proxy = match &way.proxy {
            Some(text) => {
                let url = ProxyUrl::parse(text).map_err(|error| {
                    Failure::usage(format!(
                        "`{}` is no proxy: {error}",
                        crate::model::sanitize::printable(text)
                    ))
                    .hint("write `socks5h://HOST:PORT`: names are resolved by the proxy")
                })?;
                Some((url, ProxyAuth::None))
            }
            None => self.proxy_of(way)?,
        };
        let proxy = proxy.map(|(url, auth)| with_secret(url, &auth)).transpose()?;
        let login = credentials::find(&login_files(&self.home), remote)?;
        Client::new(remote, ClientOptions { plain_http: way.plain_http, proxy, login }, push)
    }

    /// The proxy through which whatever is fetched for a machine goes; `None`: its net has none.
    fn proxy_of(&self, way: &Way) -> Result<Option<(ProxyUrl, ProxyAuth)>, Failure> {
        let (variables, named) = environment::settings(|key| std::env::var(key).ok())?;
        let name = way.machine.clone().or(named).or_else(|| self.config.machine.clone());
        let name = name.unwrap_or_else(Name::default_machine);
        let machine = machines::load(&self.layout, &name)?;
        let places = Places::new([
            (Origin::Flag, &way.typed),
            (Origin::Environment, &variables),
            (Origin::Machine, &machine.settings),
            (Origin::Config, &self.config.defaults),
        ]);
        reach::proxy(&way.typed, &places, &self.home)
    }
}

fn with_secret(url: ProxyUrl, auth: &ProxyAuth) -> Result<Proxy, Failure> {
    let secret = read_secret(&url, auth)?;
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).map_err(|_| {
            Failure::new(
                FailureKind::Config,
                "the secret of the proxy is no UTF-8: images cannot be fetched with it",
            )
        })
    };
    let login = secret.map(|secret| Ok::<_, Failure>((text(secret.user())?, text(secret.password())?)));
    Ok(Proxy { url, login: login.transpose()? })
}

/// Where logins may lie, the first found wins: docker's and podman's places.
fn login_files(home: &Path) -> Vec<PathBuf> {
    let variable = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut files: Vec<PathBuf> = variable("REGISTRY_AUTH_FILE").into_iter().collect();
    files.extend(variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")));
    files.push(home.join(".config/containers/auth.json"));
    files.push(variable("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json"));
    files
}
