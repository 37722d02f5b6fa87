//! The reader of requests: no panic; what need not change stays as it was; what was changed needs no second change.
#![no_main]

use std::hash::RandomState;

use bytes::Bytes;
use gateway::{body::Request, provider::Api};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, sent) = input;
    let api = [Api::Messages, Api::Chat, Api::Responses][usize::from(which) % 3];
    let sent = Bytes::copy_from_slice(sent);
    let hashes = RandomState::new();
    let Ok(request) = Request::read(api, &sent, &hashes) else { return };
    let worst = request.outline.worst(0);
    assert!(worst >= sent.len() as u64);
    let untouched = api == Api::Messages && request.removed.is_empty();
    let once = request.unbounded().expect("what was read can be written");
    assert!(!untouched || once == sent);
    let again = Request::read(api, &once, &hashes).expect("what is sent on is a request");
    assert!(again.removed.is_empty() && !again.usage_is_ours);
    assert_eq!(again.unbounded().expect("it can be written"), once);
    // With another bound nothing but the bound is changed.
    let bounded = Request::read(api, &once, &hashes).expect("the same").bounded(7).expect("it can be bounded");
    assert_eq!(Request::read(api, &bounded, &hashes).expect("a request").bounded(7).expect("again"), bounded);
});
