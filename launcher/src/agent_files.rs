//! The agent files that a sandbox sees: the built-in ones, and the user's own, which stand before them.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// `agents/` of this version, so that a program and its agent files are never of two versions.
const BUILT_IN: [(&str, &str); 4] = [
    ("opencode.toml", include_str!("../../agents/opencode.toml")),
    ("claude.toml", include_str!("../../agents/claude.toml")),
    ("codex.toml", include_str!("../../agents/codex.toml")),
    ("command.toml", include_str!("../../agents/command.toml")),
];

/// Makes the folder that is mounted for the agent files.
pub(crate) fn write(folder: &Path, own: Option<&Path>) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    for (name, text) in BUILT_IN {
        put(&folder.join(name), text.as_bytes())?;
    }
    let Some(own) = own else { return Ok(()) };
    for entry in fs::read_dir(own)? {
        let path = entry?.path();
        if let (Some("toml"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_name()) {
            put(&folder.join(name), &fs::read(&path)?)?;
        }
    }
    Ok(())
}

fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o644).open(path)?.write_all(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn an_own_file_stands_before_a_built_in_one() {
        let scratch = tempfile::tempdir().unwrap();
        let (own, made) = (scratch.path().join("own"), scratch.path().join("made"));
        fs::create_dir(&own).unwrap();
        fs::write(own.join("codex.toml"), "mine").unwrap();
        fs::write(own.join("notes.txt"), "not an agent").unwrap();
        super::write(&made, Some(&own)).unwrap();
        assert_eq!(fs::read_to_string(made.join("codex.toml")).unwrap(), "mine");
        assert!(fs::read_to_string(made.join("opencode.toml")).unwrap().contains("opencode"));
        assert_eq!(fs::read_dir(&made).unwrap().count(), 4);
    }
}
