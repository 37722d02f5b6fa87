//! What a client sees of a stream: every byte, but for the chunk of usage where that is to be dropped.
#![no_main]

use bytes::Bytes;
use gateway::{exchange::Tap, meter::Meter, provider::Api};
use libfuzzer_sys::fuzz_target;

fn passed(api: Api, stream: &[u8], chunk: usize, drop_usage: bool) -> Vec<u8> {
    let mut tap = Tap::new(Meter::new(api), drop_usage);
    let mut out = Vec::new();
    for chunk in stream.chunks(chunk) {
        let (pass, goes_on) = tap.read(&Bytes::copy_from_slice(chunk), |_| true);
        assert!(goes_on);
        out.extend_from_slice(&pass);
    }
    out.extend_from_slice(&tap.end());
    out
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (which, chunk, stream) = input;
    let api = [Api::Messages, Api::Chat, Api::Responses][usize::from(which) % 3];
    let chunk = usize::from(chunk).max(1);
    assert_eq!(passed(api, stream, chunk, false), stream);
    let dropped = passed(Api::Chat, stream, chunk, true);
    assert_eq!(dropped, passed(Api::Chat, stream, stream.len().max(1), true));
    // Nothing is changed or moved: what is left stands in the stream in its order.
    let mut rest = stream.iter();
    assert!(dropped.iter().all(|byte| rest.any(|other| other == byte)));
});
