//! Recording an API behind TLS, whose certificate an authority of its own has signed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::{path::Path, process::Stdio, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use recorded_model::script::Script;
use serde_json::json;
use support::{Model, events, soon};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// A certificate for `localhost`, its key, and in this file that of the authority.
fn signed(authority: &Path) -> ServerConfig {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(authority, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let ours = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&ours, &issuer).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(ours.serialize_der().into());
    builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
}

/// TLS in front of a model.
async fn tls(config: ServerConfig, model: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let (acceptor, model) = (TlsAcceptor::from(Arc::new(config)), model.replace("http://", ""));
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let Ok(mut plain) = acceptor.accept(connection).await else { continue };
            let mut there = TcpStream::connect(&model).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut plain, &mut there).await });
        }
    });
    url
}

/// The recorder's program, and where it listens.
async fn recorder(file: &Path, upstream: &str, authority: Option<&Path>) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_code-workers-recorded-model"));
    command.args(["--listen", "127.0.0.1:0", "--upstream", upstream, "--record"]).arg(file);
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    command.envs(authority.map(|path| ("SSL_CERT_FILE", path)));
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let line = soon(lines.next_line()).await.unwrap().unwrap();
    let url = format!("http://{}/v1/messages", line.strip_prefix("listening on ").unwrap());
    (child, url)
}

#[tokio::test]
async fn a_conversation_over_tls_is_recorded_with_its_thoughts_and_plays_again() {
    let turns = "[[turn]]\nthinking=\"Shall I?\\nI shall.\"\ntext='one'\nusage={input=5,output=6}";
    let model = Model::start(turns).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, authority) = (folder.path().join("recorded.toml"), folder.path().join("authority.pem"));
    let upstream = tls(signed(&authority), &model.url).await;
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let ask = async |url: &str| soon(reqwest::Client::new().post(url).json(&body).send()).await.unwrap();

    let (_recorder, url) = recorder(&file, &upstream, Some(&authority)).await;
    let passed = events(&soon(ask(&url).await.text()).await.unwrap());
    assert_eq!(passed, model.events("/v1/messages", &body).await);
    let text = std::fs::read_to_string(&file).unwrap();
    let recorded = Script::from_toml(&text).unwrap();
    assert_eq!(recorded.turn(0).unwrap().thinking, "Shall I?\nI shall.", "{text}");
    assert_eq!(Model::start(&text).await.events("/v1/messages", &body).await, passed);

    // Nobody whom the system does not trust is told anything.
    let (_recorder, url) = recorder(&folder.path().join("other.toml"), &upstream, None).await;
    let refused = ask(&url).await;
    assert_eq!(refused.status(), 502);
    assert!(refused.text().await.unwrap().contains("certificate"));
}
