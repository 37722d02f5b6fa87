//! Several upstreams: the next one is tried only when nothing has been sent to the one before.

use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::house::{Gateway, House, Piece, REAL_KEY, RawModel, soon};

const OTHER_KEY: &str = "sk-other-0123456789";
const ANSWER: &str = r#"{"usage":{"input_tokens":1000,"output_tokens":100}}"#;

/// A gateway whose first upstream is this, and the second that model.
async fn between(first: &str, second: &str, more: &str) -> (House, Gateway) {
    let mut house = House::before(first);
    let file = house.folder.path().join("other-key");
    std::fs::write(&file, OTHER_KEY).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    house.config =
        format!("[[upstream.anthropic.more]]\nbase_url = {second:?}\napi_key_file = {file:?}\n{more}\n");
    let gateway = house.open().await;
    (house, gateway)
}

/// An address where nobody listens.
async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("127.0.0.1:{}", listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn another_is_tried_when_one_cannot_be_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_tls = format!("https://{}", listener.local_addr().unwrap());
    let hanging_up = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            // Not TLS.
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        }
    });
    for first in [format!("http://{}", nowhere().await), no_tls] {
        for (more, header) in [("", "x-api-key: "), ("bearer = true", "authorization: bearer ")] {
            let mut model = RawModel::start(vec![Piece::answer("200 OK", "", ANSWER)]).await;
            let (_house, gateway) = between(&first, &model.url, more).await;
            let key = gateway.mint("t", "1.00").await;
            assert_eq!(gateway.ask(&key, 500, false).await.status(), 200, "{first}");
            let (head, _) = soon(model.asked.recv()).await.unwrap();
            assert!(head.to_ascii_lowercase().contains(&format!("{header}{OTHER_KEY}")), "{head}");
            assert!(!head.contains(REAL_KEY), "{head}");
            assert_eq!(gateway.spent("t").await, "0.0015");
        }
    }
    hanging_up.abort();
}

#[tokio::test]
async fn no_other_is_tried_once_something_was_sent() {
    for (answer, status) in [(Piece::answer("500 Oh", "", "{}"), 500), (Piece::say(""), 502)] {
        let (first, second) = (RawModel::start(vec![answer]).await, RawModel::start(vec![]).await);
        let (_house, gateway) = between(&first.url, &second.url, "").await;
        let key = gateway.mint("t", "1.00").await;
        assert_eq!(gateway.ask(&key, 500, false).await.status(), status);
        assert_eq!((*first.count.lock().unwrap(), *second.count.lock().unwrap()), (1, 0));
    }
}

#[tokio::test]
async fn where_none_can_be_reached_nothing_is_charged() {
    let (first, second) = (nowhere().await, nowhere().await);
    let (_house, gateway) = between(&format!("http://{first}"), &format!("http://{second}"), "").await;
    let key = gateway.mint("t", "1.00").await;
    let answer = gateway.ask(&key, 500, true).await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains(&second));
    assert_eq!(gateway.settled(&key).await, "0.00");
}

#[tokio::test]
async fn the_key_of_the_second_is_taken_out_of_what_it_says() {
    let echo = format!(r#"{{"error":"{OTHER_KEY}"}}"#);
    for piece in [
        vec![Piece::answer("400 No", &format!("request-id: {OTHER_KEY}\r\n"), &echo)],
        vec![Piece::stream(), Piece::say(format!("data: {OTHER_KEY}\n\n"))],
    ] {
        let model = RawModel::start(piece).await;
        let (_house, gateway) = between(&format!("http://{}", nowhere().await), &model.url, "").await;
        let key = gateway.mint("t", "1.00").await;
        let answer = gateway.ask(&key, 500, true).await;
        assert!(!format!("{:?}", answer.headers()).contains(OTHER_KEY));
        assert!(!soon(answer.text()).await.unwrap().contains(OTHER_KEY));
    }
}
