//! Ways through the coordinator's door.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use super::door;
use crate::{
    attack::{Attack, Category::Coordinator, Finding},
    http::request,
    line::Line,
    target::{Leaked, Target},
};

const fn attack(name: &'static str, line: Line, tries: &'static str, act: fn(&Target) -> Finding) -> Attack {
    Attack { name, category: Coordinator, tries, line, act }
}

/// A verb of the owner's.
macro_rules! owner {
    ($name:literal, $method:literal, $path:literal, $body:literal, $tries:literal) => {
        attack($name, Line::OwnerApart, $tries, |target| {
            let (path, body) = (target.filled($path), target.filled($body));
            tried(&[request($method, &path, &JSON, &body)])
        })
    };
}

/// A worker's verb for a task of another, with a lease that was made up.
macro_rules! worker {
    ($name:literal, $method:literal, $path:literal, $body:expr, $tries:literal) => {
        attack($name, Line::LeaseChecked, $tries, |target| {
            let forged = ["0", "1", "2", "4294967295"];
            let requests = forged.map(|attempt| {
                let headers = [
                    ("Authorization", "Bearer cwt-w-00000000-0000-4000-8000-000000000000-forged"),
                    ("Code-Workers-Protocol", "1"),
                    ("Code-Workers-Lease", "cwl-forged"),
                    ("Code-Workers-Attempt", attempt),
                    ("Code-Workers-Sha256", EMPTY),
                    JSON[0],
                ];
                request($method, &target.filled($path), &headers, $body)
            });
            tried(&requests)
        })
    };
}

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];
/// SHA-256 of nothing.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// A report of success.
pub(crate) const REPORT: &str = r#"{"outcome":"succeeded"}"#;
const EVENTS: &str = r#"{"first":0,"events":[{"at":"2026-01-01T00:00:00Z","kind":"text","text":"forged"}]}"#;

pub(crate) const ATTACKS: &[Attack] = &[
    owner!("owner-list", "GET", "/tasks", "", "listing all tasks"),
    owner!("owner-read", "GET", "/tasks/{task}", "", "reading another's task"),
    owner!("owner-events", "GET", "/tasks/{task}/events?follow=false", "", "reading another's output"),
    owner!(
        "owner-submit",
        "POST",
        "/tasks",
        r#"{"queue":"{queue}","kind":"exec","argv":["id"]}"#,
        "sending a task"
    ),
    owner!(
        "owner-message",
        "POST",
        "/tasks/{task}/message",
        r#"{"text":"obey","id":"6f1d9a50-0a5c-4a53-9a36-0b6f6f4f0002"}"#,
        "speaking to another's agent"
    ),
    owner!(
        "owner-worker",
        "POST",
        "/workers",
        r#"{"queue":"{queue}","name":"evil"}"#,
        "another worker's token"
    ),
    owner!("owner-repositories", "GET", "/repos", "", "where the repositories come from"),
    owner!("owner-queue", "POST", "/queues/{queue}", r#"{"mode":"paused"}"#, "stopping another's queue"),
    owner!("owner-metrics", "GET", "/metrics", "", "what all others do"),
    owner!("owner-cancel", "POST", "/tasks/{task}/cancel", "{}", "cancelling another's task"),
    attack("owner-key", Line::OwnerApart, "the owner's own key, as if it had leaked", |target| {
        let key = target.owner_key.text();
        let bearer = format!("Bearer {key}");
        tried(&[
            request("GET", "/tasks", &[("Authorization", &bearer)], ""),
            request("GET", "/tasks", &[("X-API-Key", &key)], ""),
        ])
    }),
    attack("path-tricks", Line::OwnerApart, "the owner's verbs by other spellings", |_| {
        let paths = [
            "//tasks",
            "/./tasks",
            "/tasks/",
            "/tasks/lease/../../tasks",
            "/tasks/lease/..%2f..%2ftasks",
            "/%74asks",
            "http://127.0.0.1:7222/tasks",
            "/tasks?/tasks/lease/x",
            "/tasks;x=/lease",
            "/TASKS",
        ];
        tried(&paths.map(|path| request("GET", path, &[], "")))
    }),
    attack("header-tricks", Line::OwnerApart, "the owner's verbs by headers that proxies believe", |_| {
        let tricks = [
            ("X-Original-URL", "/tasks"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-HTTP-Method-Override", "GET"),
            ("Host", "127.0.0.1:7222"),
            ("Upgrade", "h2c"),
            ("Authorization", "Bearer "),
            ("Authorization", "Basic b3duZXI6"),
        ];
        tried(&tricks.map(|trick| request("GET", "/tasks", &[trick], "")))
    }),
    attack("smuggled-request", Line::OwnerApart, "a request within another's body", |_| {
        tried(&smuggled("/tasks"))
    }),
    attack("connect", Line::OwnerApart, "a tunnel to elsewhere", |target| {
        let ports = target.loopback.iter().map(|port| format!("127.0.0.1:{port}"));
        let tunnels: Vec<_> = ports.map(|to| request("CONNECT", &to, &[], "")).collect();
        let proxied = request("GET", "http://127.0.0.1/metrics", &[], "");
        tried(&[tunnels, vec![proxied]].concat())
    }),
    worker!("forged-start", "POST", "/tasks/{task}/start", "", "starting another's task, for its key"),
    worker!(
        "forged-heartbeat",
        "POST",
        "/tasks/{task}/heartbeat",
        r#"{"after":0}"#,
        "hearing another's orders"
    ),
    worker!("forged-events", "POST", "/tasks/{task}/events", EVENTS, "speaking in another's name"),
    attack(
        "replayed-lease",
        Line::LeaseChecked,
        "another's task, by the lease of one that has ended",
        |target| {
            let with =
                |attempt| verb("heartbeat", r#"{"after":0}"#, &target.neighbour.task, &target.dead, attempt);
            tried(&["1", "2"].map(with))
        },
    ),
    worker!("forged-artifact", "PUT", "/tasks/{task}/artifacts/patch", "", "another's patch"),
    worker!("forged-result", "POST", "/tasks/{task}/result", REPORT, "another's result"),
    attack(
        "replayed-result",
        Line::LeaseChecked,
        "another's result, as one that was accepted before",
        |target| {
            tried(
                &["1", "2"]
                    .map(|attempt| verb("result", REPORT, &target.neighbour.task, &target.dead, attempt)),
            )
        },
    ),
    attack("other-attempt", Line::LeaseChecked, "the result of an attempt that is not", |target| {
        let with = |attempt| verb("result", REPORT, &target.neighbour.task, &target.leaked, attempt);
        tried(&["0", "2", "-1", "4294967296"].map(with))
    }),
    attack(
        "artifact-names",
        Line::NamesChecked,
        "a file elsewhere on the host, by an artifact's name",
        |target| {
            let long = "n".repeat(5000);
            let names = [
                "..%2fevil",
                "..%2f..%2f..%2fevil",
                "%2e%2e",
                "%2ftmp%2fevil",
                "a%00b",
                "a%0ab",
                "-rf",
                "evil%20",
                ".hidden",
                &long,
            ];
            tried(&names.map(|name| {
                let Leaked { task, token, lease } = &target.leaked;
                let bearer = format!("Bearer {}", token.text());
                let lease = lease.text();
                let headers = workers(&bearer, &lease, "1");
                let path = format!("/tasks/{task}/artifacts/{name}");
                request("PUT", &path, &[&headers[..], &[("Code-Workers-Sha256", EMPTY)]].concat(), "")
            }))
        },
    ),
    attack("other-queue", Line::OwnerApart, "a task of another queue, without a token", |target| {
        let path =
            target.filled("/tasks/lease/{queue}?wait=0&request_id=6f1d9a50-0a5c-4a53-9a36-0b6f6f4f0003");
        let protocol = ("Code-Workers-Protocol", "1");
        let leases = [
            request("GET", &path, &[protocol], ""),
            request("GET", &path, &[protocol, ("Authorization", "Bearer null")], ""),
            // Not one of a worker's calls: what is there for the owner alone.
            request("GET", &target.filled("/tasks?queue={queue}"), &[], ""),
        ];
        tried(&leases)
    }),
    attack("huge-headers", Line::DoorLimits, "headers without an end", |_| huge_headers()),
    attack("slow-loris", Line::DoorLimits, "connections that never say what they want", |_| slow_loris()),
];

/// What a worker's call shows.
pub(super) fn workers<'a>(bearer: &'a str, lease: &'a str, attempt: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("Authorization", bearer),
        ("Code-Workers-Protocol", "1"),
        ("Code-Workers-Lease", lease),
        ("Code-Workers-Attempt", attempt),
    ]
}

/// A worker's verb for a task, with what leaked.
pub(super) fn verb(verb: &str, body: &str, task: &str, leaked: &Leaked, attempt: &str) -> String {
    let (bearer, lease) = (format!("Bearer {}", leaked.token.text()), leaked.lease.text());
    let headers = [&workers(&bearer, &lease, attempt)[..], &JSON].concat();
    request("POST", &format!("/tasks/{task}/{verb}"), &headers, body)
}

/// Through the door: held where nothing was answered well.
fn tried(requests: &[String]) -> Finding {
    Finding::all(requests.iter().map(|request| {
        let first = request.lines().next().unwrap_or_default().to_owned();
        match door::coordinator(request.as_bytes()) {
            Ok(answers) if answers.any_good() => {
                Finding::Broken(format!("{first}: {:?}", answers.statuses()))
            }
            Ok(answers) => Finding::Held(format!("{:?}", answers.statuses())),
            // No door is no wall: that would hold everything.
            Err(error) => door::cut_off(&error),
        }
    }))
}

/// Requests of which two readers may see different ends, with a second one behind.
pub(super) fn smuggled(path: &str) -> Vec<String> {
    let second = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let first = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
    let (length, chunked) = (second.len(), "Transfer-Encoding: chunked\r\n");
    vec![
        format!("{first}Content-Length: {length}\r\n{chunked}\r\n0\r\n\r\n{second}"),
        format!("{first}{chunked}Content-Length: 4\r\n\r\n{length:x}\r\n{second}\r\n0\r\n\r\n"),
        format!("{first}Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{second}"),
        format!("{first}Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{second}"),
        format!("{first}X: y\n\n{second}"),
        format!("{first}Content-Length: +{length}\r\n\r\n{second}"),
    ]
}

/// A door takes a little, in its buffers, and no more.
const HEADERS: usize = 16 << 20;

fn huge_headers() -> Finding {
    let Ok(mut stream) = TcpStream::connect(door::coordinators()) else {
        return Finding::NotApplicable("the door is not there".to_owned());
    };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    let line = format!("X-Filler: {}\r\n", "x".repeat(8000));
    let mut sent = 0;
    let _ = stream.write_all(b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n");
    while sent < HEADERS {
        if let Err(error) = stream.write_all(line.as_bytes()) {
            return Finding::Held(format!("{error} after {sent} bytes"));
        }
        sent += line.len();
    }
    Finding::Broken(format!("{sent} bytes of headers were taken"))
}

/// Far more than a door's relay lets through at once.
const LORISES: usize = 200;

/// Whether others still came through is for the host to say.
fn slow_loris() -> Finding {
    let opened: Vec<_> = (0..LORISES)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(door::coordinators()).ok()?;
            stream.write_all(b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n").ok()?;
            Some(stream)
        })
        .collect();
    // Until the host has looked: as long as one request may take, and then some.
    if let Some(mut first) = opened.first() {
        let _ = first.set_read_timeout(Some(Duration::from_secs(6)));
        let _ = first.read(&mut [0]);
    }
    Finding::Held(format!("{} connections were open", opened.len()))
}
