//! A credential in a URL reaches the server, and nothing else: against a real HTTP server on loopback.

#![allow(clippy::unwrap_used, reason = "tests' own helpers too")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Place, git, helper};
use repository::Code;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "s3cret-p4ssword";
/// `user:s3cret-p4ssword` in base64.
const AUTHORIZATION: &str = "authorization: basic dxnlcjpzm2nyzxqtcdrzc3dvcmq=";

/// Serves a bare repository's files (git's "dumb" protocol) to whoever knows the password; looks, at each request,
/// for the password where other users could read it.
async fn serve(listener: TcpListener, repository: &Path) {
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        assert_eq!(argument_lists_with(PASSWORD), Vec::<String>::new());
        tokio::spawn(answer(connection, repository.to_owned()));
    }
}

async fn answer(connection: TcpStream, repository: PathBuf) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap().split('?').next().unwrap();
        let file = fs::read(repository.join(path.trim_start_matches("/project/")));
        let (status, body) = if !head.to_lowercase().contains(AUTHORIZATION) {
            ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"", Vec::new())
        } else {
            file.map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body))
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all(answer.as_bytes()).await?;
        connection.write_all(&body).await?;
    }
}

/// The argument lists of this machine's processes that hold `word`; every user can read those.
fn argument_lists_with(word: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|arguments| String::from_utf8_lossy(&arguments).replace('\0', " "))
        .filter(|arguments| arguments.contains(word))
        .collect()
}

#[tokio::test]
async fn a_credential_in_a_url_stands_in_no_mirror_and_no_argument_list() {
    let place = Place::new();
    let served = place.path("served.git");
    git(place.folder.path(), &["clone", "-q", "--bare", place.source(), served.to_str().unwrap()]);
    git(&served, &["update-server-info"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let good = format!("http://user:{PASSWORD}@{address}/project");
    let asked = async {
        let described = helper().describe(&good).await.unwrap();
        assert_eq!(described.source, good);
        assert_eq!(described.shown, format!("http://{address}/project"));
        let refreshed = helper().refresh(&place.mirror, &good).await.unwrap();
        assert_eq!(refreshed.head, Some(common::head(&place.source)));

        for wrong in
            [format!("http://{address}/project"), format!("http://user:{PASSWORD}-not@{address}/project")]
        {
            let refused = helper().refresh(&place.mirror, &wrong).await.unwrap_err();
            assert_eq!(refused.code, Code::SourceDenied, "{refused}");
            assert!(!format!("{refused:?}").contains(PASSWORD));
        }
        let missing = helper().describe(&format!("{good}-not")).await.unwrap_err();
        assert_eq!(missing.code, Code::NotARepository, "{missing}");
    };
    tokio::select! {
        () = asked => {}
        () = serve(listener, &served) => {}
    }
    for entry in fs::read_dir(&place.mirror).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        assert!(!fs::read_to_string(entry.path()).unwrap().contains(PASSWORD), "{:?}", entry.path());
    }
}
