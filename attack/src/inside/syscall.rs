//! System calls that no safe Rust has: made by perl's `syscall`, or by python's ctypes where there is no perl.

use std::{io, process::Command};

use crate::attack::Finding;

/// Numbers on x86-64 and on aarch64 (the kernel's tables).
pub(crate) struct Call {
    pub(crate) x86_64: u16,
    pub(crate) aarch64: u16,
    /// In their order.
    pub(crate) arguments: Vec<Argument>,
}

pub(crate) enum Argument {
    Number(i64),
    /// A pointer to these bytes, and then zeros.
    Bytes(&'static [u8]),
    /// A pointer to this text, and then zeros.
    Text(String),
}

/// Errors by which a kernel says that it will not, whatever the arguments: EPERM, EACCES, ENODEV, ENOSYS, EOPNOTSUPP.
const REFUSALS: [i32; 5] = [1, 13, 19, 38, 95];
/// What a buffer has at least.
const BUFFER: usize = 256;

/// Held where the kernel refuses; any other answer is one that it gave after it was willing.
pub(super) fn refused(call: &Call, gain: &str) -> Finding {
    match made(call) {
        None => Finding::NotApplicable(NO_CALLER.to_owned()),
        Some(Ok(_)) => Finding::Broken(gain.to_owned()),
        Some(Err(error)) if error.raw_os_error().is_some_and(|error| REFUSALS.contains(&error)) => {
            Finding::Held(error.to_string())
        }
        Some(Err(error)) => Finding::Broken(format!("{gain}: {error}")),
    }
}

/// Why a call was not made.
pub(crate) const NO_CALLER: &str = "neither perl nor python3 to make the call with";

/// What the kernel answered, an error as itself; `None` where nobody can make the call.
pub(crate) fn made(call: &Call) -> Option<io::Result<i64>> {
    let number = if cfg!(target_arch = "x86_64") { call.x86_64 } else { call.aarch64 };
    let answer = perl(number, &call.arguments).or_else(|| python(number, &call.arguments))?;
    let (answer, error) = answer.trim().split_once(' ').unwrap_or((&answer, ""));
    Some(match (answer.parse(), error.parse()) {
        (Ok(-1), Ok(error)) => Err(io::Error::from_raw_os_error(error)),
        (Ok(answer), _) => Ok(answer),
        (Err(_), _) => Err(io::Error::other(format!("{answer:?} is no answer"))),
    })
}

fn perl(number: u16, arguments: &[Argument]) -> Option<String> {
    let argument = |argument: &Argument| match argument {
        Argument::Number(number) => number.to_string(),
        Argument::Bytes(bytes) => format!("$b=\"{}\"", escaped(bytes)),
        Argument::Text(text) => format!("$b=\"{}\"", escaped(text.as_bytes())),
    };
    // A pointer has to be to a variable of its own.
    let arguments: String = arguments
        .iter()
        .enumerate()
        .map(|(at, one)| format!(",{}", argument(one).replace("$b", &format!("my $b{at}"))))
        .collect();
    output("perl", &["-e", &format!("my $r=syscall({number}{arguments});print $r,' ',$!+0")])
}

fn python(number: u16, arguments: &[Argument]) -> Option<String> {
    let argument = |argument: &Argument| match argument {
        Argument::Number(number) => format!(",c.c_long({number})"),
        Argument::Bytes(bytes) => format!(",c.create_string_buffer(b\"{}\")", escaped(bytes)),
        Argument::Text(text) => format!(",c.create_string_buffer(b\"{}\")", escaped(text.as_bytes())),
    };
    let arguments: String = arguments.iter().map(argument).collect();
    let text = format!(
        "import ctypes as c;l=c.CDLL(None,use_errno=True);r=l.syscall(c.c_long({number}){arguments});print(r,c.get_errno())"
    );
    output("python3", &["-c", &text])
}

fn escaped(bytes: &[u8]) -> String {
    let zeros = std::iter::repeat_n(&0, BUFFER.saturating_sub(bytes.len()));
    bytes.iter().chain(zeros).map(|byte| format!("\\x{byte:02x}")).collect()
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
