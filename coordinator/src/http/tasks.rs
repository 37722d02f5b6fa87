//! `/tasks`: submit, list, look at, wait for, cancel.

use std::{sync::Arc, time::Duration};

use axum::{
    Json as JsonBody,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use protocol::{
    Code, Task, TaskId, Usd, limits,
    submit::{Kind, NewTask},
    task::{Message, MessageAccepted, Priority, Retry, TaskFilter},
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep_until};

use super::{
    blocking,
    error::{Failure, wants_text},
    extract::{Json, Params, Queries, media_type, parse, whole},
    text,
};
use crate::{
    Coordinator,
    queue::{Command, Incoming, Taken, unknown_task},
};

/// The query of `POST /tasks`: `wait`; and, where the body is a prompt as plain text, the rest of the task.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitQuery {
    #[serde(default)]
    wait: u64,
    id: Option<String>,
    queue: Option<String>,
    agent: Option<String>,
    model: Option<String>,
    base: Option<String>,
    priority: Option<Priority>,
    max_attempts: Option<u32>,
    timeout_s: Option<u64>,
    budget_usd: Option<Usd>,
    not_before: Option<Timestamp>,
    unique_key: Option<String>,
    #[serde(default)]
    approval: bool,
}

impl SubmitQuery {
    fn with_prompt(self, prompt: String) -> NewTask {
        NewTask {
            id: self.id,
            queue: self.queue.unwrap_or_default(),
            kind: Kind::Agent,
            prompt: Some(prompt),
            agent: self.agent,
            model: self.model,
            argv: None,
            base: self.base,
            priority: self.priority.unwrap_or_default(),
            max_attempts: self.max_attempts,
            timeout_s: self.timeout_s,
            budget_usd: self.budget_usd,
            not_before: self.not_before,
            unique_key: self.unique_key,
            approval: self.approval,
        }
    }

    const fn names_a_task(&self) -> bool {
        self.id.is_some()
            || self.queue.is_some()
            || self.agent.is_some()
            || self.model.is_some()
            || self.base.is_some()
            || self.priority.is_some()
            || self.max_attempts.is_some()
            || self.timeout_s.is_some()
            || self.budget_usd.is_some()
            || self.not_before.is_some()
            || self.unique_key.is_some()
            || self.approval
    }
}

/// `POST /tasks`
pub(super) async fn submit(
    State(coordinator): State<Arc<Coordinator>>,
    Queries(query): Queries<SubmitQuery>,
    request: Request,
) -> Result<Response, Failure> {
    let lines = wants_text(request.headers());
    let kind = media_type(request.headers());
    let body = whole(request.into_body()).await?;
    let wait = Duration::from_secs(query.wait).min(limits::TASK_WAIT);
    let many = kind == "application/json" && body.trim_ascii_start().starts_with(b"[");
    let tasks = match kind.as_str() {
        "application/json" if query.names_a_task() => {
            return Err(Failure::new(
                Code::Invalid,
                "with a JSON body the query takes `wait` alone; the task is in the body",
            ));
        }
        "application/json" if many => parse::<Vec<NewTask>>(&body)?,
        "application/json" => vec![parse::<NewTask>(&body)?],
        "text/plain" => vec![query.with_prompt(prompt(&body)?)],
        other => {
            return Err(Failure::new(
                Code::BadRequest,
                format!(
                    "the body is {other:?}; send JSON with Content-Type: application/json, or a prompt alone with \
                     text/plain and the rest in the query"
                ),
            ));
        }
    };
    let taken = take_in(&coordinator, tasks).await?;
    let new = taken.iter().any(|(_, taken)| matches!(taken, Taken::New(_)));
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    if many {
        let now = taken.into_iter().map(|(id, taken)| as_it_is(&coordinator, &id, taken));
        return Ok((status, JsonBody(now.collect::<Result<Vec<_>, _>>()?)).into_response());
    }
    let Some((id, taken)) = taken.into_iter().next() else {
        return Err(Failure::new(Code::Internal, "one task went in, and none came out"));
    };
    let task = match wait {
        Duration::ZERO => as_it_is(&coordinator, &id, taken)?,
        wait => ended_within(&coordinator, id, wait).await?,
    };
    Ok((status, answer(task, lines)).into_response())
}

/// What was just written needs no reading.
fn as_it_is(coordinator: &Coordinator, id: &TaskId, taken: Taken) -> Result<Task, Failure> {
    match taken {
        Taken::New(task) => Ok(*task),
        Taken::Before => read(coordinator, id),
    }
}

fn prompt(body: &[u8]) -> Result<String, Failure> {
    std::str::from_utf8(body)
        .map(str::to_owned)
        .map_err(|error| Failure::new(Code::BadRequest, format!("the prompt is not UTF-8: {error}")))
}

/// Takes all in, or none.
async fn take_in(coordinator: &Coordinator, tasks: Vec<NewTask>) -> Result<Vec<(TaskId, Taken)>, Failure> {
    if tasks.is_empty() || tasks.len() > limits::TASKS_PER_REQUEST {
        let code = if tasks.is_empty() { Code::Invalid } else { Code::TooLarge };
        let why = format!("{} tasks came; send 1 to {}", tasks.len(), limits::TASKS_PER_REQUEST);
        return Err(Failure::new(code, why));
    }
    let many = tasks.len() > 1;
    let mut incoming = Vec::with_capacity(tasks.len());
    for (place, task) in tasks.into_iter().enumerate() {
        let sent =
            serde_json::to_vec(&task).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let submission = task.check().map_err(|mut problem| {
            if many {
                problem.detail = format!("task {place}: {}", problem.detail);
            }
            problem
        })?;
        incoming.push(Incoming::new(submission, &sent));
    }
    let ids: Vec<TaskId> = incoming.iter().map(|task| task.id.clone()).collect();
    coordinator.require_room()?;
    let now = coordinator.clock.now();
    let taken = coordinator.queue.submit(incoming, coordinator.task_budget, now).await?;
    Ok(ids.into_iter().zip(taken).collect())
}

fn answer(task: Task, lines: bool) -> Response {
    if lines {
        ([(header::CONTENT_TYPE, text::MEDIA_TYPE)], text::task(&task)).into_response()
    } else {
        JsonBody(task).into_response()
    }
}

/// One task, read where it is asked for: a few pages that are in memory, or one read of the disk. To hand it to another
/// thread costs more.
fn read(coordinator: &Coordinator, id: &TaskId) -> Result<Task, Failure> {
    Ok(coordinator.queue.task(id)?.ok_or_else(|| unknown_task(id))?)
}

/// The task when it has ended, or as it is when the time is over or the program stops.
async fn ended_within(coordinator: &Coordinator, id: TaskId, wait: Duration) -> Result<Task, Failure> {
    if wait.is_zero() {
        return read(coordinator, &id);
    }
    let _turn = coordinator.waiting_turn()?;
    let end = Instant::now() + wait;
    let ended = coordinator.queue.wake().ended(&id);
    loop {
        let mut rung = std::pin::pin!(ended.bell.notified());
        rung.as_mut().enable();
        let task = read(coordinator, &id)?;
        if task.state.is_terminal() || Instant::now() >= end || coordinator.stop.is_cancelled() {
            return Ok(task);
        }
        tokio::select! {
            () = rung => {}
            () = sleep_until(end) => {}
            () = coordinator.stop.cancelled() => {}
        }
    }
}

/// The query of `GET /tasks/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskQuery {
    #[serde(default)]
    wait: u64,
}

/// `GET /tasks/{id}`
pub(super) async fn one(
    State(coordinator): State<Arc<Coordinator>>,
    Params(id): Params<TaskId>,
    Queries(query): Queries<TaskQuery>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let wait = Duration::from_secs(query.wait).min(limits::TASK_WAIT);
    let task = ended_within(&coordinator, id, wait).await?;
    Ok(answer(task, wants_text(&headers)))
}

/// `GET /tasks`
pub(super) async fn list(
    State(coordinator): State<Arc<Coordinator>>,
    Queries(filter): Queries<TaskFilter>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let queue = coordinator.queue.clone();
    let page = blocking(move || queue.page(&filter)).await??;
    if wants_text(&headers) {
        return Ok(([(header::CONTENT_TYPE, text::MEDIA_TYPE)], text::page(&page)).into_response());
    }
    Ok(JsonBody(page).into_response())
}

/// `POST /tasks/{id}/cancel`
pub(super) async fn cancel(
    State(coordinator): State<Arc<Coordinator>>,
    Params(id): Params<TaskId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    coordinator.queue.cancel(&id, parse_or_default(body).await?, coordinator.clock.now()).await?;
    Ok(answer(read(&coordinator, &id)?, wants_text(&headers)))
}

/// `POST /tasks/{id}/approve`
pub(super) async fn approve(
    State(coordinator): State<Arc<Coordinator>>,
    Params(id): Params<TaskId>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    coordinator.queue.command(id.clone(), Command::Approve, coordinator.clock.now()).await?;
    Ok(answer(read(&coordinator, &id)?, wants_text(&headers)))
}

/// `POST /tasks/{id}/retry`
pub(super) async fn retry(
    State(coordinator): State<Arc<Coordinator>>,
    Params(of): Params<TaskId>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let Retry { id } = parse_or_default(body).await?;
    let id = id.unwrap_or_else(TaskId::generate);
    coordinator.require_room()?;
    let new = coordinator.queue.repeat(of, id.clone(), coordinator.clock.now()).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    let task = read(&coordinator, &id)?;
    Ok((status, answer(task, wants_text(&headers))).into_response())
}

/// `POST /tasks/{id}/message`
pub(super) async fn message(
    State(coordinator): State<Arc<Coordinator>>,
    Params(id): Params<TaskId>,
    Json(message): Json<Message>,
) -> Result<JsonBody<MessageAccepted>, Failure> {
    let seq = coordinator.queue.message(&id, message, coordinator.clock.now()).await?;
    Ok(JsonBody(MessageAccepted { seq }))
}

/// A body of JSON, or none.
async fn parse_or_default<T: DeserializeOwned + Default>(body: Body) -> Result<T, Failure> {
    let body = whole(body).await?;
    if body.trim_ascii().is_empty() { Ok(T::default()) } else { parse(&body) }
}
