//! Requests to one registry: authentication, retries of what may be asked twice, answers as failures for people.

use std::io::Read;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use super::credentials::Login;
use crate::model::image::remote::RemoteRef;
use crate::model::net::{Host, ProxyUrl};
use crate::model::sanitize::printable;
use crate::model::{Failure, FailureKind};

/// Where distributions keep the certificates that they trust.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// No token answer or error page that is read is longer.
const SMALL: u64 = 1 << 20;

/// What decides how a registry is reached.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// Plain HTTP; for a registry on this host only.
    pub plain_http: bool,
    /// Everything goes through it, names included.
    pub proxy: Option<Proxy>,
    /// Who we are.
    pub login: Option<Login>,
}

/// A proxy, and who we are to it.
#[derive(Clone)]
pub struct Proxy {
    /// Where it is.
    pub url: ProxyUrl,
    /// User name and password.
    pub login: Option<(String, String)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Proxy {
    /// It is this host's: plain HTTP to it goes over no wire.
    fn is_loopback(&self) -> bool {
        match &self.url.destination().host {
            Host::Name(name) => name.is_localhost(),
            Host::Address(address) => address.is_loopback(),
        }
    }

    fn to_ureq(&self) -> Result<ureq::Proxy, ureq::Error> {
        let place = self.url.destination();
        let host = match &place.host {
            Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.to_string(),
        };
        let mut proxy = ureq::Proxy::builder(ureq::ProxyProtocol::Socks5h).host(&host).port(place.port.get());
        if let Some((user, password)) = &self.login {
            proxy = proxy.username(user).password(password);
        }
        proxy.build()
    }
}

/// A registry.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    base: String,
    remote: RemoteRef,
    options: ClientOptions,
    /// `pull` or `pull,push`.
    actions: &'static str,
    /// The last `Authorization` that was given.
    authorization: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What is sent along, and how many bytes of it there are.
pub(super) type Sent<'a> = Option<(Box<dyn Read + 'a>, u64)>;

/// A request that may be sent again.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
}

impl Client {
    /// A registry, to pull or also to push.
    ///
    /// # Errors
    /// Plain HTTP to another host, or a proxy that is none.
    pub fn new(remote: &RemoteRef, options: ClientOptions, push: bool) -> Result<Self, Failure> {
        if options.plain_http && !remote.is_loopback() {
            return Err(Failure::new(
                FailureKind::Denied,
                format!("plain HTTP goes only to this host itself, not to {}", printable(&remote.registry)),
            )
            .hint("leave --plain-http out: HTTPS is used then"));
        }
        if options.plain_http && options.proxy.as_ref().is_some_and(|proxy| !proxy.is_loopback()) {
            return Err(Failure::new(
                FailureKind::Denied,
                "plain HTTP goes only to this host itself, not through a proxy elsewhere",
            )
            .hint("leave --plain-http out: HTTPS is used then"));
        }
        let proxy =
            options.proxy.as_ref().map(Proxy::to_ureq).transpose().map_err(|error| {
                Failure::new(FailureKind::Config, "the proxy cannot be used").because(&error)
            })?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .https_only(!options.plain_http)
            .proxy(proxy)
            .max_redirects(5)
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .user_agent(concat!("tripmine/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(roots()).build())
            .build();
        let scheme = if options.plain_http { "http" } else { "https" };
        Ok(Self {
            agent: config.new_agent(),
            base: format!("{scheme}://{}/v2/{}", remote.host(), remote.repository),
            remote: remote.clone(),
            options,
            actions: if push { "pull,push" } else { "pull" },
            authorization: Mutex::new(None),
        })
    }

    /// The address of something of the repository: `manifests/latest`.
    pub(super) fn url(&self, tail: &str) -> String {
        format!("{}/{tail}", self.base)
    }

    /// An address that the registry gave, which may be relative.
    pub(super) fn located(&self, location: &str) -> Result<String, Failure> {
        let scheme = if self.options.plain_http { "http" } else { "https" };
        let root = format!("{scheme}://{}", self.remote.host());
        if location.starts_with('/') {
            return Ok(format!("{root}{location}"));
        }
        // Our bytes and our name go to the registry that was named, and nowhere else.
        if location.starts_with(&format!("{root}/")) {
            return Ok(location.to_owned());
        }
        Err(Failure::failed(format!(
            "{} sends the upload elsewhere: `{}`",
            self.remote.registry,
            printable(&location.chars().take(120).collect::<String>())
        )))
    }

    /// Sends a request without a body, and again with an answer to the registry's challenge.
    ///
    /// # Errors
    /// The registry cannot be reached, or wants a login that is not there.
    pub(super) fn ask(&self, asked: &Asked<'_>) -> Result<Response<Body>, Failure> {
        self.send(asked, &mut || Ok(None))
    }

    /// The same with a body, which `body` makes each time anew with its length.
    pub(super) fn send<'a>(
        &self,
        asked: &Asked<'_>,
        body: &mut dyn FnMut() -> Result<Sent<'a>, Failure>,
    ) -> Result<Response<Body>, Failure> {
        let first = self.once(asked, body()?)?;
        if first.status().as_u16() != 401 {
            return Ok(first);
        }
        let challenge: Vec<String> = first
            .headers()
            .get_all("www-authenticate")
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .collect();
        drop(first);
        let Some(authorization) = self.answer(&challenge)? else { return Err(self.unauthorized()) };
        if let Ok(mut held) = self.authorization.lock() {
            *held = Some(authorization);
        }
        let second = self.once(asked, body()?)?;
        if second.status().as_u16() == 401 { Err(self.unauthorized()) } else { Ok(second) }
    }

    fn once(&self, asked: &Asked<'_>, body: Sent<'_>) -> Result<Response<Body>, Failure> {
        let mut request = ureq::http::Request::builder().method(asked.method).uri(asked.url);
        for (key, value) in asked.headers {
            request = request.header(*key, *value);
        }
        if let Some(authorization) = self.authorization.lock().ok().and_then(|held| held.clone()) {
            request = request.header("authorization", authorization);
        }
        let wrong = |error: &dyn std::error::Error| {
            Failure::failed(format!("cannot ask {}", printable(asked.url))).because(error)
        };
        let result = match body {
            Some((mut reader, length)) => {
                let request =
                    request.header("content-length", length).body(SendBody::from_reader(&mut *reader));
                self.agent.run(request.map_err(|error| wrong(&error))?)
            }
            None if matches!(asked.method, "POST" | "PUT") => {
                self.agent.run(request.header("content-length", 0).body(()).map_err(|error| wrong(&error))?)
            }
            None => self.agent.run(request.body(()).map_err(|error| wrong(&error))?),
        };
        result.map_err(|error| self.unreached(&error))
    }

    /// The `Authorization` that a challenge wants; `None` when it wants a login and there is none.
    fn answer(&self, challenges: &[String]) -> Result<Option<String>, Failure> {
        let basic = self.options.login.as_ref().and_then(|login| match login {
            Login::Password(user, password) => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Login::Token(_) => None,
        });
        for challenge in challenges {
            let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("bearer") {
                return self.bearer(&parameters(rest), basic.as_deref()).map(Some);
            }
            if scheme.eq_ignore_ascii_case("basic") {
                return Ok(basic);
            }
        }
        Ok(None)
    }

    fn bearer(&self, said: &[(String, String)], basic: Option<&str>) -> Result<String, Failure> {
        let get = |key: &str| said.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str());
        let realm = get("realm").unwrap_or_default();
        let scheme = if self.options.plain_http { "http://" } else { "https://" };
        if !realm.starts_with(scheme) && !realm.starts_with("https://") {
            return Err(Failure::new(
                FailureKind::Denied,
                format!(
                    "{} wants the login sent to `{}`, which is not safe",
                    self.remote.registry,
                    printable(realm)
                ),
            ));
        }
        let scope = format!("repository:{}:{}", self.remote.repository, self.actions);
        let service = get("service").unwrap_or_default().to_owned();
        let mut request = match &self.options.login {
            // OAuth 2: the token is exchanged by a form.
            Some(Login::Token(token)) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", &service),
                    ("client_id", "tripmine"),
                    ("scope", &scope),
                    ("refresh_token", token),
                ];
                self.agent.post(realm).send_form(form)
            }
            _ => {
                let mut request = self.agent.get(realm).query("service", &service).query("scope", &scope);
                if let Some(basic) = basic {
                    request = request.header("authorization", basic);
                }
                request.call()
            }
        }
        .map_err(|error| self.unreached(&error))?;
        if !request.status().is_success() {
            return Err(self.unauthorized());
        }
        let text = request.body_mut().with_config().limit(SMALL).read_to_vec().unwrap_or_default();
        let token: Option<Token> = serde_json::from_slice(&text).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| self.unauthorized())
    }

    fn unauthorized(&self) -> Failure {
        let failure = Failure::new(
            FailureKind::Denied,
            format!("{} does not let us at `{}`", self.remote.registry, self.remote),
        );
        match self.options.login {
            Some(_) => failure.hint(
                "the login in docker's credential file is refused: `docker login` or `podman login` again",
            ),
            None => failure
                .hint("is the name right? Registries answer so for what does not exist, too")
                .hint(format!(
                    "`docker login {0}` or `podman login {0}` writes a login that is used here",
                    self.remote.registry
                )),
        }
    }

    fn unreached(&self, error: &ureq::Error) -> Failure {
        let through = self.options.proxy.as_ref();
        let through = through.map(|proxy| format!(" through the proxy {}", proxy.url)).unwrap_or_default();
        let failure = Failure::failed(format!("cannot reach {}{through}", self.remote.host())).because(error);
        if self.remote.is_loopback() && !self.options.plain_http {
            return failure.hint("does it speak plain HTTP? Then pass --plain-http");
        }
        failure
    }

    /// What went wrong, from an answer that is no success.
    pub(super) fn refused(&self, what: &str, mut response: Response<Body>) -> Failure {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            code: Option<String>,
            message: Option<String>,
        }
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(SMALL).read_to_vec().unwrap_or_default();
        let said =
            serde_json::from_slice::<Errors>(&body).ok().and_then(|errors| errors.errors.into_iter().next());
        let said = said.and_then(|one| one.message.or(one.code)).unwrap_or_default();
        let said: String = printable(&said).chars().take(200).collect();
        let kind = if status == 404 { FailureKind::Missing } else { FailureKind::Failed };
        let text = format!("{} answers {status} to {what} of `{}`", self.remote.registry, self.remote);
        let failure = Failure::new(kind, text);
        if said.is_empty() { failure } else { failure.hint(format!("it says: {said}")) }
    }
}

/// The certificates that this system trusts, else Mozilla's.
fn roots() -> RootCerts {
    for path in BUNDLES {
        let Ok(pem) = std::fs::read(path) else { continue };
        let certificates: Vec<_> = parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if !certificates.is_empty() {
            return RootCerts::from(certificates.into_iter());
        }
    }
    RootCerts::WebPki
}

/// `key="value",key="value"` of a challenge (RFC 9110).
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((key, value.to_owned()));
        text = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let said = parameters(r#"realm="https://a/t,b",service=reg, scope="x""#);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(said, [pair("realm", "https://a/t,b"), pair("service", "reg"), pair("scope", "x")]);
        assert_eq!(parameters("nonsense"), []);
    }

    #[test]
    fn logins_and_uploads_stay_where_they_belong() {
        let remote = |text: &str| RemoteRef::parse(text).expect(text);
        let plain = ClientOptions { plain_http: true, ..ClientOptions::default() };
        assert_eq!(
            Client::new(&remote("x.org/a"), plain.clone(), false).expect_err("plain").kind,
            FailureKind::Denied
        );
        let client = Client::new(&remote("x.org/a"), ClientOptions::default(), true).expect("client");
        for (location, good) in [
            ("/v2/a/blobs/uploads/1?x", true),
            ("https://x.org/u", true),
            ("https://x.org.evil.org/u", false),
            ("http://x.org/u", false),
        ] {
            assert_eq!(client.located(location).is_ok(), good, "{location}");
        }
        for realm in ["http://169.254.169.254/", "file:///etc/passwd", ""] {
            let said = [("realm".to_owned(), realm.to_owned())];
            assert_eq!(client.bearer(&said, None).expect_err(realm).kind, FailureKind::Denied, "{realm}");
        }
        // Without encryption only over this host's own loopback, whatever stands between.
        let local = remote("127.0.0.1:5000/a");
        for (proxy, good) in [
            ("socks5h://127.0.0.1:1080", true),
            ("socks5h://[::1]", true),
            ("socks5h://localhost", true),
            ("socks5h://10.0.0.1:1080", false),
            ("socks5h://me@proxy.example", false),
        ] {
            let url = ProxyUrl::parse(proxy).expect(proxy);
            let proxy_of = Proxy { url, login: Some(("a b".to_owned(), "p:@/".to_owned())) };
            let options = ClientOptions { proxy: Some(proxy_of), ..plain.clone() };
            assert_eq!(Client::new(&local, options.clone(), false).is_ok(), good, "{proxy}");
            let encrypted = ClientOptions { plain_http: false, ..options };
            assert!(Client::new(&remote("x.org/a"), encrypted.clone(), false).is_ok(), "{proxy}");
            assert!(!format!("{encrypted:?}").contains("p:@/"));
        }
    }
}
