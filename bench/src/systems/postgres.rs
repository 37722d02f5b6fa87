//! PostgreSQL with `FOR UPDATE SKIP LOCKED`, each step a transaction of its own that is flushed (its default).

use std::{
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use e2e::Process;
use rustix::process::{Signal, geteuid};
use tokio_postgres::{NoTls, Statement};

use super::{BODY_BYTES, installed, new_folder};
use crate::load::Client;

/// `nobody`: PostgreSQL refuses to run as root.
const PLAIN_USER: u32 = 65_534;
const TABLE: &str = "CREATE TABLE tasks (n bigserial PRIMARY KEY, state text NOT NULL DEFAULT 'ready', \
    body text NOT NULL, leased_at timestamptz, started_at timestamptz, finished_at timestamptz); \
    CREATE INDEX tasks_ready ON tasks (n) WHERE state = 'ready'";
const SUBMIT: &str = "INSERT INTO tasks (body) VALUES ($1)";
const LEASE: &str = "UPDATE tasks SET state = 'leased', leased_at = now() WHERE n = (SELECT n FROM tasks \
    WHERE state = 'ready' ORDER BY n LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING n, body";
const START: &str =
    "UPDATE tasks SET state = 'running', started_at = now() WHERE n = $1 AND state = 'leased'";
const FINISH: &str =
    "UPDATE tasks SET state = 'succeeded', finished_at = now() WHERE n = $1 AND state = 'running'";

/// The running server.
pub(crate) struct Server {
    process: Process,
    folder: PathBuf,
}

impl Server {
    /// Starts it, where it is installed.
    pub(crate) async fn start(inside: &Path) -> Option<Self> {
        let debian = "/usr/lib/postgresql/15/bin/";
        let initdb = installed(&["initdb", &format!("{debian}initdb")])?;
        let server = installed(&["postgres", &format!("{debian}postgres")])?;
        let folder = new_folder(inside, "postgres");
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            if geteuid().is_root() {
                command.uid(PLAIN_USER).gid(PLAIN_USER);
            }
            command.current_dir(&folder);
            command
        };
        if geteuid().is_root() {
            chown(&folder, Some(PLAIN_USER), Some(PLAIN_USER)).expect("root may do that");
        }
        let data = folder.join("data");
        let made = as_user(&initdb).args(["-U", "bench", "-A", "trust", "-D"]).arg(&data).output();
        let made = made.expect("initdb starts");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut command = as_user(&server);
        command.arg("-D").arg(&data).arg("-k").arg(&folder);
        command.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        let mut process = Process::start("postgres", &mut command);
        process.wait_for("ready to accept connections");
        let server = Self { process, folder };
        let connection = server.connect().await;
        connection.batch_execute(TABLE).await.expect("a new table");
        Some(server)
    }

    async fn connect(&self) -> tokio_postgres::Client {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).user("bench").dbname("postgres");
        let (client, connection) = config.connect(NoTls).await.expect("it listens");
        // It ends with its client.
        tokio::spawn(connection);
        client
    }

    /// A client, connected.
    pub(crate) async fn client(&self) -> Rows {
        let client = self.connect().await;
        let prepare = async |query| client.prepare(query).await.expect("a good query");
        let statements =
            [prepare(SUBMIT).await, prepare(LEASE).await, prepare(START).await, prepare(FINISH).await];
        Rows { client, statements, body: "x".repeat(BODY_BYTES) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A fast shutdown: SIGTERM waits for clients.
        self.process.signal(Signal::INT);
    }
}

/// A client.
pub(crate) struct Rows {
    client: tokio_postgres::Client,
    statements: [Statement; 4],
    body: String,
}

impl Client for Rows {
    async fn cycle(&mut self) {
        let [submit, lease, start, finish] = &self.statements;
        self.client.execute(submit, &[&self.body]).await.expect("an insert");
        let n: i64 = loop {
            // What others hold at this moment is skipped, so that none may be found.
            if let Some(row) = self.client.query_opt(lease, &[]).await.expect("a lease") {
                break row.get(0);
            }
        };
        self.client.execute(start, &[&n]).await.expect("a start");
        self.client.execute(finish, &[&n]).await.expect("an end");
    }
}
