//! Mirrors, pinned bases, bundles that came back from a sandbox, and applying them.
//!
//! This is the one room that runs git on the host. Each operation is a [`Request`] that the program
//! `code-workers-repository` reads as JSON from its standard input and answers with one [`Answer`] on its
//! standard output; [`Helper`] does that for the coordinator and the cli, with a time limit. So git, which
//! meets hostile data here, always runs below a small process that holds no key and dies as a whole.
//!
//! What came back from a sandbox is hostile: a bundle is unpacked by [`Request::Check`] into an empty
//! repository of its own, and only what passed there is fetched onwards, one ref of it. Nothing is ever checked
//! out or executed, and no configuration or hook of such a repository is read.

mod apply;
mod base_bundle;
mod bundle;
mod bundle_header;
mod clean_repository;
mod environment;
mod error;
mod execute;
mod failure;
mod git;
mod helper;
mod leftovers;
pub mod limits;
mod lock;
mod mirror;
mod names;
mod report;
mod request;
mod resolve;
mod source;
mod source_refs;

pub use error::{Code, RepositoryError};
pub use execute::execute;
pub use helper::{Helper, PROGRAM};
pub use names::{BASE_REF, CommitId, InvalidName, TaskId, branch_of, branch_ref_of, mirror_ref_of};
pub use request::{Answer, Applied, BundleReport, Imported, Refreshed, Request, SourceDescription};
