//! `diff`: what a task changed, as a patch.

use std::io::{self, IsTerminal, Write};

use protocol::TaskId;

use crate::{
    artifact,
    context::Context,
    failure::{Exit, Failure},
    terminal::clean,
};

pub(crate) async fn run(context: &Context, id: &TaskId) -> Result<Exit, Failure> {
    let client = context.client()?;
    let people = io::stdout().is_terminal();
    let mut stdout = io::stdout().lock();
    let mut rest = Vec::new();
    artifact::download(&client, id, "patch", |bytes| {
        if !people {
            return Ok(stdout.write_all(bytes)?);
        }
        // Whole lines, so that no character is cut in two.
        rest.extend_from_slice(bytes);
        let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = rest.drain(..whole).collect();
        Ok(stdout.write_all(clean(&String::from_utf8_lossy(&lines)).as_bytes())?)
    })
    .await?;
    stdout.write_all(clean(&String::from_utf8_lossy(&rest)).as_bytes())?;
    stdout.flush()?;
    Ok(Exit::Succeeded)
}
