//! What the program is told, read as a whole so that every fault is told at once.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser;
use relay::limits::{DEFAULT_IDLE, DEFAULT_MAX_CONNECTIONS};
use relay::{DialAddress, Limits, ListenAddress};

/// What `--listen` says for a socket that the service manager hands over.
const INHERITED: &str = "systemd";

/// Copies bytes between tcp://HOST:PORT, unix:///PATH and vsock://CID:PORT.
///
/// SIGUSR1 writes what it has done to the log; SIGTERM accepts no more and lets connections end for ten seconds.
#[derive(Parser)]
#[command(name = "code-workers-relay", version)]
pub(crate) struct Arguments {
    /// Where to listen: tcp://127.0.0.1:PORT (port 0 takes a free one), unix:///PATH, vsock://any:PORT, or "systemd"
    /// for the socket of a socket unit
    #[arg(long, value_name = "URI")]
    listen: String,
    /// Listen on TCP beyond loopback too: for a container that has a network of its own
    #[arg(long)]
    own_network: bool,
    /// What to dial for every connection
    #[arg(long, value_name = "URI")]
    dial: String,
    /// Connections at once; those beyond wait to be accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_CONNECTIONS.to_string())]
    max_connections: String,
    /// Seconds that a connection may carry nothing in either direction; 0 for no limit. A waiting lease and a thinking
    /// model are silent for minutes: less than an hour may cut them
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_IDLE.as_secs().to_string())]
    idle_timeout: String,
    /// Seconds that a connection may be open, whatever it carries; 0 for no limit
    #[arg(long, value_name = "SECONDS", default_value = "0")]
    max_lifetime: String,
    /// The permissions of a unix socket's file, in octal
    #[arg(long, value_name = "OCTAL", default_value = "0600")]
    mode: String,
    /// End when standard input ends, and so with the parent that holds its other end
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,
}

/// Where connections come from.
pub(crate) enum Source {
    /// An address to listen on, and the permissions of its file if it is a unix socket.
    Address(ListenAddress, u32),
    /// The one socket that was handed over.
    Inherited,
}

/// What to do.
pub(crate) struct Config {
    pub(crate) source: Source,
    pub(crate) dial: DialAddress,
    pub(crate) limits: Limits,
}

/// Collects what is wrong with each argument.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, name: &str, what: impl Display) {
        self.0.push(format!("--{name}: {what}"));
    }

    fn seconds(&mut self, name: &str, text: &str) -> Option<Duration> {
        match text.parse::<u32>() {
            Ok(0) => None,
            Ok(seconds) => Some(Duration::from_secs(u64::from(seconds))),
            Err(_) => {
                self.add(name, format_args!("{text:?} is not a number of seconds; 0 is no limit"));
                None
            }
        }
    }
}

impl Arguments {
    /// The configuration, or all faults.
    pub(crate) fn read(&self) -> Result<Config, Vec<String>> {
        let mut faults = Faults::default();
        let mode = u32::from_str_radix(&self.mode, 8).ok().filter(|mode| *mode <= 0o777);
        if mode.is_none() {
            faults.add("mode", format_args!("{:?} is not an octal mode from 0 to 0777", self.mode));
        }
        let source = if self.listen == INHERITED {
            Some(Source::Inherited)
        } else {
            let parsed = if self.own_network {
                self.listen.parse().map(ListenAddress::on_own_network)
            } else {
                self.listen.parse()
            };
            let parsed = parsed.map_err(|error| faults.add("listen", error)).ok();
            parsed.zip(mode).map(|(address, mode)| Source::Address(address, mode))
        };
        let dial: Result<DialAddress, _> = self.dial.parse();
        let dial = dial.map_err(|error| faults.add("dial", error)).ok();
        if let (Some(Source::Address(listen, _)), Some(dial)) = (&source, &dial)
            && listen.get() == dial.get()
        {
            faults.add("dial", "it is the address to listen on; the relay would dial itself");
        }
        let max_connections: Option<NonZeroUsize> = self.max_connections.parse().ok();
        if max_connections.is_none() {
            faults.add("max-connections", format_args!("{:?} is not a number above 0", self.max_connections));
        }
        let idle = faults.seconds("idle-timeout", &self.idle_timeout);
        let lifetime = faults.seconds("max-lifetime", &self.max_lifetime);
        match (source, dial, max_connections) {
            (Some(source), Some(dial), Some(max_connections)) if faults.0.is_empty() => {
                let limits = Limits { max_connections, idle, lifetime, ..Limits::default() };
                Ok(Config { source, dial, limits })
            }
            _ => Err(faults.0),
        }
    }
}
