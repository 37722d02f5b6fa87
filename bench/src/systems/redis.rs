//! Redis that flushes before it answers (`appendfsync always`): a list of what is ready, a list of what is being
//! done, and a hash of states.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use e2e::Process;
use redis::{Client as Redis, aio::MultiplexedConnection, cmd, pipe};
use uuid::Uuid;

use super::{BODY_BYTES, installed, new_folder};
use crate::load::Client;

/// The running server.
pub(crate) struct Server {
    _process: Process,
    socket: PathBuf,
}

impl Server {
    /// Starts it, where it is installed.
    pub(crate) fn start(inside: &Path) -> Option<Self> {
        let program = installed(&["redis-server"])?;
        let folder = new_folder(inside, "redis");
        let socket = folder.join("socket");
        let mut command = Command::new(program);
        command
            .args([
                "--port",
                "0",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
                "--unixsocket",
            ])
            .arg(&socket)
            .arg("--dir")
            .arg(&folder);
        let mut process = Process::start("redis", &mut command);
        process.wait_for("eady to accept connections");
        Some(Self { _process: process, socket })
    }

    /// A client, connected.
    pub(crate) async fn client(&self) -> Lists {
        let url = format!("redis+unix://{}", self.socket.display());
        let client = Redis::open(url).expect("it is an address");
        Lists(client.get_multiplexed_async_connection().await.expect("it listens"))
    }
}

/// A client.
pub(crate) struct Lists(MultiplexedConnection);

impl Client for Lists {
    async fn cycle(&mut self) {
        let filling = BODY_BYTES - 36;
        let task = format!("{}{:filling$}", Uuid::new_v4(), "");
        let redis = &mut self.0;
        let _: i64 = cmd("LPUSH").arg("ready").arg(&task).query_async(redis).await.expect("push");
        let mut lease = cmd("LMOVE");
        lease.arg("ready").arg("leased").arg("RIGHT").arg("LEFT");
        let task: String = lease.query_async(redis).await.expect("move");
        let id = &task[..36];
        let _: i64 = cmd("HSET").arg("state").arg(id).arg("running").query_async(redis).await.expect("start");
        let mut done = pipe();
        done.atomic().cmd("LREM").arg("leased").arg(1).arg(&task).ignore();
        done.cmd("HSET").arg("state").arg(id).arg("succeeded").ignore();
        let () = done.query_async(redis).await.expect("done");
    }
}
