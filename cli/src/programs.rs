//! Where the other programs of code-workers are.

use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure};

/// The program beside this one, else on PATH.
pub(crate) fn find(name: &str) -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(|own| protocol::folders::beside(own, name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    beside.into_iter().chain(on_path).find(|file| is_program(file)).ok_or_else(|| {
        let place = own.as_deref().and_then(Path::parent).unwrap_or(Path::new("its folder"));
        Failure::new(
            Exit::Failed,
            format!(
                "{name} is neither in {} nor on PATH\ninstall the programs of code-workers together \
                 (./install.sh), or build them all (cargo build --release)",
                place.display()
            ),
        )
    })
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
