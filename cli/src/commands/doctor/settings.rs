//! The configuration, and the owner's key.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::check::Check;
use crate::{context::Context, failure::Failure};

const NAME: &str = "configuration";

/// It cannot be read, and nothing further is known.
pub(super) fn bad(failure: &Failure) -> Check {
    let found = match failure {
        Failure::Told { text, .. } => text.clone(),
        Failure::ReaderGone => String::new(),
    };
    Check::failed(NAME, found, "mend what is named; docs/configuration.md says what may stand there")
}

/// Where it is.
pub(super) fn good(context: &Context, config: Option<&Path>) -> Check {
    let usual = context.folders.config_file();
    let file = config.unwrap_or(&usual);
    let found = if file.exists() { "" } else { " (not there: all is as by default)" };
    Check::ok(NAME, format!("{}{found}", file.display()))
}

/// Whether there is a key, and whether only its owner can read it.
pub(super) fn owner_key(context: &Context) -> Check {
    const NAME: &str = "owner's key";
    let file = context.folders.env_file();
    if !context.has_key() {
        let found = format!("FORTRESS_API_KEY is neither in the environment nor in {}", file.display());
        return Check::failed(NAME, found, "start `code-workers up` once, which makes one");
    }
    match fs::metadata(&file).map(|meta| meta.permissions().mode() & 0o077) {
        Ok(others) if others != 0 => {
            let found = format!("others of this machine may read {}", file.display());
            Check::warning(NAME, found, format!("chmod 600 {}", file.display()))
        }
        _ => Check::ok(NAME, "FORTRESS_API_KEY is set"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, owner_key};
    use crate::context::Context;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_key_that_others_may_read_is_told() {
        let place = tempfile::tempdir().unwrap();
        let context = Context::for_tests(place.path(), Some("key"));
        fs::create_dir_all(&context.folders.config).unwrap();
        let file = context.folders.env_file();
        fs::write(&file, "").unwrap();
        for (mode, status) in [(0o600, Status::Ok), (0o640, Status::Warning), (0o604, Status::Warning)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(owner_key(&context).status, status, "{mode:o}");
        }
        let none = Context::for_tests(place.path(), None);
        assert_eq!(owner_key(&none).status, Status::Failed);
    }
}
