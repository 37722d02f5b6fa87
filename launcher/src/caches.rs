//! Which host folders a repository's sandboxes may read as caches of dependencies: `[repo.NAME] caches`.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use protocol::folders::Folders;
use protocol::ids::QueueName;
use protocol::settings::Settings;
use sandbox::InsidePath;

/// A folder of the host, links on the way followed, and where it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) host: PathBuf,
    pub(crate) inside: PathBuf,
}

/// Folders of the host that hold the system, its secrets or its sockets: neither they nor what is in them.
const SYSTEM: [&str; 8] = ["/etc", "/proc", "/sys", "/dev", "/run", "/var/run", "/boot", "/var/lib/docker"];

/// What is in a home folder and holds keys, or may: neither it nor what is in it nor what it is in.
const SECRETS: [&str; 27] = [
    ".ssh",
    ".gnupg",
    ".pki",
    ".password-store",
    ".aws",
    ".azure",
    ".config",
    ".docker",
    ".kube",
    ".netrc",
    ".git-credentials",
    ".gitconfig",
    ".npmrc",
    ".yarnrc.yml",
    ".pypirc",
    ".pgpass",
    ".vault-token",
    ".terraform.d",
    ".mozilla",
    ".claude",
    ".claude.json",
    ".codex",
    ".local/share/keyrings",
    ".local/share/opencode",
    ".cargo/credentials",
    ".cargo/credentials.toml",
    ".m2/settings.xml",
];

/// Places inside that are the sandbox's own, and the host's toolchain.
const TAKEN: [&str; 15] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/tmp",
    "/run",
    "/work",
    "/mirror.git",
];
const TAKEN_IN_OPT: [&str; 2] = ["/opt/code-workers", "/opt/agents"];

/// The caches of a repository. What is not to be mounted is noted as a fault.
pub(crate) fn read(settings: &mut Settings, folders: &Folders, repository: &QueueName) -> Vec<Cache> {
    let home = settings.variable("HOME").map(PathBuf::from);
    let entries = match entries(settings.table("repo"), repository) {
        Ok(entries) => entries,
        Err(faults) => {
            faults.into_iter().for_each(|fault| settings.fault(fault));
            return Vec::new();
        }
    };
    let mut caches = Vec::new();
    for entry in entries {
        match cache(&entry, folders, home.as_deref()) {
            Ok(cache) => caches.push(cache),
            Err(why) => settings.fault(format!("repo.{repository}.caches: {entry:?} {why}")),
        }
    }
    caches
}

/// The strings of `caches` of this repository, once all repositories' tables are as they should be.
fn entries(table: Option<&toml::Table>, repository: &QueueName) -> Result<Vec<String>, Vec<String>> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for (name, repo) in table.into_iter().flatten() {
        let Some(repo) = repo.as_table() else {
            faults.push(format!("repo.{name}: a table is wanted, [repo.{name}]"));
            continue;
        };
        for (key, value) in repo {
            let strings = value.as_array().and_then(|all| {
                all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            });
            match (key.as_str(), strings) {
                ("caches", Some(strings)) if name == repository.as_str() => found = strings,
                ("caches", Some(_)) => {}
                ("caches", None) => faults.push(format!("repo.{name}.caches: a list of strings is wanted")),
                _ => faults
                    .push(format!("repo.{name}.{key} is not a setting (docs/configuration.md lists them)")),
            }
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn cache(entry: &str, folders: &Folders, home: Option<&Path>) -> Result<Cache, String> {
    let (host, inside) = entry.split_once(':').unwrap_or((entry, entry));
    if !Path::new(host).is_absolute() {
        return Err("is not an absolute path".to_owned());
    }
    let real = Path::new(host).canonicalize().map_err(|error| format!("cannot be mounted: {error}"))?;
    if !real.is_dir() {
        return Err("is not a folder".to_owned());
    }
    if let Some(secret) = secrets(folders, home).iter().find(|secret| touches(&real, secret)) {
        return Err(format!("is not mounted: it is, is in, or holds {}", secret.display()));
    }
    let inside = InsidePath::try_from(inside).map_err(|error| error.to_string())?.as_path().to_owned();
    let taken = TAKEN.iter().chain(&TAKEN_IN_OPT).map(Path::new);
    if let Some(taken) = taken.into_iter().find(|taken| touches(&inside, taken)) {
        return Err(format!(
            "cannot be seen at {}: {} is the sandbox's own; give another place, as in {host}:/caches/…",
            inside.display(),
            taken.display()
        ));
    }
    if let Some(socket) = socket_in(&real) {
        return Err(format!("is not mounted: {} is a socket, and would be a way out", socket.display()));
    }
    Ok(Cache { host: real, inside })
}

/// Either is in the other.
fn touches(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// Also where links of the home folder lead.
fn secrets(folders: &Folders, home: Option<&Path>) -> Vec<PathBuf> {
    let system = SYSTEM.iter().map(PathBuf::from);
    let homes = [home.map(Path::to_owned), home.and_then(|home| home.canonicalize().ok())];
    let in_homes = homes.iter().flatten().flat_map(|home| SECRETS.iter().map(|name| home.join(name)));
    let own = [&folders.config, &folders.data, &folders.run].map(Clone::clone);
    let named: Vec<_> = system.chain(in_homes).chain(own).collect();
    let real: Vec<_> = named.iter().filter_map(|path| path.canonicalize().ok()).collect();
    named.into_iter().chain(real).collect()
}

/// gVisor lets programs connect to sockets in mounted folders, read-only ones too.
fn socket_in(folder: &Path) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_socket() => return Some(entry.path()),
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(tempfile::TempDir, Folders);

    impl Home {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            for folder in [".cargo/registry", ".ssh/keys", ".config/code-workers", "wheels", "data", "run"] {
                fs::create_dir_all(home.path().join(folder)).unwrap();
            }
            let at = |name: &str| home.path().join(name);
            let folders = Folders { config: at(".config/code-workers"), data: at("data"), run: at("run") };
            Self(home, folders)
        }

        fn cache(&self, entry: &str) -> Result<Cache, String> {
            cache(&entry.replace('~', self.0.path().to_str().unwrap()), &self.1, Some(self.0.path()))
        }
    }

    #[test]
    fn what_holds_keys_or_sockets_is_no_cache() {
        let home = Home::new();
        std::os::unix::fs::symlink(home.0.path().join(".ssh"), home.0.path().join("link")).unwrap();
        for entry in [
            "/",
            "~",
            "~/.ssh",
            "~/.ssh/keys",
            "~/.cargo",
            "~/link",
            "~/.config",
            "~/data",
            "~/run",
            "/etc",
            "/etc/ssl",
            "/run",
            "/var",
            "~/wheels/../.ssh",
        ] {
            let why = home.cache(&format!("{entry}:/caches/x")).unwrap_err();
            assert!(why.starts_with("is not mounted: "), "{entry}: {why}");
        }
        let _socket = std::os::unix::net::UnixListener::bind(home.0.path().join("wheels/s")).unwrap();
        let why = home.cache("~/wheels:/caches/x").unwrap_err();
        assert!(why.contains("is a socket"), "{why}");
        assert!(home.cache("wheels").unwrap_err().contains("absolute"));
        assert!(home.cache("~/none").unwrap_err().contains("No such file"));
    }

    #[test]
    fn a_cache_is_seen_where_it_is_or_where_it_is_wanted_and_never_in_the_way() {
        let home = Home::new();
        let host = home.0.path().join(".cargo/registry").canonicalize().unwrap();
        let at = |inside: &str| home.cache(&format!("~/.cargo/registry:{inside}"));
        assert_eq!(at("/caches/cargo"), Ok(Cache { host: host.clone(), inside: "/caches/cargo".into() }));
        for taken in [
            "/work",
            "/work/x",
            "/",
            "/usr/share/x",
            "/opt",
            "/run/code-workers/doors",
            "relative",
            "/a/../work",
        ] {
            assert!(at(taken).is_err(), "{taken}");
        }
    }

    #[test]
    fn a_table_is_read_for_its_own_repository_and_checked_for_all() {
        let table: toml::Table = "[one]\ncaches = ['/a']\n[two]\ncaches = ['/b', '/c']".parse().unwrap();
        let of = |name: &str| entries(Some(&table), &name.parse().unwrap());
        assert_eq!(of("two"), Ok(vec!["/b".to_owned(), "/c".to_owned()]));
        assert_eq!(of("three"), Ok(Vec::new()));
        let bad: toml::Table = "[one]\ncaches = 'x'\n[two]\ncache = []\n".parse().unwrap();
        assert_eq!(entries(Some(&bad), &"three".parse().unwrap()).unwrap_err().len(), 2);
    }
}
