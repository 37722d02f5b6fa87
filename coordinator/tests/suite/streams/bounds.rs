//! What a reader sees of a stream whose middle is gone, whose files are damaged, or that was opened again.

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use protocol::{Event, EventBody, TaskId, report::Outcome};

use super::stand::{Said, Stand, TASK};
use crate::house::{id, output};

#[derive(Debug, Clone)]
enum Step {
    /// Events of these sizes; some of the last ones are sent again before them.
    Append(Vec<usize>, u64),
    Reopen,
    /// A crash cut off a line, or came when a segment had just begun.
    Crash,
    NextAttempt,
    /// A slow reader, which began long ago, reads on a little.
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = proptest::collection::vec(prop_oneof![0..60_usize, 0..900_usize], 0..12);
    let step = prop_oneof![
        8 => (sizes, 0..4_u64).prop_map(|(sizes, again)| Step::Append(sizes, again)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        1 => Just(Step::NextAttempt),
        2 => Just(Step::Read),
    ];
    proptest::collection::vec(step, 1..25)
}

proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: 60, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn what_is_kept_is_told_once_and_what_is_not_is_counted(steps in steps(), ends in any::<bool>()) {
        let mut stand = Stand::new();
        let (mut slow, mut seen) = (None, Vec::new());
        let mut attempts = 1;
        for step in steps {
            match step {
                Step::Append(sizes, again) => stand.append(&sizes, again),
                Step::Reopen => {
                    slow = None;
                    stand.reopen();
                }
                Step::Crash => {
                    slow = None;
                    stand.crash();
                }
                Step::NextAttempt if attempts < 20 => {
                    attempts += 1;
                    stand.end_attempt(Outcome::Lost);
                    stand.begin_attempt();
                }
                Step::NextAttempt => {}
                Step::Read => {
                    let last = seen.last().map_or(0, |event: &Event| event.seq);
                    let reader = slow.take().unwrap_or_else(|| stand.follow(last));
                    if let Some((events, reader)) = stand.step(reader) {
                        seen.extend(events);
                        slow = Some(reader);
                    }
                }
            }
        }
        if ends {
            stand.end_attempt(Outcome::Succeeded);
        }
        let whole = stand.read(0);
        let total = stand.check(0, &whole);
        stand.check_bounds();
        let step = stand.expected.len() / 12 + 1;
        for after in (0..=stand.expected.len()).step_by(step) {
            stand.check(after as u64, &stand.read(after as u64));
        }
        let last = seen.last().map_or(0, |event| event.seq);
        while let Some((events, reader)) = slow.take().and_then(|reader| stand.step(reader)) {
            seen.extend(events);
            slow = Some(reader);
        }
        if seen.last().map_or(0, |event| event.seq) == last {
            seen.extend(stand.read(last));
        }
        check_slow(&stand, &seen);
        stand.reopen();
        assert_eq!(stand.read(0), whole, "after a restart");
        assert_eq!(stand.check(0, &whole), total);
    }
}

/// As [`Stand::check`], for one who went away now and then: a hole that began while it was away counts whole.
fn check_slow(stand: &Stand, seen: &[Event]) {
    let mut last = 0;
    for event in seen {
        assert!(event.seq > last, "{event:?} after {last}");
        let passed = usize::try_from(last).unwrap()..usize::try_from(event.seq).unwrap();
        match &event.event.body {
            EventBody::Dropped { bytes } => {
                assert!(*bytes >= stand.expected[passed].iter().map(|(_, size)| size).sum(), "{event:?}");
            }
            EventBody::Output { text, .. } => {
                assert_eq!((passed.len(), &stand.expected[passed.start].0), (1, &Said::Output(text.clone())));
            }
            _ => assert_eq!(passed.len(), 1, "{event:?}"),
        }
        last = event.seq;
    }
    assert_eq!(last, stand.expected.len() as u64);
}

proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: 60, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn a_flipped_bit_is_told_and_never_served(
        sizes in proptest::collection::vec(0..300_usize, 1..60),
        place in any::<proptest::sample::Index>(),
        bit in 0..8_u8,
        attempts in 1..3_usize,
    ) {
        let mut stand = Stand::new();
        for attempt in 0..attempts {
            if attempt > 0 {
                stand.end_attempt(Outcome::Lost);
                stand.begin_attempt();
            }
            for sizes in sizes.chunks(7) {
                stand.append(sizes, 0);
            }
        }
        let files: Vec<_> = stand.files().into_iter().filter(|(_, size)| *size > 1).collect();
        let total: u64 = files.iter().map(|(_, size)| size - 1).sum();
        // Any byte but a file's last.
        let mut at = place.index(usize::try_from(total).unwrap()) as u64;
        let (path, at) = files.iter().find_map(|(path, size)| {
            if at < size - 1 {
                return Some((path, usize::try_from(at).unwrap()));
            }
            at -= size - 1;
            None
        }).unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1 << bit;
        let harmless = bytes[at].is_ascii_uppercase() && bit == 5 && {
            let line = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(at, |end| at - end - 1);
            line < 8
        };
        std::fs::write(path, bytes).unwrap();
        stand.reopen();
        assert_eq!(stand.check_damaged(), (u64::from(!harmless), false), "{}, {at}, {bit}", path.display());
        stand.go_on();
        // The damaged line may have gone with the middle.
        let (errors, end) = stand.check_damaged();
        assert!(errors <= 1 && end);
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config {
        cases: 40, failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn what_a_power_failure_takes_is_not_made_up(
        sizes in proptest::collection::vec(0..300_usize, 1..60),
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), any::<proptest::sample::Index>(), any::<bool>()), 1..4),
    ) {
        let mut stand = Stand::new();
        for sizes in sizes.chunks(7) {
            stand.append(sizes, 0);
        }
        for (file, place, whole) in cuts {
            let files: Vec<_> = stand.files().into_iter().collect();
            let Some((path, size)) = files.get(file.index(files.len().max(1))) else { continue };
            if whole {
                std::fs::remove_file(path).unwrap();
            } else {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(place.index(usize::try_from(*size).unwrap() + 1) as u64).unwrap();
            }
        }
        stand.reopen();
        stand.check_damaged();
        stand.go_on();
        let last = stand.read(0).pop().unwrap();
        assert_eq!(last.event.body, output(super::stand::END).body);
    }
}

#[test]
fn a_reader_that_keeps_up_sees_no_hole_and_one_that_does_not_sees_one() {
    let mut stand = Stand::new();
    let (mut seen, late) = (Vec::new(), stand.follow(0));
    let (_, late) = stand.step(late).unwrap();
    let mut live = stand.follow(0);
    for _ in 0..40 {
        stand.append(&[200], 0);
        let (events, next) = stand.step(live).unwrap();
        seen.extend(events);
        live = next;
    }
    assert_eq!(stand.check(0, &seen), 0, "nothing was dropped for it");
    let (events, _) = stand.step(late).unwrap();
    let holes: Vec<_> =
        events.iter().filter(|event| matches!(event.event.body, EventBody::Dropped { .. })).collect();
    assert_eq!(holes.len(), 1);
    let last = events.last().unwrap();
    assert_eq!((last.seq, &last.event.body), (43, &seen.last().unwrap().event.body), "the end is there");
    stand.check(3, &events);
}

#[test]
fn removed_output_leaves_nothing() {
    let mut stand = Stand::new();
    stand.append(&[500; 20], 0);
    assert!(stand.files().len() > 2);
    let (folder, task): (_, TaskId) = (stand.folders.output(), id(TASK));
    coordinator::output::remove(&folder, &task).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    coordinator::output::remove(&folder, &task).unwrap();
}
