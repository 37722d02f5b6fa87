//! A model that answers everything with what it was asked, keys and all: it is on nobody's side.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread,
};

use serde_json::json;

/// Listens on a port of its own, for as long as this program runs; answers its address.
pub(super) fn start() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || while matches!(answer(&stream), Ok(true)) {});
        }
    });
    Ok(address)
}

/// Whether there was a request.
fn answer(mut stream: &TcpStream) -> std::io::Result<bool> {
    let mut reader = BufReader::new(stream);
    let mut asked = String::new();
    while !asked.ends_with("\r\n\r\n") {
        if reader.read_line(&mut asked)? == 0 {
            return Ok(false);
        }
    }
    let length = asked.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    asked.push_str(&String::from_utf8_lossy(&body));
    let answer = json!({
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5",
        "content": [{ "type": "text", "text": format!("the model was asked: {asked}") }],
        "stop_reason": "end_turn",
        "usage": { "input_tokens": 1, "output_tokens": 1 },
    });
    let answer = answer.to_string();
    // Who asks for trouble gets an error that tells all.
    let status = if asked.contains("please fail") { "400 Bad Request" } else { "200 OK" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    )?;
    Ok(true)
}
