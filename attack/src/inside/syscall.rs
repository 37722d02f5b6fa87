//! System calls that no safe Rust has: made by perl's `syscall`, or by python's ctypes where there is no perl.

use std::process::Command;

use crate::attack::Finding;

/// Numbers on x86-64 and on aarch64 (the kernel's tables).
pub(super) struct Call {
    pub(super) x86_64: u16,
    pub(super) aarch64: u16,
    /// In their order.
    pub(super) arguments: Vec<Argument>,
}

#[derive(Clone, Copy)]
pub(super) enum Argument {
    Number(i64),
    /// A pointer to these bytes, and then zeros.
    Bytes(&'static [u8]),
}

/// Errors by which a kernel says that it will not, whatever the arguments: EPERM, EACCES, ENODEV, ENOSYS, EOPNOTSUPP.
const REFUSALS: [i32; 5] = [1, 13, 19, 38, 95];
/// What a buffer has at least.
const BUFFER: usize = 256;

/// Held where the kernel refuses; any other answer is one that it gave after it was willing.
pub(super) fn refused(call: &Call, gain: &str) -> Finding {
    let number = if cfg!(target_arch = "x86_64") { call.x86_64 } else { call.aarch64 };
    let Some(answer) = perl(number, &call.arguments).or_else(|| python(number, &call.arguments)) else {
        return Finding::NotApplicable("neither perl nor python3 to make the call with".to_owned());
    };
    match answer.trim().parse::<i32>() {
        Ok(error) if REFUSALS.contains(&error) => {
            Finding::Held(std::io::Error::from_raw_os_error(error).to_string())
        }
        Ok(0) => Finding::Broken(gain.to_owned()),
        Ok(error) => Finding::Broken(format!("{gain}: {}", std::io::Error::from_raw_os_error(error))),
        Err(_) => Finding::Broken(format!("{gain}: {answer}")),
    }
}

fn perl(number: u16, arguments: &[Argument]) -> Option<String> {
    let argument = |argument: &Argument| match argument {
        Argument::Number(number) => number.to_string(),
        Argument::Bytes(bytes) => format!("$b=\"{}\"", escaped(bytes)),
    };
    // A pointer has to be to a variable of its own.
    let arguments: String = arguments
        .iter()
        .enumerate()
        .map(|(at, one)| format!(",{}", argument(one).replace("$b", &format!("my $b{at}"))))
        .collect();
    output("perl", &["-e", &format!("print syscall({number}{arguments})==-1?$!+0:0")])
}

fn python(number: u16, arguments: &[Argument]) -> Option<String> {
    let argument = |argument: &Argument| match argument {
        Argument::Number(number) => format!(",c.c_long({number})"),
        Argument::Bytes(bytes) => format!(",c.create_string_buffer(b\"{}\")", escaped(bytes)),
    };
    let arguments: String = arguments.iter().map(argument).collect();
    let text = format!(
        "import ctypes as c;l=c.CDLL(None,use_errno=True);print(c.get_errno() if l.syscall(c.c_long({number}){arguments})==-1 else 0)"
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
