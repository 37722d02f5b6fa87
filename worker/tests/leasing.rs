//! Whole workers, from the lease to the report, at a door that the test holds: it may be late, silent or away. They
//! need root, as those in `attempt.rs` do, whose places and users they share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

#[path = "leasing/door.rs"]
mod door;
#[path = "attempt/place.rs"]
#[allow(dead_code, reason = "shared with attempt.rs")]
mod place;
#[path = "leasing/work.rs"]
mod work;

#[path = "leasing/base.rs"]
mod base;
#[path = "leasing/giving_back.rs"]
mod giving_back;
#[path = "leasing/messages.rs"]
mod messages;
#[path = "leasing/no_room.rs"]
mod no_room;
#[path = "leasing/two_sided.rs"]
mod two_sided;
