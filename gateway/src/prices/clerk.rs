//! Who knows the table by heart: this program once more, in a process of its own that ends when it is not asked for a
//! while. So the table's memory is not the gateway's.

use std::{
    io::{self, BufRead as _, Write as _},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Mutex,
};

use super::{ModelPrice, table};
use crate::provider::Provider;

/// The argument that makes the program a clerk.
pub const ARGUMENT: &str = "--look-up-prices";
/// A clerk that nobody has asked for so long is let go.
const IDLE: Duration = Duration::from_secs(60);
/// How long an answer may take, the start of the process included.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Question {
    provider: Provider,
    base_url: String,
    model: String,
}

/// Asks, and starts the process where there is none.
#[derive(Debug, Default)]
pub struct Clerk(Mutex<Option<Desk>>);

#[derive(Debug)]
struct Desk {
    _process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// How often it was asked: who lets it go looks whether that has changed.
    asked: u64,
}

impl Clerk {
    /// What the table says of a model.
    ///
    /// # Errors
    /// When the process cannot be started, or does not answer and another does not either.
    pub async fn ask(
        self: &Arc<Self>,
        provider: Provider,
        base_url: &str,
        model: &str,
    ) -> io::Result<Option<ModelPrice>> {
        let question = Question { provider, base_url: base_url.to_owned(), model: model.to_owned() };
        let mut place = self.0.lock().await;
        // Taken out of its place: where an answer breaks off, nobody gets it for another question.
        let asked_before = match place.take() {
            Some(desk) => desk.try_ask(&question).await.ok(),
            None => None,
        };
        // One that was asked before may have been killed since.
        let (answer, desk) = match asked_before {
            Some(answered) => answered,
            None => Desk::open()?.try_ask(&question).await?,
        };
        let asked = desk.asked;
        *place = Some(desk);
        drop(place);
        self.let_go_unless_asked(asked);
        Ok(answer)
    }

    fn let_go_unless_asked(self: &Arc<Self>, asked: u64) {
        let clerk = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            let mut place = clerk.0.lock().await;
            if place.as_ref().is_some_and(|desk| desk.asked == asked) {
                *place = None;
            }
        });
    }
}

impl Desk {
    fn open() -> io::Result<Self> {
        // Ourselves, even when our file was replaced since. It is given no key.
        let mut process = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe is missing");
        let questions = process.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(missing)?).lines();
        Ok(Self { _process: process, questions, answers, asked: 0 })
    }

    /// The answer, and the desk again, if it came.
    async fn try_ask(mut self, question: &Question) -> io::Result<(Option<ModelPrice>, Self)> {
        let answer = tokio::time::timeout(ANSWER, self.ask(question)).await.map_err(io::Error::other)??;
        Ok((answer, self))
    }

    async fn ask(&mut self, question: &Question) -> io::Result<Option<ModelPrice>> {
        self.asked += 1;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        self.questions.write_all(&line).await?;
        let answer = self.answers.next_line().await?;
        let answer = answer.ok_or_else(|| io::Error::other("the process that knows the prices has ended"))?;
        Ok(serde_json::from_str(&answer)?)
    }
}

/// Answers a question a line until there are no more: what the process does.
///
/// # Errors
/// When a line cannot be read, understood or answered.
pub fn serve() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let Question { provider, base_url, model } = serde_json::from_str(&line?)?;
        serde_json::to_writer(&mut out, &table::look_up(provider, &base_url, &model))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}
