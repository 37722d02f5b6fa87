//! Where virtual keys come from: coordinator, launcher and `up` read it alike.

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use super::{Key, Settings};
use crate::secret::Secret;

/// Who makes the keys of tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Our own gateway.
    Builtin,
    /// A Bifrost on this machine, over its governance API.
    Bifrost(Bifrost),
    /// Nobody: workers bring the key that their launcher put into their environment.
    Env,
}

/// A Bifrost on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bifrost {
    /// Where it listens. Loopback: sandboxes are led there, and the password goes there without TLS.
    pub address: SocketAddr,
    /// Of its basic auth.
    pub user: String,
    /// The same; only the coordinator needs it.
    pub password: Option<Secret>,
    /// The providers that keys may use, as Bifrost names them. Never empty.
    pub providers: Vec<String>,
}

/// The name of a source.
enum Name {
    Builtin,
    Bifrost,
    Env,
}

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "builtin" => Ok(Self::Builtin),
            "bifrost" => Ok(Self::Bifrost),
            "env" => Ok(Self::Env),
            _ => Err("it is none of builtin, bifrost, env"),
        }
    }
}

impl Settings {
    /// Who makes the keys of tasks; our own gateway where nothing is said.
    pub fn key_source(&mut self) -> KeySource {
        let name = self.or(&Key::KEY_SOURCE, Name::Builtin);
        let url: Option<String> = self.optional(&Key::BIFROST_URL);
        let user: Option<String> = self.optional(&Key::BIFROST_USER);
        let password = self.optional(&Key::BIFROST_PASSWORD);
        let providers = self.list(&Key::BIFROST_PROVIDERS);
        match name {
            Name::Bifrost => {
                let address = url.as_deref().and_then(loopback).unwrap_or_else(|| {
                    self.fault(
                        "key_source = \"bifrost\" needs bifrost.url, an address of this machine such as \
                         http://127.0.0.1:8080: sandboxes are led there, and the password goes there without TLS",
                    );
                    SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
                });
                let providers = match providers.is_empty() {
                    true => ["anthropic", "openai"].map(str::to_owned).to_vec(),
                    false => providers,
                };
                KeySource::Bifrost(Bifrost {
                    address,
                    user: user.unwrap_or_else(|| "admin".to_owned()),
                    password,
                    providers,
                })
            }
            other => {
                if url.is_some() || user.is_some() || !providers.is_empty() {
                    self.fault("bifrost.* has no use without key_source = \"bifrost\"");
                }
                if matches!(other, Name::Env) { KeySource::Env } else { KeySource::Builtin }
            }
        }
    }
}

fn loopback(url: &str) -> Option<SocketAddr> {
    let at = url.trim_end_matches('/').strip_prefix("http://")?;
    let address: SocketAddr = at.replace("localhost", "127.0.0.1").parse().ok()?;
    address.ip().is_loopback().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Faults, Sources};

    fn source(toml: &str) -> Result<KeySource, Faults> {
        let file = Some(("config.toml".into(), toml.to_owned()));
        let mut settings = Settings::new(Sources { file, ..Sources::default() });
        let source = settings.key_source();
        settings.finish(source)
    }

    #[test]
    fn our_own_gateway_is_usual_and_others_are_named() {
        assert_eq!(source("").unwrap(), KeySource::Builtin);
        assert_eq!(source("key_source = 'env'").unwrap(), KeySource::Env);
        let told =
            source("key_source = 'bifrost'\n[bifrost]\nurl = 'http://localhost:81/'\nproviders = ['x']")
                .unwrap();
        let KeySource::Bifrost(bifrost) = told else { panic!("{told:?}") };
        assert_eq!((bifrost.address.to_string().as_str(), bifrost.user.as_str()), ("127.0.0.1:81", "admin"));
        assert_eq!(bifrost.providers, ["x"]);
    }

    #[test]
    fn what_does_not_fit_together_is_a_fault() {
        for (toml, fault) in [
            ("key_source = 'other'", "key_source"),
            ("key_source = 'bifrost'", "bifrost.url"),
            ("key_source = 'bifrost'\n[bifrost]\nurl = 'http://gateway.example:80'", "bifrost.url"),
            ("key_source = 'bifrost'\n[bifrost]\nurl = 'http://10.0.0.1:80'", "bifrost.url"),
            ("key_source = 'bifrost'\n[bifrost]\nurl = 'https://127.0.0.1:80'", "bifrost.url"),
            ("[bifrost]\nurl = 'http://127.0.0.1:80'", "no use"),
            ("key_source = 'env'\n[bifrost]\nproviders = ['x']", "no use"),
        ] {
            let faults = source(toml).unwrap_err().to_string();
            assert!(faults.contains(fault), "{toml}: {faults}");
        }
    }
}
