//! What every command knows: the folders, where the coordinator is, and the owner's key.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use protocol::{
    Secret,
    client::{AdminClient, Endpoint, OwnerClient},
    folders::Folders,
    settings::{Key, KeySource, Settings, Sources},
};

use crate::failure::{Exit, Failure};

/// The settings of a client, whole and valid.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where things lie.
    pub(crate) folders: Folders,
    /// Who makes the keys of tasks.
    pub(crate) keys: KeySource,
    endpoint: Endpoint,
    key: Option<Secret>,
}

impl Context {
    /// Reads the environment, the `.env` files and the configuration.
    pub(crate) fn read(config: Option<&Path>) -> Result<Self, Failure> {
        let (sources, folders) = Sources::read(config)?;
        Ok(Self::from_sources(sources, folders)?)
    }

    fn from_sources(sources: Sources, folders: Folders) -> Result<Self, protocol::settings::Faults> {
        let mut settings = Settings::new(sources);
        let bind = settings.or(&Key::COORDINATOR_BIND, SocketAddr::from((Ipv4Addr::LOCALHOST, 7222)));
        let endpoint = settings.or(&Key::COORDINATOR_URL, Endpoint::Http(format!("http://{bind}")));
        let key = settings.optional(&Key::OWNER_KEY);
        let keys = settings.key_source();
        settings.finish(Self { folders, keys, endpoint, key })
    }

    /// Where the coordinator is.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether there is an owner's key.
    pub(crate) const fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// With folders in a test's own place.
    #[cfg(test)]
    pub(crate) fn for_tests(place: &Path, key: Option<&str>) -> Self {
        let folder = |name| place.join(name);
        let folders = Folders { config: folder("config"), data: folder("data"), run: folder("run") };
        let endpoint = Endpoint::Unix(folders.owner_socket());
        Self { folders, keys: KeySource::Builtin, endpoint, key: key.map(Secret::new) }
    }

    /// A client of our own gateway's admin door, which opens to who may open its socket.
    pub(crate) fn gateway(&self) -> Result<AdminClient, Failure> {
        if self.keys != KeySource::Builtin {
            let text = "the gateway here is not our own (key_source), and tells nothing of keys and budgets\n\
                        ask that one, or set key_source = \"builtin\"";
            return Err(Failure::new(Exit::Refused, text));
        }
        Ok(AdminClient::new(Endpoint::Unix(self.folders.gateway_admin_socket()))?)
    }

    /// A client of the coordinator, with the owner's key.
    pub(crate) fn client(&self) -> Result<OwnerClient, Failure> {
        let key = self.key.clone().ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!(
                    "no owner's key: FORTRESS_API_KEY is neither in the environment nor in .env here or in {}\n\
                     `code-workers up` makes one on its first start",
                    self.folders.env_file().display()
                ),
            )
        })?;
        Ok(OwnerClient::new(self.endpoint.clone(), key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Context;
    use protocol::{folders::Folders, settings::Sources};

    fn endpoint(environment: &[(&str, &str)]) -> String {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let folders = Folders { config: "/c".into(), data: "/d".into(), run: "/r".into() };
        let context = Context::from_sources(Sources { environment, ..Sources::default() }, folders);
        context.map_or_else(|faults| faults.to_string(), |context| context.endpoint.to_string())
    }

    #[test]
    fn the_coordinator_is_where_it_binds_unless_a_url_says_otherwise() {
        assert_eq!(endpoint(&[]), "http://127.0.0.1:7222");
        assert_eq!(endpoint(&[("COORDINATOR_BIND", "127.0.0.1:1")]), "http://127.0.0.1:1");
        let both = [("COORDINATOR_BIND", "127.0.0.1:1"), ("COORDINATOR_URL", "unix:///run/x.sock")];
        assert_eq!(endpoint(&both), "unix:///run/x.sock");
        assert!(endpoint(&[("COORDINATOR_URL", "ftp://x")]).contains("COORDINATOR_URL"));
    }
}
