//! A task's way through, over the real doors.

use std::time::Duration;

use crate::house::{COMMIT, House, KEY, agent, code, exec, id, named, queue, report, soon};
use protocol::{
    Code, Task, TaskState, limits,
    report::Outcome,
    submit::NewTask,
    task::{Priority, TaskFilter},
};

#[tokio::test]
async fn an_exec_task_comes_back() {
    let house = House::open().await;
    let task = house.submit(named("t")).await;
    assert_eq!((task.state, task.attempt), (TaskState::Ready, 0));
    assert_eq!(task.branch, "code-workers/t");
    let worker = house.worker("q").await;
    let leased = worker.lease().await.unwrap();
    assert_eq!(leased.task.base_commit, COMMIT);
    assert_eq!((leased.task.branch.as_str(), leased.lease.attempt), ("code-workers/t", 1));
    assert_eq!(house.state("t").await, TaskState::Leased);
    let lease = worker.with(&leased);
    let started = lease.start().await.unwrap();
    assert_eq!(started.virtual_key, None);
    assert_eq!(house.state("t").await, TaskState::Running);
    let accepted = lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(accepted.state, TaskState::Succeeded);
    let task = house.task("t").await;
    assert_eq!((task.state, task.attempt), (TaskState::Succeeded, 1));
    assert_eq!(task.result, Some(report(Outcome::Succeeded)));
    assert_eq!(task.worker, Some(worker.id.clone()));
    assert!(task.started_at.is_some() && task.finished_at >= task.started_at);
    assert!(worker.lease().await.is_none());
}

#[tokio::test]
async fn who_waits_is_answered_when_the_task_ends() {
    let house = House::open().await;
    let worker = house.worker("q").await;
    let owner = house.owner.clone();
    let waiting = tokio::spawn(async move { owner.submit(&exec("q"), Duration::from_secs(50)).await });
    // The long-poll is answered by the submission that comes while it waits, or has come before.
    let leased = worker.lease_by(uuid::Uuid::new_v4(), 20).await.unwrap().unwrap();
    let lease = worker.with(&leased);
    lease.start().await.unwrap();
    lease.result(&report(Outcome::Failed)).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap().state, TaskState::Failed);
}

#[tokio::test]
async fn the_same_id_is_one_task() {
    let house = House::open().await;
    let post = |task: NewTask| house.http().post(house.url("/tasks")).bearer_auth(KEY).json(&task).send();
    assert_eq!(post(named("t")).await.unwrap().status(), 201);
    assert_eq!(post(named("t")).await.unwrap().status(), 200);
    let other = NewTask { priority: Priority::Low, ..named("t") };
    let refused = post(other.clone()).await.unwrap();
    assert_eq!(refused.status(), 409);
    let problem: protocol::Problem = refused.json().await.unwrap();
    assert_eq!((problem.code, problem.state), (Code::TaskIdTaken, Some(TaskState::Ready)));
    let page = house.owner.tasks(&TaskFilter { queue: Some(queue("q")), ..TaskFilter::default() }).await;
    assert_eq!(page.unwrap().tasks.len(), 2, "the seed and the one task");
}

#[tokio::test]
async fn many_tasks_come_in_together_or_not_at_all() {
    let house = House::open().await;
    let post =
        |tasks: Vec<NewTask>| house.http().post(house.url("/tasks")).bearer_auth(KEY).json(&tasks).send();
    let names: Vec<String> = (0..1_000).map(|n| format!("t{n}")).collect();
    let answer = post(names.iter().map(|name| named(name)).collect()).await.unwrap();
    assert_eq!(answer.status(), 201);
    let tasks: Vec<Task> = answer.json().await.unwrap();
    assert!(tasks.iter().map(|task| task.id.as_str()).eq(names.iter().map(String::as_str)));
    let page = house.owner.tasks(&TaskFilter { limit: Some(1_000), ..TaskFilter::default() }).await.unwrap();
    assert_eq!(page.tasks.len(), usize::try_from(limits::PAGE_ROWS).unwrap());

    let answer = post(vec![named("new"), exec("nowhere")]).await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(code(house.owner.task(&id("new"), Duration::ZERO).await), Code::UnknownTask);
    for wrong in [vec![], vec![exec("q"); 1_001]] {
        assert!(post(wrong).await.unwrap().status().is_client_error());
    }
    let answer = post(vec![named("fine"), NewTask::default()]).await.unwrap();
    assert!(answer.text().await.unwrap().contains("task 1: "));
}

#[tokio::test]
async fn a_shell_needs_no_json() {
    let house = House::open().await;
    let prompt = "it's \"x\" $HOME \\ \n\t é 漢";
    let url = house.url(&format!("/tasks?queue=q&id=t&base={COMMIT}&timeout_s=60&budget_usd=1.5"));
    let request = house.http().post(url).bearer_auth(KEY).header("accept", "text/plain");
    let answer = request.header("content-type", "text/plain").body(prompt).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let text = answer.text().await.unwrap();
    assert_eq!(
        text,
        format!("state: ready\nid: t\nqueue: q\nattempt: 0\nbranch: code-workers/t\nbase: {COMMIT}\n\n")
    );
    let task = house.task("t").await;
    assert_eq!(serde_json::to_value(&task.work).unwrap()["prompt"], prompt);
    assert_eq!((task.timeout_s, task.budget_usd.unwrap().to_string()), (60, "1.50".to_owned()));

    let get =
        |path: &str| house.http().get(house.url(path)).bearer_auth(KEY).header("accept", "text/plain").send();
    let answer = get("/tasks/none").await.unwrap();
    assert_eq!(answer.status(), 404);
    let text = answer.text().await.unwrap();
    assert!(
        text.starts_with("error: there is no task none") && text.contains("\ncode: unknown_task\n"),
        "{text}"
    );
    assert_eq!(get("/tasks?limit=1").await.unwrap().text().await.unwrap(), "ready t q\n");
}

#[tokio::test]
async fn the_last_words_stand_after_an_empty_line() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let failed = protocol::report::Report {
        exit_code: Some(137),
        reason: Some("agent_failed: it was\nkilled".to_owned()),
        message: Some("a\n\nb".to_owned()),
        ..report(Outcome::Failed)
    };
    lease.result(&failed).await.unwrap();
    let request = house.http().get(house.url("/tasks/t")).bearer_auth(KEY).header("accept", "text/plain");
    let text = request.send().await.unwrap().text().await.unwrap();
    let expected = format!(
        "state: failed\nid: t\nqueue: q\nreason: agent_failed: it was killed\nexit_code: 137\nattempt: 1\n\
         branch: code-workers/t\nbase: {COMMIT}\n\na\n\nb\n"
    );
    assert_eq!(text, expected);
}

#[tokio::test]
async fn the_list_is_paged_newest_first() {
    let house = House::open().await;
    for name in ["a", "b", "c"] {
        house.submit(named(name)).await;
    }
    house.submit(exec("other")).await;
    house.owner.cancel(&id("b"), &protocol::task::Cancel::default()).await.unwrap();
    let names = async |filter: TaskFilter| {
        let page = house.owner.tasks(&filter).await.unwrap();
        (page.tasks.iter().map(|task| task.id.to_string()).collect::<Vec<_>>(), page.next)
    };
    let of_q = TaskFilter { queue: Some(queue("q")), limit: Some(2), ..TaskFilter::default() };
    let (first, next) = names(of_q.clone()).await;
    assert_eq!(first, ["c", "b"]);
    let (second, next) = names(TaskFilter { before: next, ..of_q.clone() }).await;
    assert_eq!((second, next), (vec!["a".to_owned(), "seed-q".to_owned()], None));
    let ready = TaskFilter { state: Some(TaskState::Ready), limit: None, ..of_q.clone() };
    assert_eq!(names(ready).await.0, ["c", "a"]);
    let cancelled = TaskFilter { state: Some(TaskState::Cancelled), limit: None, ..of_q.clone() };
    assert_eq!(names(cancelled).await.0, ["b", "seed-q"]);
    assert_eq!(
        code(house.owner.tasks(&TaskFilter { before: Some("x".to_owned()), ..of_q }).await),
        Code::Invalid
    );
}

#[tokio::test]
async fn the_urgent_come_first_and_the_old_before_the_new() {
    let house = House::open().await;
    for (name, priority) in [
        ("n1", Priority::Normal),
        ("l", Priority::Low),
        ("n2", Priority::Normal),
        ("c", Priority::Critical),
        ("h", Priority::High),
    ] {
        house.submit(NewTask { priority, ..named(name) }).await;
    }
    let worker = house.worker("q").await;
    let mut order = Vec::new();
    while let Some(leased) = worker.lease().await {
        order.push(leased.task.id.to_string());
    }
    assert_eq!(order, ["c", "h", "n1", "n2", "l"]);
}

#[tokio::test]
async fn an_agent_task_is_not_started_without_a_gateway() {
    let house = House::open().await;
    house.submit(agent("t")).await;
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    assert_eq!(code(lease.start().await), Code::GatewayUnavailable);
    let task = house.task("t").await;
    assert_eq!((task.state, task.attempt), (TaskState::Ready, 0));
    assert_eq!(task.reason.as_deref(), Some("gateway_unavailable"));
    // Nobody spins on it meanwhile; then it comes again.
    assert!(worker.lease().await.is_none());
    assert_eq!(code(lease.start().await), Code::LeaseLost);
    let again = worker.lease_by(uuid::Uuid::new_v4(), 20).await.unwrap().unwrap();
    assert_eq!((again.task.id.as_str(), again.lease.attempt), ("t", 1));
}
