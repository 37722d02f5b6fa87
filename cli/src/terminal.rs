//! Output. What an agent wrote is not to be trusted with a terminal: control characters can move the
//! cursor, recolour, retitle, or hide what was said.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
};

/// The text with every control character but newline and tab, and every mark that reorders text, replaced.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let dangerous = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if text.contains(dangerous) {
        Cow::Owned(text.replace(dangerous, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same where a person reads stdout, and the text as it is where a program does.
pub(crate) fn clean_for_people(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { clean(text) } else { Cow::Borrowed(text) }
}

/// Writes whole lines to stdout.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Writes whole lines to stderr, for what is beside the result. Nobody may be there to read it.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", clean(text));
}

/// The first line, cut at `most` characters.
pub(crate) fn first_line(text: &str, most: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(most).collect();
    if shown.len() < line.len() || text.trim().lines().nth(1).is_some() {
        shown.push('…');
    }
    clean(&shown).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{clean, first_line};

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(clean("a\tb\né 漢"), "a\tb\né 漢");
        assert_eq!(clean("\x1b[2Jx\r\u{9b}y\x07"), "\u{fffd}[2Jx\u{fffd}\u{fffd}y\u{fffd}");
        assert_eq!(clean("a\u{202e}b"), "a\u{fffd}b");
    }

    #[test]
    fn first_lines_are_cut_between_characters() {
        assert_eq!(first_line("ééé", 2), "éé…");
        assert_eq!(first_line("\n a\nb", 9), "a…");
        assert_eq!(first_line("a", 9), "a");
    }
}
