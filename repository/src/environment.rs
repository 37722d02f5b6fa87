//! What git finds in its environment. It starts empty; each setting adds what it needs, by name.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::source::{REMOTE_PROTOCOLS, RemoteSource, UrlCredential};

/// Variables, ready for `Command::envs`.
pub(crate) type Environment = Vec<(&'static str, OsString)>;

/// What the owner's credentials, proxies and certificates are found by. Only a git that talks to the source or
/// to the user's own repository gets these.
const OWNERS: [&str; 18] = [
    "HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "USER",
    "LOGNAME",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "GIT_SSL_CAINFO",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// The variables that the program itself is started with: those above, and what it needs of its own.
pub(crate) fn of_program() -> Environment {
    let mut environment = taken(&OWNERS);
    environment.extend(taken(&["PATH", "TMPDIR"]));
    environment
}

/// For data that came back from a sandbox and for everything that needs no credential: nobody's configuration.
pub(crate) fn isolated(scratch: &Path) -> Environment {
    let mut environment = common();
    environment.extend([
        ("HOME", scratch.into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_ATTR_NOSYSTEM", "1".into()),
        ("GIT_ALLOW_PROTOCOL", "file".into()),
    ]);
    environment
}

/// For reading a source that is a folder of this machine. git refuses a repository of another owner unless a
/// configuration file says otherwise (`-c` does not reach the `upload-pack` that git starts there); the owner
/// named this folder, and `upload-pack` runs nothing that the folder's own configuration names
/// (`uploadpack.packObjectsHook` counts only in the global and system files, which are ours here).
pub(crate) fn of_local_source(scratch: &Path) -> io::Result<Environment> {
    let file = scratch.join("gitconfig");
    fs::write(&file, "[safe]\n\tdirectory = *\n")?;
    Ok(replaced(isolated(scratch), "GIT_CONFIG_GLOBAL", file.into()))
}

/// For reading a source behind a network, with the owner's own credentials: their home and their global
/// configuration, and the system's. A credential from the URL goes into a private file, of which git learns
/// through a private configuration file: it stands in no argument list and in no environment.
pub(crate) fn of_remote_source(remote: &RemoteSource, scratch: &Path) -> io::Result<Environment> {
    let mut environment = of_owner();
    environment.push(("GIT_ALLOW_PROTOCOL", REMOTE_PROTOCOLS.into()));
    if let Some(credential) = &remote.credential {
        let file = scratch.join("gitconfig");
        let config = credential_config(remote, credential, scratch)?;
        write_private(&file, &config)?;
        environment.push(("GIT_CONFIG_GLOBAL", file.into()));
    }
    Ok(environment)
}

/// For the user's own repository: their configuration applies in it, but nothing is fetched over a network.
pub(crate) fn of_target() -> Environment {
    let mut environment = of_owner();
    environment.push(("GIT_ALLOW_PROTOCOL", "file".into()));
    environment
}

fn of_owner() -> Environment {
    let mut environment = common();
    environment.extend(taken(&OWNERS));
    environment.extend([
        ("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=20".into()),
        ("SSH_ASKPASS_REQUIRE", "never".into()),
    ]);
    environment
}

fn common() -> Environment {
    let mut environment = taken(&["PATH", "TMPDIR"]);
    environment.extend([
        ("LC_ALL", "C".into()),
        ("GIT_TERMINAL_PROMPT", "0".into()),
        ("GIT_ASKPASS", "/bin/false".into()),
        ("GIT_OPTIONAL_LOCKS", "0".into()),
        ("GIT_NO_LAZY_FETCH", "1".into()),
        ("GIT_NO_REPLACE_OBJECTS", "1".into()),
        ("GIT_PAGER", "cat".into()),
    ]);
    environment
}

/// The owner's configuration still applies (proxies, certificates), but the URL's credential goes before theirs.
fn credential_config(
    remote: &RemoteSource,
    credential: &UrlCredential,
    scratch: &Path,
) -> io::Result<String> {
    let mut config = String::new();
    let home = std::env::var_os("HOME").map(std::path::PathBuf::from);
    let xdg = std::env::var_os("XDG_CONFIG_HOME").map(std::path::PathBuf::from);
    let in_xdg = xdg
        .or_else(|| home.as_ref().map(|home| home.join(".config")))
        .map(|folder| folder.join("git/config"));
    for file in [in_xdg, home.map(|home| home.join(".gitconfig"))].into_iter().flatten() {
        config.push_str(&format!("[include]\n\tpath = {}\n", quoted(&file.to_string_lossy())));
    }
    match &credential.password {
        Some(password) => {
            let (scheme, rest) = remote.url.split_once("://").unwrap_or(("https", &remote.url));
            let host = rest.split('/').next().unwrap_or(rest);
            let store = scratch.join("credentials");
            write_private(&store, &format!("{scheme}://{}:{password}@{host}\n", credential.user))?;
            let helper = format!("store --file='{}'", store.to_string_lossy().replace('\'', r"'\''"));
            config.push_str(&format!("[credential]\n\thelper =\n\thelper = {}\n", quoted(&helper)));
        }
        None => config.push_str(&format!("[credential]\n\tusername = {}\n", quoted(&credential.user))),
    }
    Ok(config)
}

/// A value of a git configuration file: in quotes, with `\` and `"` escaped.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
}

fn write_private(file: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut opened = options.write(true).create_new(true).mode(0o600).open(file)?;
    io::Write::write_all(&mut opened, content.as_bytes())
}

fn taken(names: &[&'static str]) -> Environment {
    names.iter().filter_map(|name| std::env::var_os(name).map(|value| (*name, value))).collect()
}

fn replaced(mut environment: Environment, name: &'static str, value: OsString) -> Environment {
    environment.retain(|(known, _)| *known != name);
    environment.push((name, value));
    environment
}
