//! How much a text looks like chance and how little like something that a person
//! or a program names.
//!
//! Three measures, each blind where another sees: Shannon entropy (blind for short
//! texts), the changes between classes of characters (blind for one class) and the
//! surprise of neighbouring letters under a table of English and identifiers
//! (blind for digits).

/// Surprise of each pair of letters in half bits, `a` = 0: the row is the first
/// letter, the column the second. Counted over the words of public source code
/// and its documentation, each word weighed by the square root of its frequency.
static BIGRAMS: &str = include_str!("bigrams.txt");

/// Mean surprise of the pairs of letters, in bits. English words lie between 2.5
/// and 4.6, random letters around 6.1. `None` without enough pairs to tell.
pub fn surprise(text: &[u8]) -> Option<f32> {
    let (sum, pairs) = surprise_sum(text);
    (pairs >= 4).then(|| sum as f32 / (2 * pairs) as f32)
}

fn surprise_sum(text: &[u8]) -> (u32, u32) {
    let table = BIGRAMS.as_bytes();
    let mut sum = 0_u32;
    let mut pairs = 0_u32;
    for pair in text.windows(2) {
        let (a, b) = (pair[0].to_ascii_lowercase(), pair[1].to_ascii_lowercase());
        if !a.is_ascii_lowercase() || !b.is_ascii_lowercase() {
            continue;
        }
        // Each row has 26 letters and a line end.
        let at = usize::from(a - b'a') * 27 + usize::from(b - b'a');
        if let Some(cell) = table.get(at) {
            sum += u32::from(cell.saturating_sub(b'a'));
            pairs += 1;
        }
    }
    (sum, pairs)
}

/// Shannon entropy over bytes, in bits per byte.
pub fn entropy(text: &[u8]) -> f32 {
    if text.is_empty() {
        return 0.0;
    }
    let mut counts = [0_u32; 256];
    for b in text {
        counts[usize::from(*b)] += 1;
    }
    let n = text.len() as f32;
    counts.iter().filter(|c| **c > 0).map(|c| *c as f32 / n).map(|p| -p * p.log2()).sum()
}

/// Number of different bytes.
pub fn distinct(text: &[u8]) -> usize {
    let mut seen = [false; 256];
    for b in text {
        seen[usize::from(*b)] = true;
    }
    seen.iter().filter(|s| **s).count()
}

/// The classes of characters in a text, and how often one follows another.
#[derive(Debug, Default, Clone, Copy)]
pub struct Classes {
    /// Small letters.
    pub lower: usize,
    /// Capital letters.
    pub upper: usize,
    /// Digits.
    pub digit: usize,
    /// Everything else.
    pub symbol: usize,
    /// Neighbours of different class, not counting the capital that opens a word.
    pub changes: usize,
}

impl Classes {
    /// Counts the classes of a text.
    pub fn of(text: &[u8]) -> Self {
        let class = |b: u8| match b {
            b'a'..=b'z' => 0,
            b'A'..=b'Z' => 1,
            b'0'..=b'9' => 2,
            _ => 3,
        };
        let mut all = Self::default();
        let mut before = None;
        for b in text {
            let now = class(*b);
            match now {
                0 => all.lower += 1,
                1 => all.upper += 1,
                2 => all.digit += 1,
                _ => all.symbol += 1,
            }
            if let Some(before) = before {
                // "Word" is one unit, so a capital before a small letter is none.
                if before != now && !(before == 1 && now == 0) {
                    all.changes += 1;
                }
            }
            before = Some(now);
        }
        all
    }

    /// How many of the four classes occur.
    pub fn kinds(&self) -> usize {
        [self.lower, self.upper, self.digit, self.symbol].iter().filter(|n| **n > 0).count()
    }
}

/// How random a text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rarity {
    /// Words, a name, a plain number, a pattern.
    Plain,
    /// What a person makes up as a password.
    Made,
    /// What a generator gives.
    Random,
}

/// Judges a text of one line.
pub fn rarity(text: &[u8]) -> Rarity {
    let classes = Classes::of(text);
    let length = text.len();
    let different = distinct(text);
    if length < 6 || different < 4 || is_sequence(text) {
        return Rarity::Plain;
    }
    if is_random(text, &classes, different) {
        return Rarity::Random;
    }
    let letters = classes.lower + classes.upper;
    if letters == 0 {
        return Rarity::Plain;
    }
    let strange = surprise(text).is_some_and(|s| s >= 5.3);
    let mixed = classes.kinds() >= 3
        || (classes.digit > 0 && letters > 0 && classes.symbol == 0 && classes.changes >= 2)
        || (classes.digit >= 2 && letters >= 3 && classes.symbol == 0);
    if strange || mixed { Rarity::Made } else { Rarity::Plain }
}

fn is_random(text: &[u8], classes: &Classes, different: usize) -> bool {
    let length = text.len();
    if length < 12 {
        return false;
    }
    let letters = classes.lower + classes.upper;
    if text.iter().all(u8::is_ascii_hexdigit) && (classes.lower == 0 || classes.upper == 0) {
        // Hex of random bytes: ten digits to six letters, hardly ever far from it.
        return length >= 16
            && different >= 7
            && classes.digit * 20 >= length * 7
            && classes.digit * 8 <= length * 7
            && entropy(text) >= 2.8;
    }
    let rate = classes.changes as f32 / (length - 1) as f32;
    let surprise = surprise(text);
    if classes.kinds() <= 1 {
        // Letters of one case only: nothing but the pairs can tell.
        return letters == length && length >= 14 && surprise.is_some_and(|s| s >= 5.3);
    }
    if different * 2 < length.min(32) || classes.symbol * 5 > length * 2 {
        return false;
    }
    // What letters there are tell more the rarer their pairs; without enough of
    // them the changes of class have to tell alone.
    let strange = |least: f32| surprise.is_none_or(|s| s >= least);
    let bits = entropy(text);
    // The entropy that n draws show on average grows with log2(n).
    let wanted = (length as f32).log2() * 0.74;
    bits >= wanted.min(4.2) && ((rate >= 0.33 && strange(4.7)) || (rate >= 0.15 && strange(5.2)))
}

/// True for counting up, counting down, runs and repetitions: `123456789`,
/// `abcdefgh`, `aaaaabbbb`, `abcabcabc`, `qwertyuiop`.
pub fn is_sequence(text: &[u8]) -> bool {
    if text.len() < 4 {
        return true;
    }
    let steps = text.len() - 1;
    let same_step = text
        .windows(2)
        .filter(|pair| matches!(i16::from(pair[1]) - i16::from(pair[0]), -1..=1))
        .count();
    if same_step * 3 > steps * 2 {
        return true;
    }
    for period in 1..=(text.len() / 3).min(16) {
        if text.iter().zip(text.iter().skip(period)).all(|(a, b)| a == b) {
            return true;
        }
    }
    let lower = text.to_ascii_lowercase();
    ["qwertyuiop", "asdfghjkl", "zxcvbnm", "1q2w3e4r", "1qaz2wsx"]
        .iter()
        .any(|row| row.as_bytes().starts_with(&lower[..lower.len().min(row.len())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(BIGRAMS.lines().count(), 26);
        assert!(
            BIGRAMS.lines().all(|l| l.len() == 26 && l.bytes().all(|b| b.is_ascii_lowercase()))
        );
    }

    #[test]
    fn words_surprise_less_than_chance() {
        for word in ["authentication", "serviceaccount", "getUserName", "configuration"] {
            assert!(surprise(word.as_bytes()).unwrap() < 4.6, "{word}");
        }
        for chance in ["xkjfhqwezp", "qwjkhzxvvt", "gvtqkxbzwp"] {
            assert!(surprise(chance.as_bytes()).unwrap() > 5.3, "{chance}");
        }
        assert_eq!(surprise(b"a1b2c3"), None);
    }

    #[test]
    fn names_and_patterns_are_plain() {
        for text in [
            "password",
            "user_password",
            "getAccessToken",
            "my-service-account",
            "12345678",
            "123456789012",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "qwertyuiop",
            "abcdefghijkl",
            "application/json",
            "SECRET_KEY",
            "AccessTokenProvider",
        ] {
            assert_eq!(rarity(text.as_bytes()), Rarity::Plain, "{text}");
        }
    }

    #[test]
    fn made_up_passwords_are_seen() {
        for text in ["hX7-kitten", "Tr0ub4dor&3", "b1gB1rd99", "Kd83!sommer"] {
            assert!(rarity(text.as_bytes()) >= Rarity::Made, "{text}");
        }
    }

    #[test]
    fn generated_values_are_random() {
        for text in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "wJalrXUtnFEMIK7MDENGbPxRfiCYzk3p",
            "q8Zt3LmPx0Yv7RbKc2Wd",
            "xkjfhqwezpmtbvrgd",
        ] {
            assert_eq!(rarity(text.as_bytes()), Rarity::Random, "{text}");
        }
    }
}
