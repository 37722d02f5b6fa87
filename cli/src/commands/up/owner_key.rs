//! The owner's key: made on the first start, and never shown.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use protocol::{
    folders::Folders,
    settings::{Key, Settings, Sources},
};

use crate::{
    failure::{Exit, Failure},
    terminal::note,
};

/// Bytes of randomness in a key.
const KEY_BYTES: usize = 32;
/// The key's variable.
pub(super) const VARIABLE: &str = "FORTRESS_API_KEY";

/// The sources with an owner's key in them: where there is none, one is made and added to `.env` beside the
/// configuration.
pub(super) fn ensure(mut sources: Sources, folders: &Folders) -> Result<Sources, Failure> {
    if Settings::new(sources.clone()).optional::<String>(&Key::OWNER_KEY).is_some() {
        return Ok(sources);
    }
    let file = folders.env_file();
    let told = |error: io::Error| {
        let text = format!("the owner's key cannot be kept in {}: {error}", file.display());
        Failure::new(Exit::Failed, format!("{text}\nmake the folder writable, or set FORTRESS_API_KEY"))
    };
    let line = format!("{VARIABLE}={}\n", random_hex().map_err(told)?);
    append(&file, &line).map_err(told)?;
    note(&format!("code-workers: made the owner's key, in {}", file.display()));
    sources.dot_env.push((file, line));
    Ok(sources)
}

/// 256 bits of the system's random source, as hex.
fn random_hex() -> io::Result<String> {
    let mut bytes = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Adds a line to a file that nobody else may read, in a folder that nobody else may enter.
fn append(file: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut out = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)?;
    // One that was there may be open to others.
    out.set_permissions(Permissions::from_mode(0o600))?;
    let mut there = Vec::new();
    out.read_to_end(&mut there)?;
    let gap = if there.is_empty() || there.ends_with(b"\n") { "" } else { "\n" };
    out.write_all(format!("{gap}{line}").as_bytes())?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::ensure;
    use protocol::{
        folders::Folders,
        settings::{Key, Settings, Sources},
    };
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    fn folders(place: &Path) -> Folders {
        Folders { config: place.join("config"), data: place.join("data"), run: place.join("run") }
    }

    fn key(sources: Sources) -> Option<String> {
        Settings::new(sources).optional(&Key::OWNER_KEY)
    }

    #[test]
    fn is_made_once_and_kept_for_the_owner_alone() {
        let place = tempfile::tempdir().unwrap();
        let folders = folders(place.path());
        let made = key(ensure(Sources::default(), &folders).unwrap()).unwrap();
        assert_eq!(made.len(), 64);

        let text = fs::read_to_string(folders.env_file()).unwrap();
        assert_eq!(text, format!("FORTRESS_API_KEY={made}\n"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folders.env_file()), 0o600);
        assert_eq!(mode(&folders.config), 0o700);

        let there = Sources { dot_env: vec![(folders.env_file(), text.clone())], ..Sources::default() };
        assert_eq!(key(ensure(there, &folders).unwrap()), Some(made.clone()));
        assert_eq!(fs::read_to_string(folders.env_file()).unwrap(), text);

        let other = tempfile::tempdir().unwrap();
        assert_ne!(key(ensure(Sources::default(), &self::folders(other.path())).unwrap()), Some(made));
    }

    #[test]
    fn what_stands_in_the_file_stays() {
        let place = tempfile::tempdir().unwrap();
        let folders = folders(place.path());
        fs::create_dir_all(&folders.config).unwrap();
        fs::write(folders.env_file(), "FORTRESS_API_KEY=\nOTHER=x").unwrap();
        let text = fs::read_to_string(folders.env_file()).unwrap();
        let sources = Sources {
            environment: [("FORTRESS_API_KEY".to_owned(), String::new())].into(),
            dot_env: vec![(folders.env_file(), text)],
            ..Sources::default()
        };
        ensure(sources, &folders).unwrap();
        let text = fs::read_to_string(folders.env_file()).unwrap();
        assert!(text.starts_with("FORTRESS_API_KEY=\nOTHER=x\nFORTRESS_API_KEY="), "{text}");
        let again = Sources { dot_env: vec![(folders.env_file(), text)], ..Sources::default() };
        assert!(key(again).is_some());
    }
}
