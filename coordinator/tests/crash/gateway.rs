//! The real gateway, for tasks with an agent: it mints their virtual keys.

use std::{path::Path, process::Stdio};

use tokio::process::{Child, Command};

use crate::place::Place;

/// The gateway on the place's folders, once its admin door is open; `None`, and said, where it is not built.
pub(crate) async fn gateway(place: &Place) -> Option<Child> {
    let program =
        Path::new(env!("CARGO_BIN_EXE_code-workers-coordinator")).with_file_name("code-workers-gateway");
    if !program.is_file() {
        assert!(std::env::var_os("CI").is_none(), "{} is not built", program.display());
        println!("no tasks with agents: {} is not built (cargo build -p gateway)", program.display());
        return None;
    }
    let base = place.base();
    let child = Command::new(program)
        .env_clear()
        .current_dir(base)
        .env("XDG_CONFIG_HOME", base.join("c"))
        .env("XDG_DATA_HOME", base.join("d"))
        .env("XDG_RUNTIME_DIR", base.join("r"))
        .env("GATEWAY_BIND", "127.0.0.1:0")
        .env("ANTHROPIC_UPSTREAM_URL", "http://127.0.0.1:9")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let door = place.folders.gateway_admin_socket();
    crate::place::until(|| std::os::unix::net::UnixStream::connect(&door).is_ok()).await;
    Some(child)
}
