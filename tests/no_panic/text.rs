//! Damage to bytes: what a disk, an editor or a download does.

use super::random::Random;

/// What numbers and other values are replaced by.
pub const NASTY: [&str; 30] = [
    "1e999",
    "-1e999",
    "1e308",
    "-1e308",
    "5e-324",
    "1e-400",
    "NaN",
    "nan",
    "inf",
    "-1",
    "0",
    "1",
    "-0.0",
    "0.5",
    "18446744073709551615",
    "18446744073709551616",
    "4294967296",
    "4294967295",
    "9007199254740993",
    "99999999999999999999999999999999999999",
    "0x10",
    "01",
    "null",
    "true",
    "\"\"",
    "\"x\"",
    "\"\\u0000\\u001b[31m\\n\"",
    "\"\u{202e}\u{feff}\u{10ffff}\"",
    "[]",
    "{}",
];

/// The bytes after one to three kinds of damage.
pub fn damaged(valid: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for _ in 0..=random.below(3) {
        damage(&mut bytes, random);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(8) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let new: Vec<u8> = (0..=random.below(12)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, new);
        }
        // A piece of the input in another place.
        4 => {
            let (a, b) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
            let piece = bytes[a.min(b)..a.max(b)].to_vec();
            bytes.splice(at..at, piece);
        }
        // Marks and bytes that are nowhere allowed.
        5 => {
            const MARKS: [&[u8]; 5] = [b"\xef\xbb\xbf", b"\0\0\0", b"\xff\xfe\0", b"\xed\xa0\x80", b"\r\n\t"];
            bytes.splice(at..at, random.pick(&MARKS).iter().copied());
        }
        // The number at or after the place.
        _ => {
            let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit) else { return };
            let start = at + start;
            let number = |b: &u8| b.is_ascii_digit() || b".-+e".contains(b);
            let length = bytes[start..].iter().take_while(|b| number(b)).count();
            bytes.splice(start..start + length, random.pick(&NASTY).bytes());
        }
    }
}
