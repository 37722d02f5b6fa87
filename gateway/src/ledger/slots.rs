//! The file beside the ledger's with a slot for each request under way. A slot is written with one call and
//! never flushed: it outlives the program, not the machine (against that stands what is `covered`).

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use jiff::civil::Date;
use protocol::Usd;

use crate::{account::Charge, tokens::Tokens};

/// Bytes of one slot. A power of two, so that none crosses a page: the system writes it whole, or not at all.
const SIZE: usize = 256;
/// Where the model's name begins.
const MODEL: usize = 72;
/// A name that is longer is cut; prices are known for shorter ones alone.
const MODEL_BYTES: usize = SIZE - MODEL - 1;

const FREE: u8 = 0;
const HELD: u8 = 1;
const CHARGED: u8 = 2;

/// What a request came to, or may come to, as its slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note<'a> {
    pub(super) seq: u64,
    pub(super) key: u64,
    /// The day that it is charged to.
    pub(super) day: Date,
    pub(super) hold: Usd,
    /// None while it is not known.
    pub(super) charge: Option<Charge>,
    pub(super) model: &'a str,
}

#[derive(Debug)]
pub(super) struct Slots(File);

impl Slots {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path).map(Self)
    }

    pub(super) fn write(&self, slot: u32, note: &Note<'_>) -> io::Result<()> {
        self.0.write_all_at(&bytes(note), offset(slot))
    }

    /// Nothing was sent, or nothing is owed.
    pub(super) fn clear(&self, slot: u32) -> io::Result<()> {
        self.0.write_all_at(&[FREE], offset(slot))
    }

    /// The whole file.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.0.metadata()?.len()).unwrap_or(usize::MAX);
        let mut all = vec![0; length];
        self.0.read_exact_at(&mut all, 0)?;
        // The last slot's end may never have been written.
        all.resize(length.next_multiple_of(SIZE), 0);
        Ok(all)
    }

    /// Forgets all.
    pub(super) fn reset(&self) -> io::Result<()> {
        self.0.set_len(0)
    }
}

/// All that is noted in a file. `None` stands for a slot that makes no sense.
pub(super) fn notes(file: &[u8]) -> impl Iterator<Item = (u32, Option<Note<'_>>)> {
    let noted = (0..).zip(file.chunks(SIZE)).filter(|(_, bytes)| bytes[0] != FREE);
    noted.map(|(slot, bytes)| (slot, note(bytes)))
}

fn offset(slot: u32) -> u64 {
    u64::from(slot) * SIZE as u64
}

fn bytes(note: &Note<'_>) -> [u8; SIZE] {
    let charge =
        note.charge.unwrap_or(Charge { amount: Usd::ZERO, tokens: Tokens::default(), reached_model: false });
    let (year, month, day) = (note.day.year(), note.day.month(), note.day.day());
    let mut bytes = [0; SIZE];
    bytes[0] = if note.charge.is_some() { CHARGED } else { HELD };
    bytes[1] = charge.reached_model.into();
    bytes[2..4].copy_from_slice(&year.to_le_bytes());
    bytes[4] = month.cast_unsigned();
    bytes[5] = day.cast_unsigned();
    let numbers = [
        note.seq,
        note.key,
        note.hold.nanos(),
        charge.amount.nanos(),
        charge.tokens.input_total(),
        charge.tokens.output,
    ];
    for (at, number) in numbers.iter().enumerate() {
        bytes[8 + at * 8..16 + at * 8].copy_from_slice(&number.to_le_bytes());
    }
    let mut length = note.model.len().min(MODEL_BYTES);
    while !note.model.is_char_boundary(length) {
        length -= 1;
    }
    bytes[MODEL..MODEL + length].copy_from_slice(&note.model.as_bytes()[..length]);
    bytes
}

fn note(bytes: &[u8]) -> Option<Note<'_>> {
    let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
    let number = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(bytes[8 + at * 8..16 + at * 8].try_into().ok()?))
    };
    let year = i16::from_le_bytes(bytes[2..4].try_into().ok()?);
    let day = Date::new(year, bytes[4].cast_signed(), bytes[5].cast_signed()).ok()?;
    let charge = match bytes[0] {
        HELD => None,
        CHARGED => Some(Charge {
            amount: Usd::from_nanos(number(3)?),
            tokens: Tokens { input: number(4)?, output: number(5)?, ..Tokens::default() },
            reached_model: bytes[1] == 1,
        }),
        _ => return None,
    };
    let name = &bytes[MODEL..];
    let length = name.iter().position(|byte| *byte == 0)?;
    let model = std::str::from_utf8(&name[..length]).ok()?;
    Some(Note { seq: number(0)?, key: number(1)?, day, hold: Usd::from_nanos(number(2)?), charge, model })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn what_is_noted_is_read(
            slot in 0_u32..50, numbers in any::<[u64; 4]>(), charged in any::<bool>(), days in 0_i32..9_000,
            model in "[a-z0-9é./-]{0,300}",
        ) {
            let folder = tempfile::tempdir().unwrap();
            let slots = Slots::open(&folder.path().join("x")).unwrap();
            let [seq, key, hold, amount] = numbers;
            let tokens = Tokens { input: seq / 2, output: key / 2, ..Tokens::default() };
            let charge = Charge { amount: Usd::from_nanos(amount), tokens, reached_model: key % 2 == 0 };
            let day = Date::new(2020, 1, 1).unwrap();
            let day = day.checked_add(jiff::Span::new().days(days)).unwrap();
            let hold = Usd::from_nanos(hold);
            let note = Note { seq, key, day, hold, charge: charged.then_some(charge), model: &model };
            slots.write(slot, &note).unwrap();
            let file = slots.read().unwrap();
            let read: Vec<_> = notes(&file).collect();
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(read[0].0, slot);
            let found = read[0].1.unwrap();
            assert!(note.model.starts_with(found.model) && found.model.len() >= note.model.len().min(MODEL_BYTES - 1));
            prop_assert_eq!(Note { model: "", ..found }, Note { model: "", ..note });
            slots.clear(slot).unwrap();
            prop_assert_eq!(notes(&slots.read().unwrap()).count(), 0);
        }
    }
}
