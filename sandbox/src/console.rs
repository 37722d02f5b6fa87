//! What the sandbox and runsc print.

use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};

/// Bytes kept of what a sandbox prints; the rest is read and dropped, so that nothing inside ever blocks.
pub(crate) const CONSOLE_BYTES: u64 = 1 << 20;
/// What a pipe holds (pipe(7)).
const PIPE_BYTES: usize = 64 << 10;

/// Copies until the end of `from`. (A file given to gVisor directly is overwritten: it writes at its own
/// offset.)
pub(crate) async fn keep(from: impl AsyncRead + Unpin, to: &Path) -> std::io::Result<()> {
    let mut from = BufReader::with_capacity(PIPE_BYTES, from);
    let mut file = File::options().create(true).append(true).open(to).await?;
    tokio::io::copy_buf(&mut (&mut from).take(CONSOLE_BYTES), &mut file).await?;
    file.flush().await?;
    tokio::io::copy_buf(&mut from, &mut tokio::io::sink()).await?;
    Ok(())
}
