//! Where a task's base comes from: the repository's mirror where one is mounted, else the coordinator's door.

use std::{ffi::OsStr, path::Path};

use protocol::client::{Download, LeasedClient};
use tokio::{
    io::AsyncWriteExt as _,
    process::ChildStdin,
    time::{Duration, Instant},
};
use tokio_util::bytes::Bytes;

use super::{
    checkout::CheckoutError,
    command::{Git, option},
};
use crate::{lease::Backoff, places::Places};

/// How long a door that gives no whole bundle is asked again.
const ASK_WITHIN: Duration = Duration::from_secs(900);
/// Bytes of a bundle before its pack.
const HEADER_BYTES: usize = 64 * 1024;
/// First lines of a bundle, as in gitformat-bundle(5).
const SIGNATURES: [&str; 2] = ["# v2 git bundle", "# v3 git bundle"];

/// Where a base comes from.
#[derive(Clone, Copy)]
pub enum Base<'a> {
    /// A bare repository beside the sandbox, whose objects are shared and not copied.
    Mirror(&'a Path),
    /// A bundle, for workers elsewhere.
    Door(&'a LeasedClient),
}

impl<'a> Base<'a> {
    /// The mirror, where there is one.
    #[must_use]
    pub fn of(places: &'a Places, client: &'a LeasedClient) -> Self {
        if places.mirror.join("HEAD").exists() { Self::Mirror(&places.mirror) } else { Self::Door(client) }
    }

    /// Makes a repository that has the base: `git` is where it comes to be, and `bare` says of which kind. The
    /// agent's user makes it, as everything that has to do with its tree.
    pub(super) async fn bring(
        self,
        git: &Git<'_>,
        commit: &str,
        folder: &Path,
        bare: bool,
    ) -> Result<(), CheckoutError> {
        let template = option("--template=", &git.places().scratch.join("template"));
        match self {
            Self::Mirror(mirror) => {
                let kind = if bare { "--bare" } else { "--no-checkout" };
                let clone = ["clone", "--quiet", "--shared", kind].map(OsStr::new);
                let clone = [&clone[..], &[&*template, mirror.as_os_str(), folder.as_os_str()]].concat();
                git.answer(&clone).await?;
            }
            Self::Door(client) => {
                let format =
                    if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
                let mut init =
                    vec![OsStr::new("init"), OsStr::new("--quiet"), OsStr::new(format), &*template];
                init.extend(bare.then_some(OsStr::new("--bare")));
                init.push(folder.as_os_str());
                git.answer(&init).await?;
                let git_dir =
                    if bare { folder.to_owned() } else { git.places().work.join(folder).join(".git") };
                download(&git.with_git_dir(git_dir), client, commit).await?;
            }
        }
        Ok(())
    }
}

/// Asks until a whole bundle came: what was cut, or is not ready, is asked for again.
async fn download(git: &Git<'_>, client: &LeasedClient, commit: &str) -> Result<(), CheckoutError> {
    let (until, mut backoff) = (Instant::now() + ASK_WITHIN, Backoff::new());
    loop {
        match take_in(git, client, commit).await {
            Err(CheckoutError::Door(error)) if error.is_passing() && Instant::now() < until => {
                tracing::info!("the base is asked for again: {error}");
                // What a pack that was cut has left.
                git.answer(&["prune", "--expire=now"]).await?;
                backoff.wait().await;
            }
            done => return done,
        }
    }
}

async fn take_in(git: &Git<'_>, client: &LeasedClient, commit: &str) -> Result<(), CheckoutError> {
    let mut body = client.base().await?;
    let pack = after_header(&mut body, commit).await?;
    git.feed(&["index-pack", "--stdin"], async |stdin: &mut ChildStdin| {
        let mut chunk = Some(Bytes::from(pack));
        while let Some(bytes) = chunk {
            // A git that reads no more has ended, and says why.
            if stdin.write_all(&bytes).await.is_err() {
                break;
            }
            chunk = body.chunk().await?;
        }
        Ok::<_, CheckoutError>(())
    })
    .await
}

/// Reads a bundle's header, which must name the commit and ask for no other; the pack's first bytes.
async fn after_header(body: &mut Download, commit: &str) -> Result<Vec<u8>, CheckoutError> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(2).position(|two| two == b"\n\n") {
            let pack = read.split_off(end + 2);
            check_header(&String::from_utf8_lossy(&read), commit)?;
            return Ok(pack);
        }
        match body.chunk().await? {
            Some(chunk) if read.len() < HEADER_BYTES => read.extend_from_slice(&chunk),
            _ => return Err(CheckoutError::NoBundle("it has no header".to_owned())),
        }
    }
}

fn check_header(header: &str, commit: &str) -> Result<(), CheckoutError> {
    let refused = |why: String| Err(CheckoutError::NoBundle(why));
    let mut lines = header.lines().filter(|line| !line.is_empty());
    if !lines.next().is_some_and(|line| SIGNATURES.contains(&line)) {
        return refused("it does not begin as one".to_owned());
    }
    let mut tips = lines.filter(|line| !line.starts_with('@')).map(|line| line.split(' ').next());
    match (tips.next(), tips.next()) {
        (Some(Some(tip)), None) if tip == commit => Ok(()),
        _ => refused(format!("it is not of {commit} alone")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_the_base_and_nothing_else() {
        let commit = "1".repeat(40);
        let good = format!("# v2 git bundle\n{commit} refs/heads/base\n\n");
        let with_format = format!("# v3 git bundle\n@object-format=sha1\n{commit} refs/heads/base\n\n");
        for header in [good.as_str(), &with_format] {
            assert!(check_header(header, &commit).is_ok(), "{header}");
        }
        for bad in [
            String::new(),
            "<html>\n\n".to_owned(),
            "# v2 git bundle\n\n".to_owned(),
            good.replace('1', "2"),
            good.replace("# v2 git bundle\n", "# v2 git bundle\n-2222 before\n"),
            good.replace("\n\n", "\n2222 refs/heads/other\n\n"),
        ] {
            assert!(check_header(&bad, &commit).is_err(), "{bad}");
        }
    }
}
