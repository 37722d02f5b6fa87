//! The reader of streams and the meter behind it: no panic, and where chunks break makes no difference.
#![no_main]

use gateway::{meter::Meter, provider::Api, sse::Events};
use libfuzzer_sys::fuzz_target;

fn read(api: Api, stream: &[u8], chunk: usize) -> (Vec<Vec<u8>>, Meter) {
    let (mut events, mut meter, mut found) = (Events::default(), Meter::new(api), Vec::new());
    for mut chunk in stream.chunks(chunk) {
        while !chunk.is_empty() {
            let (read, event) = events.next(chunk);
            assert!(read > 0);
            if let Some(data) = event {
                meter.event(&data);
                found.push(data);
            }
            chunk = &chunk[read..];
        }
    }
    (found, meter)
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (which, chunk, stream) = input;
    let api = [Api::Messages, Api::Chat, Api::Responses][usize::from(which) % 3];
    let (whole, at_once) = read(api, stream, stream.len().max(1));
    let (parts, cut) = read(api, stream, usize::from(chunk).max(1));
    assert_eq!(whole, parts);
    assert_eq!((at_once.tokens(), at_once.is_final()), (cut.tokens(), cut.is_final()));
    assert!(whole.iter().map(Vec::len).sum::<usize>() <= stream.len());
});
