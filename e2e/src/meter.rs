//! What goes through a chain of relays: bytes, looked at and timed.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::{Duration, Instant},
};

/// A prime, so that no buffer's size is a multiple of it: bytes that are lost or out of order show.
const PERIOD: u64 = 251;
const BUFFER: usize = 64 << 10;
const ROUND_TRIPS: usize = 50;
/// What the far end says when the near one has sent its last.
const GOODBYE: &[u8] = b"goodbye";

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// A question and its answer of 16 bytes each, the median of 50.
    pub round_trip: Duration,
    /// All bytes to the far end, until it has seen them.
    pub there: Duration,
    /// As many back.
    pub back: Duration,
}

/// The far end: on every connection it answers questions, until the process ends. A question is two numbers: bytes
/// that come, and bytes that are to come back when those are there.
pub fn far_end(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

fn answer(mut stream: UnixStream) -> io::Result<()> {
    let mut question = [0; 16];
    loop {
        if stream.read(&mut question[..1])? == 0 {
            return stream.write_all(GOODBYE);
        }
        stream.read_exact(&mut question[1..])?;
        let (come, back) = question.split_at(8);
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).map_err(io::Error::other);
        take(&mut stream, number(come)?)?;
        stream.write_all(&question)?;
        give(&mut stream, number(back)?)?;
    }
}

/// The near end of a chain of relays, whose far end is a [`far_end`].
///
/// # Errors
/// When something else comes back than was asked for, or the connection breaks.
pub fn measure(stream: &mut UnixStream, bytes: u64) -> io::Result<Measured> {
    let mut round_trips = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        round_trips.push(ask(stream, 0, 0)?);
    }
    round_trips.sort_unstable();
    let (there, back) = (ask(stream, bytes, 0)?, ask(stream, 0, bytes)?);
    Ok(Measured { round_trip: round_trips[ROUND_TRIPS / 2], there, back })
}

/// Ends one direction, and hears what still comes in the other.
///
/// # Errors
/// When it is not the far end's goodbye.
pub fn close_half(stream: &mut UnixStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    if said == GOODBYE { Ok(()) } else { Err(io::Error::other(format!("instead of goodbye: {said:?}"))) }
}

fn ask(stream: &mut UnixStream, there: u64, back: u64) -> io::Result<Duration> {
    let began = Instant::now();
    let question = [there.to_le_bytes(), back.to_le_bytes()].concat();
    stream.write_all(&question)?;
    give(stream, there)?;
    let mut again = [0; 16];
    stream.read_exact(&mut again)?;
    if again[..] != question[..] {
        return Err(io::Error::other("the answer is to another question"));
    }
    take(stream, back)?;
    Ok(began.elapsed())
}

fn give(stream: &mut UnixStream, bytes: u64) -> io::Result<()> {
    let period: Vec<u8> = (0..BUFFER as u64 + PERIOD).map(at).collect();
    let mut place = 0;
    while place < bytes {
        let from = (place % PERIOD) as usize;
        let count = (bytes - place).min(BUFFER as u64);
        stream.write_all(&period[from..from + count as usize])?;
        place += count;
    }
    Ok(())
}

fn take(stream: &mut UnixStream, bytes: u64) -> io::Result<()> {
    let period: Vec<u8> = (0..BUFFER as u64 + PERIOD).map(at).collect();
    let mut buffer = vec![0; BUFFER];
    let mut place = 0;
    while place < bytes {
        let most = (bytes - place).min(BUFFER as u64) as usize;
        let count = stream.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::other(format!("{place} bytes of {bytes} came")));
        }
        let from = (place % PERIOD) as usize;
        if buffer[..count] != period[from..from + count] {
            return Err(io::Error::other(format!("other bytes came than were sent, after {place}")));
        }
        place += count as u64;
    }
    Ok(())
}

/// The byte at a place of the stream.
fn at(place: u64) -> u8 {
    (place % PERIOD) as u8
}
