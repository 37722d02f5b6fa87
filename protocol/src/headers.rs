//! Names of headers, in lower case as HTTP libraries want them.

/// The owner's key as an alternative to `Authorization: Bearer`.
pub const API_KEY: &str = "x-api-key";
/// Echoed, or made where a request brings none.
pub const REQUEST_ID: &str = "x-request-id";
/// The protocol's version, from workers.
pub const PROTOCOL: &str = "code-workers-protocol";
/// A lease's token, on every call of a worker after the lease.
pub const LEASE: &str = "code-workers-lease";
/// A lease's attempt number, beside [`LEASE`].
pub const ATTEMPT: &str = "code-workers-attempt";
/// The SHA-256 of an uploaded artifact, in lower-case hex.
pub const SHA256: &str = "code-workers-sha256";
