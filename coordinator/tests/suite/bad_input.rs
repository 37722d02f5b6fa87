//! What is wrong is refused with a word for it, and nothing is half done.

use protocol::{Code, Problem, limits, task::TaskFilter};
use serde_json::{Value, json};

use crate::house::{COMMIT, House, KEY, code};

async fn post(house: &House, kind: &str, body: impl Into<reqwest::Body>) -> Problem {
    let request = house.http().post(house.url("/tasks")).bearer_auth(KEY).header("content-type", kind);
    let answer = request.body(body).send().await.unwrap();
    assert!(!answer.status().is_success());
    answer.json().await.unwrap()
}

async fn refused(house: &House, task: Value) -> Problem {
    post(house, "application/json", task.to_string()).await
}

#[tokio::test]
async fn no_wrong_task_gets_in() {
    let house = House::open().await;
    let task = |field: &str, value: Value| {
        let mut task = json!({"queue": "q", "prompt": "x", "base": COMMIT});
        task[field] = value;
        task
    };
    for prompt in ["", " \n", "a\0b"] {
        assert_eq!(refused(&house, task("prompt", prompt.into())).await.code, Code::Invalid);
    }
    let long = "x".repeat(limits::PROMPT_BYTES + 1);
    assert_eq!(refused(&house, task("prompt", long.clone().into())).await.code, Code::TooLarge);
    assert_eq!(refused(&house, task("queue", "nowhere".into())).await.code, Code::UnknownRepository);
    for name in ["a/b", "..", "a b", "", &"x".repeat(200)] {
        assert_eq!(refused(&house, task("queue", name.into())).await.code, Code::Invalid, "{name}");
    }
    assert_eq!(refused(&house, task("id", "lease".into())).await.code, Code::Invalid);
    assert_eq!(refused(&house, task("colour", "red".into())).await.code, Code::BadRequest);
    assert_eq!(refused(&house, task("timeout_s", "soon".into())).await.code, Code::BadRequest);
    assert_eq!(refused(&house, json!("x")).await.code, Code::BadRequest);

    assert_eq!(post(&house, "application/json", "{").await.code, Code::BadRequest);
    assert_eq!(post(&house, "application/json", "").await.code, Code::BadRequest);
    assert_eq!(post(&house, "application/x-www-form-urlencoded", "a=b").await.code, Code::BadRequest);
    assert_eq!(post(&house, "text/plain", "no queue is named").await.code, Code::Invalid);
    let over = vec![b' '; limits::BODY_BYTES + 1];
    assert_eq!(post(&house, "application/json", over).await.code, Code::TooLarge);

    let text = async |query: &str, body: Vec<u8>| {
        let request = house.http().post(house.url(&format!("/tasks?{query}"))).bearer_auth(KEY);
        let answer = request.header("content-type", "text/plain").body(body).send().await.unwrap();
        answer.json::<Problem>().await.unwrap().code
    };
    assert_eq!(text("queue=q", vec![0xff]).await, Code::BadRequest);
    assert_eq!(text("queue=q", long.into_bytes()).await, Code::TooLarge);
    assert_eq!(text("queue=q&priority=first", b"x".to_vec()).await, Code::Invalid);

    assert!(
        house
            .owner
            .tasks(&TaskFilter { queue: Some("q".parse().unwrap()), ..TaskFilter::default() })
            .await
            .unwrap()
            .tasks
            .len()
            == 1
    );
}

#[tokio::test]
async fn a_body_at_its_limit_is_read() {
    let house = House::open().await;
    let mut body = json!({"queue": "q", "prompt": "x", "base": COMMIT}).to_string();
    body.push_str(&" ".repeat(limits::BODY_BYTES - body.len()));
    let request =
        house.http().post(house.url("/tasks")).bearer_auth(KEY).header("content-type", "application/json");
    assert_eq!(request.body(body).send().await.unwrap().status(), 201);
}

#[tokio::test]
async fn a_busy_or_unknown_repository_is_not_removed() {
    let house = House::open().await;
    house.submit(crate::house::named("t")).await;
    assert_eq!(code(house.owner.remove_repo(&"q".parse().unwrap()).await), Code::RepositoryBusy);
    assert_eq!(code(house.owner.remove_repo(&"nowhere".parse().unwrap()).await), Code::UnknownRepository);
    house.owner.cancel(&crate::house::id("t"), &protocol::task::Cancel::default()).await.unwrap();
    house.owner.remove_repo(&"q".parse().unwrap()).await.unwrap();
    let names: Vec<_> = house.owner.repos().await.unwrap().into_iter().map(|repo| repo.name).collect();
    assert_eq!(names, ["other".parse().unwrap()]);
    assert_eq!(house.state("t").await, protocol::TaskState::Cancelled);
}
