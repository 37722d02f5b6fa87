//! What is missing between two places of a task's output, piece by piece.

use super::kept::{Place, Run};

/// Lines that are gone, one after the other, with no lifecycle event between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// The lifecycle events before them, and their attempt; nothing where it is not known any more.
    pub(super) of: Option<(u64, u32)>,
    /// Where they end.
    pub(super) end: Place,
}

/// The pieces from one place to the other, in their order. `runs` are in theirs. Bytes without a line, which damage
/// leaves, belong to the piece after them, or to none.
pub(super) fn pieces(runs: &[Run], from: Place, to: Place) -> Vec<Piece> {
    let mut found = Vec::new();
    let mut at = from;
    let ends = runs.iter().skip(1).map(|run| run.after).chain([to]);
    for (run, end) in runs.iter().zip(ends) {
        if run.after.lines >= to.lines {
            break;
        }
        if run.after.lines > at.lines {
            found.push(Piece { of: None, end: run.after });
            at = run.after;
        }
        let end = if end.lines < to.lines { end } else { to };
        if end.lines > at.lines {
            found.push(Piece { of: Some((run.l, run.a)), end });
            at = end;
        }
    }
    if at.lines < to.lines {
        found.push(Piece { of: None, end: to });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Piece, Place, Run, pieces};

    const fn at(lines: u64) -> Place {
        Place { bytes: lines * 10, lines }
    }

    const fn run(l: u64, a: u32, after: u64) -> Run {
        Run { l, a, after: at(after) }
    }

    fn of(runs: &[Run], from: u64, to: u64) -> Vec<(Option<(u64, u32)>, u64)> {
        pieces(runs, at(from), at(to)).into_iter().map(|Piece { of, end }| (of, end.lines)).collect()
    }

    #[test]
    fn a_hole_is_cut_where_the_attempt_changes() {
        let runs = [run(3, 1, 10), run(7, 2, 20), run(11, 3, 30)];
        let (one, two, three) = (Some((3, 1)), Some((7, 2)), Some((11, 3)));
        assert_eq!(of(&runs, 10, 15), [(one, 15)]);
        assert_eq!(of(&runs, 12, 30), [(one, 20), (two, 30)]);
        assert_eq!(of(&runs, 10, 35), [(one, 20), (two, 30), (three, 35)]);
        assert_eq!(of(&runs, 22, 28), [(two, 28)]);
        assert_eq!(of(&runs, 33, 40), [(three, 40)]);
        // What is not known any more is missing all the same.
        assert_eq!(of(&runs[1..], 10, 25), [(None, 20), (two, 25)]);
        assert_eq!(of(&runs[2..], 10, 25), [(None, 25)]);
        assert_eq!(of(&[], 10, 25), [(None, 25)]);
    }
}
