//! Decimals: integers with a known number of places, never floats.

use std::fmt;

/// Places of a price.
const PRICE_PLACES: u32 = 9;

/// Largest price: keeps every product within 128 bits.
const MAX_PRICE: i128 = 1_000_000;

/// What one unit costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price(i128);

impl Price {
    /// Reads `0.00025`: at most nine places, at most a million.
    ///
    /// # Errors
    ///
    /// What it must be, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const WHAT: &str = "must be a price such as 0.25, with at most 9 decimal places and at \
                            most 1000000";
        let (whole, places) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 7
            || places.len() > PRICE_PLACES as usize
            || !digits(whole)
            || !digits(places)
            || text.ends_with('.')
        {
            return Err(WHAT);
        }
        let value: i128 = format!("{whole}{places:0<9}").parse().map_err(|_| WHAT)?;
        if value > MAX_PRICE * 10_i128.pow(PRICE_PLACES) {
            return Err(WHAT);
        }
        Ok(Self(value))
    }

    /// What so many cost, where `quantity` has `places` decimal places (at most nine).
    pub fn times(self, quantity: u64, places: u32) -> Amount {
        let shift = 10_i128.pow(PRICE_PLACES.saturating_sub(places));
        // 2^63 bytes at the highest price fit; what is counted one by one would have to
        // come to 10^14 first.
        Amount(i128::from(quantity).saturating_mul(self.0).saturating_mul(shift))
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, PRICE_PLACES, 2)
    }
}

/// An amount of money, exact to the last place and never rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(i128);

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.fold(0, |sum, amount| sum.saturating_add(amount.0)))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, 2 * PRICE_PLACES, 2)
    }
}

/// A quantity with this many decimal places.
pub struct Quantity(pub u64, pub u32);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, i128::from(self.0), self.1, 0)
    }
}

/// Zeros at the end are left out, but for the first `at_least` places.
fn write(f: &mut fmt::Formatter<'_>, value: i128, places: u32, at_least: usize) -> fmt::Result {
    let unit = 10_i128.pow(places);
    let whole = value / unit;
    let mut text = format!("{:0width$}", value % unit, width = places as usize);
    if places == 0 {
        text.clear();
    }
    while text.len() > at_least && text.ends_with('0') {
        text.pop();
    }
    if text.is_empty() { write!(f, "{whole}") } else { write!(f, "{whole}.{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_and_shown_exactly() {
        for (text, shown) in [
            ("0", "0.00"),
            ("1", "1.00"),
            ("0.1", "0.10"),
            ("0.000000001", "0.000000001"),
            ("1000000", "1000000.00"),
            ("12.345", "12.345"),
        ] {
            assert_eq!(Price::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for text in ["", ".5", "1.", "-1", "1e3", "0.0000000001", "1000001", "1,5", " 1", "١"] {
            assert!(Price::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn amounts_are_exact() {
        let price = Price::parse("0.1").unwrap();
        assert_eq!(price.times(3, 0).to_string(), "0.30");
        // A third of a binary fraction would not come out like this.
        let sum: Amount = (0..10).map(|_| price.times(1, 0)).sum();
        assert_eq!(sum, Price::parse("1").unwrap().times(1, 0));
        // One byte at the price of a GB.
        let byte = Price::parse("0.05").unwrap().times(1, 9);
        assert_eq!(byte.to_string(), "0.00000000005");
        assert_eq!(Price::parse("2").unwrap().times(1500, 3).to_string(), "3.00");
        let most = Price::parse("1000000").unwrap();
        assert_eq!(most.times(i64::MAX as u64, 9).to_string(), "9223372036854775.807");
        assert_eq!(Quantity(1_500, 3).to_string(), "1.5");
        assert_eq!(Quantity(12, 0).to_string(), "12");
        assert_eq!(Quantity(1, 9).to_string(), "0.000000001");
    }
}
