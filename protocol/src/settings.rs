//! Settings: environment over credentials over `.env` over the configuration file over defaults, parsed whole
//! before a program does anything, with every fault named at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::folders::{Folders, NoHome};

mod key_source;
mod keys;

pub use key_source::{Bifrost, KeySource};
pub use keys::Key;

/// The exit code of a program whose configuration is bad (`EX_USAGE` of sysexits.h).
pub const EXIT_BAD_CONFIGURATION: u8 = 64;

/// `.env` of the working folder, which may be anybody's: a checkout, say.
const WORKING_DOT_ENV: &str = ".env";

/// Names the folder of a service's credentials, systemd.exec(5).
const CREDENTIALS_FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Where settings come from, read but not yet understood.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
    /// What a service manager gave to this service alone: the file's path, and its text without its line's end.
    pub credentials: Vec<(PathBuf, String)>,
    /// `.env` files, the more important first: where each lies, and its text.
    pub dot_env: Vec<(PathBuf, String)>,
    /// The configuration file: where it lies, and its text.
    pub file: Option<(PathBuf, String)>,
}

impl Sources {
    /// Reads what this process was given: its environment, the files in `$CREDENTIALS_DIRECTORY` (each named as the
    /// variable that it stands for, systemd.exec(5)), `.env` in the working folder and beside the configuration,
    /// and the configuration file (`--config`, else the usual one where it is there).
    ///
    /// # Errors
    /// [`Faults`], where a file is there and cannot be read, or `HOME` is not known.
    pub fn read(config: Option<&Path>) -> Result<(Self, Folders), Faults> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let folders = Folders::from_env(&environment)?;
        let mut faults = Faults::default();
        let mut read = |path: &Path, required: bool| match std::fs::read_to_string(path) {
            Ok(text) => Some((path.to_owned(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => None,
            Err(error) => {
                faults.add(format!("{}: cannot be read: {error}", path.display()));
                None
            }
        };
        let usual = folders.config_file();
        let file = read(config.unwrap_or(&usual), config.is_some());
        let dot_env = [Path::new(WORKING_DOT_ENV), &folders.env_file()]
            .into_iter()
            .filter_map(|p| read(p, false))
            .collect();
        let credentials =
            environment.get(CREDENTIALS_FOLDER).map(Path::new).map_or_else(Vec::new, |folder| {
                credentials(folder).unwrap_or_else(|error| {
                    faults.add(format!("{CREDENTIALS_FOLDER}: {} cannot be read: {error}", folder.display()));
                    Vec::new()
                })
            });
        faults.into_result(())?;
        Ok((Self { environment, credentials, dot_env, file }, folders))
    }
}

/// Each file of the folder, with its text.
fn credentials(folder: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        // An editor's, or echo's.
        Ok((path, text.trim_end_matches(['\r', '\n']).to_owned()))
    };
    folder.read_dir()?.map(read).collect()
}

/// Settings in the order of their importance, and the faults found so far.
#[derive(Debug)]
pub struct Settings {
    environment: BTreeMap<String, (String, String)>,
    file_path: String,
    file: toml::Table,
    faults: Faults,
}

/// Everything that is wrong with a program's configuration.
#[derive(Debug, Default, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(BTreeSet<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not usable:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl From<NoHome> for Faults {
    fn from(error: NoHome) -> Self {
        Self([error.to_string()].into())
    }
}

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: impl Into<String>) {
        self.0.insert(fault.into());
    }

    /// The value, if there is no fault.
    ///
    /// # Errors
    /// The faults.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl Settings {
    /// Layers the sources, and notes what is malformed or unknown in them.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let mut faults = Faults::default();
        let mut environment = BTreeMap::new();
        let keep = |into: &mut BTreeMap<_, _>, from: String, name: String, value: String| {
            // An empty one counts as unset, and hides no other.
            if !value.is_empty() {
                into.entry(name).or_insert((from, value));
            }
        };
        for (name, value) in sources.environment {
            keep(&mut environment, "the environment".to_owned(), name, value);
        }
        for (path, value) in sources.credentials {
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                keep(&mut environment, path.display().to_string(), name.to_owned(), value);
            }
        }
        for (path, text) in &sources.dot_env {
            let anybodys = path == Path::new(WORKING_DOT_ENV);
            // The message of a parse error holds the line, and with it perhaps a key.
            for (row, entry) in dotenvy::from_read_iter(text.as_bytes()).enumerate() {
                match entry {
                    Ok((name, value)) if anybodys && leads_away(&name, &value) => faults.add(format!(
                        "{name} in .env of the working folder is not taken, since a repository may have brought it: \
                         put it into the .env beside the configuration, or into the environment"
                    )),
                    Ok((name, value)) => keep(&mut environment, path.display().to_string(), name, value),
                    Err(_) => faults.add(format!(
                        "{}: entry {} is not NAME=VALUE (quote a value that has spaces)",
                        path.display(),
                        row + 1
                    )),
                }
            }
        }
        let (path, text) = sources.file.unwrap_or_default();
        let file_path = path.display().to_string();
        let file = text.parse::<toml::Table>().unwrap_or_else(|error| {
            faults.add(format!("{file_path}: {}", error.to_string().trim_end().replace('\n', "\n    ")));
            toml::Table::new()
        });
        for unknown in unknown_names(&file) {
            faults.add(format!("{file_path}: {unknown} is not a setting (docs/configuration.md lists them)"));
        }
        Self { environment, file_path, file, faults }
    }

    /// A setting as text, with the place that it came from.
    fn find(&mut self, key: &Key) -> Option<(String, String)> {
        if let Some((from, value)) = key.env.and_then(|name| self.environment.get(name)) {
            return Some((format!("{} in {from}", key.env.unwrap_or_default()), value.clone()));
        }
        let name = key.file?;
        let value = lookup(&self.file, name)?;
        let from = format!("{name} in {}", self.file_path);
        match value {
            toml::Value::String(text) => Some((from, text.clone())),
            toml::Value::Integer(number) => Some((from, number.to_string())),
            toml::Value::Boolean(yes) => Some((from, yes.to_string())),
            toml::Value::Float(number) => Some((from, number.to_string())),
            _ => {
                self.faults.add(format!("{from}: a single value is wanted here"));
                None
            }
        }
    }

    /// A setting, or `None` where it is not set or (noted as a fault) not valid.
    pub fn optional<T: FromStr<Err: fmt::Display>>(&mut self, key: &Key) -> Option<T> {
        let (from, text) = self.find(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) if key.secret => {
                let _ = error;
                self.faults.add(format!("{from}: is not usable as a key"));
                None
            }
            Err(error) => {
                self.faults.add(format!("{from}: {text:?} is not valid: {error}"));
                None
            }
        }
    }

    /// A setting, or its default.
    pub fn or<T: FromStr<Err: fmt::Display>>(&mut self, key: &Key, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// Where the coordinator listens for its owner: loopback, port 7222 where nothing is said.
    pub fn coordinator_bind(&mut self) -> SocketAddr {
        self.loopback(&Key::COORDINATOR_BIND, 7222)
    }

    /// Where the gateway listens on the host: loopback, port 4000 where nothing is said.
    pub fn gateway_bind(&mut self) -> SocketAddr {
        self.loopback(&Key::GATEWAY_BIND, 4000)
    }

    fn loopback(&mut self, key: &Key, port: u16) -> SocketAddr {
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bind = self.or(key, usual);
        if !bind.ip().is_loopback() {
            let name = key.env.unwrap_or_default();
            self.fault(format!(
                "{name}: {bind} is not a loopback address, and this machine alone is served: use {usual}"
            ));
        }
        bind
    }

    /// The names of the variables that hold real keys, which are for the gateway alone.
    pub fn real_key_variables(&mut self) -> Vec<String> {
        let usual = [&Key::ANTHROPIC_KEY, &Key::OPENAI_KEY, &Key::ANTHROPIC_TOKEN];
        let mut names: Vec<String> = usual.iter().filter_map(|key| key.env).map(str::to_owned).collect();
        names.extend(
            [&Key::ANTHROPIC_KEY_ENV, &Key::OPENAI_KEY_ENV].into_iter().filter_map(|key| self.optional(key)),
        );
        for entry in [&Key::ANTHROPIC_MORE, &Key::OPENAI_MORE].into_iter().flat_map(|key| self.tables(key)) {
            names.extend(entry.get("api_key_env").and_then(toml::Value::as_str).map(str::to_owned));
        }
        names
    }

    /// Whether logs are for machines.
    pub fn json_logs(&mut self) -> bool {
        match self.optional::<String>(&Key::LOG_FORMAT).as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => {
                self.fault(format!("LOG_FORMAT: {other:?} is not json or text"));
                false
            }
        }
    }

    /// A list of strings from the configuration file.
    pub fn list(&mut self, key: &Key) -> Vec<String> {
        let Some(value) = key.file.and_then(|name| lookup(&self.file, name)) else { return Vec::new() };
        let strings = value
            .as_array()
            .and_then(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<_>>());
        strings.unwrap_or_else(|| {
            let name = key.file.unwrap_or_default();
            self.faults.add(format!("{name} in {}: a list of strings is wanted here", self.file_path));
            Vec::new()
        })
    }

    /// A list of tables from the configuration file.
    pub fn tables(&mut self, key: &Key) -> Vec<toml::Table> {
        let Some(value) = key.file.and_then(|name| lookup(&self.file, name)) else { return Vec::new() };
        let tables = value
            .as_array()
            .and_then(|all| all.iter().map(|one| one.as_table().cloned()).collect::<Option<_>>());
        tables.unwrap_or_else(|| {
            let name = key.file.unwrap_or_default();
            self.faults.add(format!("{name} in {}: a list of tables is wanted: [[{name}]]", self.file_path));
            Vec::new()
        })
    }

    /// A variable of the environment or a `.env` file that is no setting of ours, such as the one that
    /// `upstream.*.api_key_env` names.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).map(|(_, value)| value.clone())
    }

    /// A table of the configuration file whose names are the user's own, such as `price`.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&toml::Table> {
        lookup(&self.file, name).and_then(toml::Value::as_table)
    }

    /// Notes a fault that the program itself found.
    pub fn fault(&mut self, fault: impl Into<String>) {
        self.faults.add(fault);
    }

    /// The program's configuration, if nothing was wrong.
    ///
    /// # Errors
    /// Every fault that was found.
    pub fn finish<T>(self, config: T) -> Result<T, Faults> {
        self.faults.into_result(config)
    }
}

/// Whether a setting would run another program, put another wall up or none, or send a key or a prompt to another machine.
fn leads_away(name: &str, value: &str) -> bool {
    let is = |keys: &[Key]| keys.iter().any(|key| key.env == Some(name));
    if is(&[Key::COORDINATOR_URL, Key::ANTHROPIC_URL, Key::OPENAI_URL]) {
        let here = reqwest::Url::parse(value).ok().is_some_and(|url| match url.host_str() {
            None | Some("") => url.scheme() == "unix",
            Some("localhost") => true,
            Some(host) => host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        });
        return !here;
    }
    is(&[Key::RUNSC, Key::AGENT_FILES, Key::SANDBOX_KIND, Key::SANDBOX_IMAGE])
}

fn lookup<'a>(table: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    let mut parts = name.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_table()?.get(part))
}

fn unknown_names(file: &toml::Table) -> Vec<String> {
    fn walk(prefix: &str, table: &toml::Table, unknown: &mut Vec<String>) {
        for (name, value) in table {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            let known = Key::ALL.iter().filter_map(|key| key.file);
            if known.clone().any(|file| file == path || file == format!("{path}.*")) {
                continue;
            }
            match value.as_table() {
                Some(inner) if known.clone().any(|file| file.starts_with(&format!("{path}."))) => {
                    walk(&path, inner, unknown);
                }
                _ => unknown.push(path),
            }
        }
    }
    let mut unknown = Vec::new();
    walk("", file, &mut unknown);
    unknown
}

#[cfg(test)]
mod tests;
