//! Who may pass which door, and what is said to the others.

use protocol::{Code, Problem, headers, limits};
use reqwest::{Method, RequestBuilder, Response};

use crate::house::{House, KEY, named, queue};

async fn problem(request: RequestBuilder) -> Problem {
    of(request.send().await.unwrap()).await
}

async fn of(response: Response) -> Problem {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(status.as_u16(), problem.status);
    assert_eq!(problem.status, problem.code.status());
    problem
}

#[tokio::test]
async fn every_route_of_the_owner_wants_the_owners_key() {
    let house = House::open().await;
    let worker = house.worker("q").await;
    let routes = [
        (Method::POST, "/tasks"),
        (Method::GET, "/tasks"),
        (Method::GET, "/tasks/t"),
        (Method::POST, "/tasks/t/cancel"),
        (Method::GET, "/tasks/t/events"),
        (Method::GET, "/tasks/t/artifacts/log"),
        (Method::POST, "/repos"),
        (Method::GET, "/repos"),
        (Method::DELETE, "/repos/q"),
        (Method::POST, "/workers"),
        (Method::POST, "/workers/w/end"),
        (Method::GET, "/nowhere"),
    ];
    for (method, path) in routes {
        let request = || house.http().request(method.clone(), house.url(path));
        assert_eq!(problem(request()).await.code, Code::NoKey, "{path}");
        assert_eq!(problem(request().bearer_auth("")).await.code, Code::NoKey, "{path}");
        for wrong in ["x", &KEY[1..], worker.token.expose()] {
            assert_eq!(problem(request().bearer_auth(wrong)).await.code, Code::WrongKey, "{path}");
        }
    }
    let request = house.http().get(house.url("/tasks"));
    assert_eq!(request.header(headers::API_KEY, KEY).send().await.unwrap().status(), 200);
    let health = house.http().get(house.url("/health")).send().await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    assert_eq!(health["protocol"], 1);
}

#[tokio::test]
async fn the_workers_door_serves_the_workers_verbs_to_workers() {
    let house = House::open().await;
    let worker = house.worker("q").await;
    let other = house.worker("other").await;
    house.submit(named("t")).await;
    let request_id = uuid::Uuid::new_v4();
    let lease = |name: &str| house.door().get(format!("http://x/tasks/lease/{name}?request_id={request_id}"));
    assert_eq!(problem(lease("q")).await.code, Code::NoKey);
    assert_eq!(problem(lease("q").bearer_auth(KEY)).await.code, Code::WrongKey);
    let forged = format!("cwt-{}-{}", worker.id, "0".repeat(64));
    assert_eq!(problem(lease("q").bearer_auth(forged)).await.code, Code::WrongKey);
    assert_eq!(problem(lease("other").bearer_auth(worker.token.expose())).await.code, Code::WrongQueue);
    let of_other = house.door().post("http://x/tasks/t/start").bearer_auth(other.token.expose());
    let of_other = of_other.header(headers::LEASE, "cwl-1-00").header(headers::ATTEMPT, 1);
    assert_eq!(problem(of_other).await.code, Code::WrongQueue);

    let old = lease("q").bearer_auth(worker.token.expose()).header(headers::PROTOCOL, "0");
    assert_eq!(problem(old).await.code, Code::WrongProtocol);
    let unnamed = house.door_of_strangers().build().unwrap();
    let unnamed = unnamed.get(format!("http://x/tasks/lease/q?request_id={request_id}"));
    assert_eq!(problem(unnamed.bearer_auth(worker.token.expose())).await.code, Code::WrongProtocol);
    let ours = lease("q").bearer_auth(worker.token.expose()).header(headers::PROTOCOL, "1");
    assert_eq!(ours.send().await.unwrap().status(), 200);

    for path in ["/health", "/tasks", "/tasks/t", "/tasks/t/cancel", "/repos", "/workers", "/metrics", "/"] {
        for method in [Method::GET, Method::POST] {
            let request = house.door().request(method, format!("http://x{path}"));
            let code = problem(request.bearer_auth(worker.token.expose())).await.code;
            assert_eq!(code, Code::NotFound, "{path}");
        }
    }
    let follow = house.door().get("http://x/tasks/t/events").bearer_auth(worker.token.expose());
    assert_eq!(problem(follow).await.code, Code::MethodNotAllowed);
}

#[tokio::test]
async fn an_ended_workers_token_opens_nothing() {
    let house = House::open().await;
    let worker = house.worker("q").await;
    assert!(worker.lease().await.is_none());
    let end = protocol::worker::WorkerEnd { exit: Some(0), reason: "exited".to_owned() };
    house.owner.end_worker(&worker.id, &end).await.unwrap();
    house.owner.end_worker(&worker.id, &end).await.unwrap();
    let lease = worker.lease_by(uuid::Uuid::new_v4(), 0).await;
    assert_eq!(crate::house::code(lease), Code::WrongKey);
    let lease =
        protocol::inside::HeldLease { task: crate::house::id("t"), token: "x".parse().unwrap(), attempt: 1 };
    assert_eq!(crate::house::code(worker.client.with_lease(lease).start().await), Code::WrongKey);
    let unknown = house.owner.end_worker(&"w-none".parse().unwrap(), &end).await;
    assert_eq!(crate::house::code(unknown), Code::UnknownWorker);
    let new = protocol::worker::NewWorker { queue: queue("nowhere"), name: "x".to_owned() };
    assert_eq!(crate::house::code(house.owner.register_worker(&new).await), Code::UnknownRepository);
}

#[tokio::test]
async fn a_page_of_another_site_gets_nothing() {
    let house = House::open().await;
    let request = || house.http().get(house.url("/tasks")).bearer_auth(KEY);
    let port = house.address.port();
    for host in ["evil.example", "127.0.0.1.evil.example", &format!("evil.example:{port}")] {
        assert_eq!(problem(request().header("host", host)).await.code, Code::ForeignOrigin, "{host}");
    }
    for origin in ["null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1"] {
        assert_eq!(problem(request().header("origin", origin)).await.code, Code::ForeignOrigin, "{origin}");
    }
    let own = format!("127.0.0.1:{port}");
    assert_eq!(request().header("origin", format!("http://{own}")).send().await.unwrap().status(), 200);
    let health = house.http().get(house.url("/health")).header("host", "evil.example");
    assert_eq!(problem(health).await.code, Code::ForeignOrigin);
}

#[tokio::test]
async fn every_fault_is_a_problem_document_and_every_answer_has_the_requests_id() {
    let house = House::open().await;
    let get = |path: &str| house.http().get(house.url(path)).bearer_auth(KEY);
    assert_eq!(problem(get("/nowhere")).await.code, Code::NotFound);
    assert_eq!(problem(get("/tasks/%ff")).await.code, Code::Invalid);
    assert_eq!(problem(get("/tasks/-x")).await.code, Code::Invalid);
    assert_eq!(problem(get("/tasks?limit=x")).await.code, Code::Invalid);
    assert_eq!(problem(get("/tasks?colour=red")).await.code, Code::Invalid);
    let put = house.http().put(house.url("/tasks")).bearer_auth(KEY);
    assert_eq!(problem(put).await.code, Code::MethodNotAllowed);
    let answer = get("/nowhere").header(headers::REQUEST_ID, "my-id.1").send().await.unwrap();
    assert_eq!(answer.headers()[headers::REQUEST_ID], "my-id.1");
    let answer = get("/tasks").header(headers::REQUEST_ID, "a b").send().await.unwrap();
    let made = answer.headers()[headers::REQUEST_ID].to_str().unwrap();
    assert!(uuid::Uuid::parse_str(made).is_ok(), "{made}");
}

#[tokio::test]
async fn headers_have_a_limit() {
    let house = House::open().await;
    let with = |size: usize| house.http().get(house.url("/health")).header("x-long", "x".repeat(size));
    assert_eq!(with(limits::HEADER_BYTES - 1_000).send().await.unwrap().status(), 200);
    assert_eq!(problem(with(limits::HEADER_BYTES)).await.code, Code::TooLarge);
}
