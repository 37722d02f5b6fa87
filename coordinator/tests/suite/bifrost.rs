//! Keys of another gateway: a stand-in that answers as Bifrost's documentation and source say, and none at all.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::{get, put},
};
use protocol::{Code, TaskState, report::Outcome, worker::WorkerEnd};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::house::{House, agent, code, report, until};

/// `admin:secret`
const AUTH: &str = "Basic YWRtaW46c2VjcmV0";

type Keys = Arc<Mutex<Vec<Value>>>;

/// A stand-in on a port of its own, and the keys that it keeps.
struct Bifrost {
    keys: Keys,
    url: String,
}

impl Bifrost {
    async fn start() -> Self {
        let keys = Keys::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/api/governance/virtual-keys", get(list).post(create))
            .route("/api/governance/virtual-keys/{id}", put(update))
            .with_state(keys.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { keys, url }
    }

    async fn house(&self, password: &str) -> House {
        let file =
            format!("key_source = 'bifrost'\n[bifrost]\nurl = '{}'\nproviders = ['anthropic']", self.url);
        House::open_configured(file, "BIFROST_PASSWORD", password).await
    }

    fn key(&self, at: usize) -> Value {
        self.keys.lock().unwrap()[at].clone()
    }

    fn change(&self, at: usize, change: impl FnOnce(&mut Value)) {
        change(&mut self.keys.lock().unwrap()[at]);
    }

    fn active(&self) -> Vec<bool> {
        self.keys.lock().unwrap().iter().map(|key| key["is_active"] == true).collect()
    }
}

type Answer = Result<Json<Value>, StatusCode>;

fn allowed(headers: &HeaderMap) -> Result<(), StatusCode> {
    let right = headers.get("authorization").is_some_and(|value| value == AUTH);
    if right { Ok(()) } else { Err(StatusCode::UNAUTHORIZED) }
}

async fn list(State(keys): State<Keys>, headers: HeaderMap, Query(query): Query<Value>) -> Answer {
    allowed(&headers)?;
    let search = query["search"].as_str().unwrap_or_default();
    let fits = |key: &&Value| key["name"].as_str().unwrap().contains(search);
    let found: Vec<_> = keys.lock().unwrap().iter().filter(fits).cloned().collect();
    Ok(Json(json!({"virtual_keys": found, "count": found.len()})))
}

async fn create(State(keys): State<Keys>, headers: HeaderMap, Json(mut key): Json<Value>) -> Answer {
    allowed(&headers)?;
    let mut keys = keys.lock().unwrap();
    if keys.iter().any(|other| other["name"] == key["name"]) {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    key["id"] = format!("id-{}", keys.len()).into();
    key["value"] = format!("sk-bf-{}", keys.len()).into();
    key["budgets"][0]["current_usage"] = 0.0.into();
    keys.push(key.clone());
    Ok(Json(json!({"message": "Virtual key created successfully", "virtual_key": key})))
}

async fn update(
    State(keys): State<Keys>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Json(change): Json<Value>,
) -> Answer {
    allowed(&headers)?;
    let mut keys = keys.lock().unwrap();
    let key = keys.iter_mut().find(|key| key["id"] == id.as_str()).ok_or(StatusCode::NOT_FOUND)?;
    key["is_active"] = change["is_active"].clone();
    Ok(Json(json!({"virtual_key": key})))
}

#[tokio::test]
async fn an_attempt_has_a_key_of_bifrosts_until_it_ends() {
    let bifrost = Bifrost::start().await;
    let house = bifrost.house("secret").await;
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    let started = lease.start().await.unwrap();
    assert_eq!(started.virtual_key.as_ref().unwrap().expose(), "sk-bf-0");
    assert!(started.provider_paths);
    assert_eq!(lease.start().await.unwrap().virtual_key, started.virtual_key, "the same again");
    let key = bifrost.key(0);
    assert!(key["name"].as_str().unwrap().ends_with("/t/1"), "{key}");
    assert_eq!((&key["budgets"][0]["max_limit"], &key["is_active"]), (&5.0.into(), &true.into()));
    let provider = &key["provider_configs"][0];
    assert_eq!((&provider["provider"], &provider["allowed_models"]), (&"anthropic".into(), &json!(["*"])));
    assert!(key["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > jiff::Timestamp::now());

    bifrost.change(0, |key| key["budgets"][0]["current_usage"] = 1.25.into());
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(bifrost.active(), [false]);
    assert_eq!(house.task("t").await.usage.unwrap().spent_usd.to_string(), "1.25");
}

#[tokio::test]
async fn a_later_attempt_has_what_is_left_and_a_lost_ones_key_is_swept() {
    let bifrost = Bifrost::start().await;
    let house = bifrost.house("secret").await;
    house.submit(agent("t")).await;
    let first = house.worker("q").await;
    first.with(&first.lease().await.unwrap()).start().await.unwrap();
    bifrost.change(0, |key| key["budgets"][0]["current_usage"] = 1.5.into());
    let end = WorkerEnd { exit: None, reason: "oom".to_owned() };
    house.owner.end_worker(&first.id, &end).await.unwrap();
    until(|| bifrost.active() == [false]).await;
    let second = house.worker("q").await;
    let leased = second.lease_by(uuid::Uuid::new_v4(), 15).await.unwrap().unwrap();
    second.with(&leased).start().await.unwrap();
    assert_eq!(bifrost.key(1)["budgets"][0]["max_limit"], 3.5);
}

#[tokio::test]
async fn keys_that_nobody_has_are_swept_and_those_of_others_are_not() {
    let bifrost = Bifrost::start().await;
    let mut house = bifrost.house("secret").await;
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    worker.with(&worker.lease().await.unwrap()).start().await.unwrap();
    house.stop().await;
    let running = bifrost.key(0);
    let name = running["name"].as_str().unwrap();
    for (id, name) in
        [("id-1", name.replace("/t/1", "/unheard-of/1")), ("id-2", "code-workers-other/x/1".into())]
    {
        let mut key = running.clone();
        (key["id"], key["name"]) = (id.into(), name.into());
        bifrost.keys.lock().unwrap().push(key);
    }
    let _house = house.restart().await;
    until(|| bifrost.active() == [true, false, true]).await;
}

#[tokio::test]
async fn without_a_key_the_task_goes_back_and_says_why() {
    let bifrost = Bifrost::start().await;
    let wrong = bifrost.house("wrong").await;
    let env = House::open_with("CODE_WORKERS_KEY_SOURCE", "env").await;
    for (house, why, reason) in
        [(wrong, "BIFROST_PASSWORD", "gateway_unavailable"), (env, "OPENCODE_API_KEY", "worker_has_no_key")]
    {
        house.submit(agent("t")).await;
        let worker = house.worker("q").await;
        let refused = worker.with(&worker.lease().await.unwrap()).start().await;
        assert!(refused.as_ref().unwrap_err().to_string().contains(why), "{refused:?}");
        assert_eq!(code(refused), Code::GatewayUnavailable);
        let task = house.task("t").await;
        assert_eq!((task.state, task.reason.as_deref()), (TaskState::Ready, Some(reason)));
    }
}

#[tokio::test]
async fn a_worker_that_brings_its_key_runs_and_ends_with_no_gateway_at_all() {
    let house = House::open_with("CODE_WORKERS_KEY_SOURCE", "env").await;
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    let started = lease.start_with_own_key().await.unwrap();
    assert_eq!((started.virtual_key, started.provider_paths), (None, false));
    assert_eq!(lease.result(&report(Outcome::Succeeded)).await.unwrap().state, TaskState::Succeeded);
}
