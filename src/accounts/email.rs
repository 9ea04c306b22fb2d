//! E-mail addresses as names of accounts.

/// The form in which an address is kept and looked up: lower case, without space
/// around it.
pub fn normalize(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Checks a normalised address. Nothing is ever sent to it, so the rule is loose:
/// one `@` with something on both sides, `admin@localhost` included.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub fn check(email: &str) -> Result<(), &'static str> {
    // RFC 5321, 4.5.3.1.3: a path has at most 256 octets, two of them brackets.
    if email.len() > 254 {
        return Err("an e-mail address has at most 254 characters");
    }
    let forbidden = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',');
    match email.split_once('@') {
        Some((local, domain))
            if !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !email.contains(forbidden) =>
        {
            Ok(())
        }
        _ => Err("an e-mail address has the form name@domain"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_has_one_spelling() {
        assert_eq!(normalize("  Ada@Example.ORG\n"), "ada@example.org");
        for good in ["admin@localhost", "a+b@example.org", "ö@bücher.example"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let long = format!("{}@x.org", "a".repeat(260));
        for bad in ["", "ada", "@x", "ada@", "a@b@c", "a b@c", "a@b\u{7f}", "<a@b>", &long] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
