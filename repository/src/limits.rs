//! Every limit of this room, with a name.

use std::time::Duration;

use crate::Request;

/// The largest bundle that is looked at, in bytes.
pub const MAX_BUNDLE_BYTES: u64 = 1 << 30;
/// The largest bundle of a base, in bytes: a commit with all its history.
pub const MAX_BASE_BUNDLE_BYTES: u64 = 2 << 30;
/// The largest bundle header (signature, prerequisites, refs), in bytes. A branch has a handful of lines.
pub const MAX_BUNDLE_HEADER_BYTES: usize = 64 << 10;
/// The most commits a bundle's branch may have above its base.
pub const MAX_COMMITS: u64 = 10_000;
/// The most entries that the tree of a bundle's tip may have when it is spelled out. A tree that names itself
/// ten times on ten levels is tiny in the bundle and would be ten thousand million files in a work tree.
pub const MAX_TREE_ENTRIES: u64 = 2_000_000;
/// The most files that a bundle's branch may change.
pub const MAX_CHANGED_FILES: u64 = 200_000;
/// The longest path in the tree of a bundle's tip, in bytes (Linux' `PATH_MAX`).
pub const MAX_PATH_BYTES: usize = 4096;
/// From this size on git treats a file as binary, and streams it instead of holding it in memory.
pub const BIG_FILE_THRESHOLD: &str = "32m";
/// Private memory that a git which meets hostile data may take, in bytes (`RLIMIT_DATA`).
pub const MAX_MEMORY_BYTES: u64 = 4 << 30;
/// The largest file that a git which meets hostile data may write, in bytes (`RLIMIT_FSIZE`).
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// The longest source (path or URL), in bytes.
pub const MAX_SOURCE_BYTES: usize = 4096;
/// The longest name of a base, in bytes.
pub const MAX_BASE_BYTES: usize = 255;
/// The most that is read of what git prints, in bytes: a listing of some 500,000 refs.
pub const MAX_GIT_OUTPUT_BYTES: usize = 64 << 20;
/// The most that is kept of git's complaints, in bytes; the rest is read and dropped.
pub const MAX_GIT_ERROR_BYTES: usize = 16 << 10;
/// The most characters of git's complaints that an error message repeats.
pub const MAX_QUOTED_CHARS: usize = 600;
/// The longest request that the program reads, and the longest answer that [`crate::Helper`] reads, in bytes.
pub const MAX_MESSAGE_BYTES: u64 = 1 << 20;

/// What a source has to say within this time.
pub const DESCRIBE_TIME: Duration = Duration::from_secs(60);
/// The time of a refresh; the first one of a large repository takes everything over the network.
pub const REFRESH_TIME: Duration = Duration::from_secs(30 * 60);
/// The time to look up a base in a mirror.
pub const RESOLVE_TIME: Duration = Duration::from_secs(30);
/// The time to make a bundle of a base, and to unpack and check one, and to import or apply it.
pub const BUNDLE_TIME: Duration = Duration::from_secs(5 * 60);
/// Between asking a helper that ran out of time to end (so that git removes its lock files) and killing it.
pub const KILL_GRACE: Duration = Duration::from_secs(1);

/// The time that `request` may take.
#[must_use]
pub fn time_limit(request: &Request) -> Duration {
    match request {
        Request::Describe { .. } => DESCRIBE_TIME,
        Request::Refresh { .. } => REFRESH_TIME,
        Request::Resolve { .. } => RESOLVE_TIME,
        Request::Bundle { .. } | Request::Check { .. } | Request::Import { .. } | Request::Apply { .. } => {
            BUNDLE_TIME
        }
    }
}
