//! What weakened sandboxes are given in place of parts of the host that are too good for them.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::{Path, PathBuf},
};

/// A folder of such parts; its sockets are open as long as it is held.
pub(super) struct StandIn {
    folder: PathBuf,
    _sockets: Vec<UnixListener>,
}

impl StandIn {
    pub(super) fn make(folder: &Path, mark: &str, boot_id: &str) -> anyhow::Result<Self> {
        let file = |path: &str, text: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, text)
        };
        file("shadow", mark)?;
        file("proc/sys/kernel/random/boot_id", boot_id)?;
        file("proc/4242/cmdline", mark)?;
        fs::create_dir(folder.join("usr-local"))?;
        fs::set_permissions(folder.join("usr-local"), fs::Permissions::from_mode(0o777))?;
        let socket = |path: &str| {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).map(|()| listener)
        };
        let paths = [
            "sockets/podman.sock",
            "run/owner.sock",
            "run/gateway-admin.sock",
            "run/sandboxes/other/doors/coordinator.sock",
        ];
        let sockets = paths.map(socket).into_iter().collect::<Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), _sockets: sockets })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}
