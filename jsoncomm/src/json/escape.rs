//! Which bytes of a string need an escape.
//!
//! 64 bytes are looked at at once, where `serde_json` looks at each: that is most of what a long string costs.

/// Bytes that are looked at at once; the compiler turns that into a few instructions on wide registers.
const WIDE: usize = 64;

/// Returns true if a byte cannot stand for itself in a string (RFC 8259, section 7).
const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Counts the bytes at the front of `text` that stand for themselves.
fn plain(text: &[u8]) -> usize {
    // Joined as bytes: the code for bools takes three times as long.
    let is_plain = |part: &&[u8]| {
        let special = |any, byte: &u8| any | u8::from(is_special(*byte));
        part.iter().fold(0, special) == 0
    };
    let parts = text.chunks_exact(WIDE).take_while(is_plain).count();
    let length = WIDE * parts;
    length + plain_words(text.get(length..).unwrap_or_default())
}

/// Counts the bytes at the front of `text` that stand for themselves, where most often there are few.
#[inline]
pub(super) fn plain_front(text: &[u8]) -> usize {
    let Some((word, after)) = text.split_first_chunk::<8>() else {
        return plain_words(text);
    };
    match special(u64::from_le_bytes(*word)) {
        0 => 8 + plain_behind(after),
        special => first(special),
    }
}

#[inline(never)]
fn plain_behind(text: &[u8]) -> usize {
    match plain_words(text.get(..WIDE).unwrap_or(text)) {
        WIDE => plain(text),
        near => near,
    }
}

/// Counts the bytes at the front of `text` that stand for themselves, eight at a time.
#[inline]
pub(super) fn plain_words(text: &[u8]) -> usize {
    let mut rest = text;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return text.len() - rest.len() + first(special);
        }
        rest = after;
    }
    text.len() - rest.len() + first(special(word(rest))).min(rest.len())
}

/// Returns the less than eight bytes of `text`, filled up with spaces.
#[inline]
fn word(text: &[u8]) -> u64 {
    let bytes = match (text.first_chunk(), text.last_chunk()) {
        // The two halves may overlap.
        (Some(front), Some(back)) => {
            let (front, back) = (u32::from_le_bytes(*front), u32::from_le_bytes(*back));
            u64::from(front) | u64::from(back) << (8 * (text.len() - 4))
        }
        _ => {
            let shifted = |word, byte: &u8| word << 8 | u64::from(*byte);
            text.iter().rev().fold(0, shifted)
        }
    };
    bytes | (u64::from_le_bytes([b' '; 8]) << (8 * text.len()))
}

/// Sets the highest bit of the first byte that [is special](is_special); those of later bytes may be set too.
#[inline]
const fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    // A byte below `than`, which is at most 128, borrows from its highest bit.
    const fn below(word: u64, than: u64) -> u64 {
        word.wrapping_sub(ONES * than) & !word
    }
    let quote = below(word ^ (ONES * b'"' as u64), 1);
    let backslash = below(word ^ (ONES * b'\\' as u64), 1);
    (below(word, 0x20) | quote | backslash) & (ONES << 7)
}

/// Returns the index of the first byte whose highest bit is set; 8 if there is none.
#[inline]
const fn first(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8
}

/// Returns the text of a string, which has its quotes and only escapes that JSON has. `None` if one of them is half of a
/// surrogate pair without the other.
pub(super) fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted.strip_prefix('"')?.strip_suffix('"')?;
    while let Some((plain, escape)) = rest.split_once('\\') {
        text.push_str(plain);
        let (kind, after) = escape.split_at_checked(1)?;
        rest = after;
        text.push(match kind {
            "b" => '\u{8}',
            "f" => '\u{c}',
            "n" => '\n',
            "r" => '\r',
            "t" => '\t',
            "u" => character(&mut rest)?,
            _ => kind.chars().next()?,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Reads the character of an escape from after its `u` on: one or two UTF-16 units.
fn character(rest: &mut &str) -> Option<char> {
    let first = unit(rest)?;
    let second = match first {
        0xd800..0xdc00 => {
            *rest = rest.strip_prefix("\\u")?;
            unit(rest)?
        }
        _ => 0,
    };
    char::decode_utf16([first, second]).next()?.ok()
}

fn unit(rest: &mut &str) -> Option<u16> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    u16::from_str_radix(digits, 16).ok()
}

/// Appends `text` as a JSON string. `serde_json` writes one that needs escapes.
pub(crate) fn put_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let is_short = bytes.len() < WIDE;
    let plain = if is_short {
        plain_words(bytes)
    } else {
        plain(bytes)
    };
    if plain < bytes.len() {
        // Writing to a `Vec` cannot fail.
        return drop(serde_json::to_writer(out, text));
    }
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    out.extend_from_slice(bytes);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        put_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_character_is_escaped_as_by_serde_json_in_every_position() {
        for special in (0..=0x7f)
            .map(char::from)
            .chain(['\u{80}', 'ä', '\u{2028}', '😀'])
        {
            for before in [0, 1, WIDE - 1, WIDE, WIDE + 1, 2 * WIDE - 1] {
                let text = format!("{}{special}{}", "x".repeat(before), "y".repeat(WIDE));
                assert_eq!(written(&text), serde_json::to_string(&text).unwrap());
            }
        }
    }

    #[test]
    fn unescaped_text_ends_at_the_first_character_to_escape() {
        for length in 0..4 * WIDE {
            let mut text = vec![b'x'; length];
            for count in [plain, plain_words] {
                assert_eq!(count(&text), length);
            }
            for special in (0..=0xff).filter(|byte| is_special(*byte)) {
                text.extend([special, b'x', special, 0xff]);
                for count in [plain, plain_words] {
                    assert_eq!(count(&text), length, "{special}");
                }
                text.truncate(length);
            }
            text.fill(0xff);
            assert_eq!(plain(&text), length);
            assert_eq!(plain_words(&text), length);
        }
    }
}
