//! What a scenario has running inside its VM.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test's own code: a panic is how it fails")]
#![allow(clippy::print_stdout, reason = "its scenario reads it on the VM's console")]

mod sandboxes;

use std::os::unix::net::{UnixListener, UnixStream};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["far-end", path] => {
            e2e::far_end(UnixListener::bind(path).unwrap());
            println!("the far end is {path}");
            std::thread::park();
        }
        ["measure", name, path, bytes] => measure(name, connect(path), bytes.parse().unwrap()),
        ["close-half", path] => e2e::close_half(&mut connect(path)).unwrap(),
        ["sandboxes", doors, ref workers @ ..] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(sandboxes::run(doors, workers));
        }
        _ => panic!("{arguments:?}: no such job"),
    }
}

fn connect(path: &str) -> UnixStream {
    UnixStream::connect(path).unwrap()
}

fn measure(name: &str, mut stream: UnixStream, bytes: u64) {
    println!("guest: {name}: {bytes} bytes, {:?}", e2e::measure(&mut stream, bytes).unwrap());
}
