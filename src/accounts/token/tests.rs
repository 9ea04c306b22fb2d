use super::*;

#[test]
fn a_token_is_known_by_its_form_and_checksum() {
    for kind in [Kind::ApiKey, Kind::Upload] {
        let (token, kept) = new_token(kind);
        assert_eq!(token.len(), 4 + 32 + 6);
        assert!(token.starts_with(kind.prefix()));
        assert_eq!(parse(&token), Some((kind, kept)));
        assert_ne!(new_token(kind).0, token);
        // No single character can be another one.
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(parse(std::str::from_utf8(&other).unwrap()), None, "{at}");
        }
        assert_eq!(parse(&token[..token.len() - 1]), None);
        assert_eq!(parse(&format!("{token}0")), None);
        assert_eq!(parse(&format!(" {token}")), None);
    }
    for bad in ["", "slk_", "slk_é", &format!("slk_{}", "é".repeat(19)), "ghp_x"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}

/// The checksum is part of the contract with secret scanners: CRC-32 of the text
/// before it, base62 with digits first, most significant first, padded with zeros.
#[test]
fn the_checksum_is_what_the_contract_says() {
    // The check value of CRC-32/ISO-HDLC.
    let mut value = 0u64;
    for digit in checksum("123456789").bytes() {
        value = value * 62 + BASE62.iter().position(|&b| b == digit).unwrap() as u64;
    }
    assert_eq!(value, 0xCBF4_3926);
    assert_eq!(checksum(""), "000000");
    assert!(62u64.pow(CHECKSUM as u32) > u64::from(u32::MAX));
}

#[test]
fn refresh_tokens_are_random() {
    let (token, kept) = new_refresh_token();
    assert_eq!(token.len(), 43);
    assert_eq!(hash(&token), kept);
    assert_ne!(new_refresh_token().0, token);
}

const KEY: [u8; 32] = [7; 32];

fn claims() -> Claims {
    Claims::new(Uuid::now_v7(), Uuid::now_v7(), jiff::Timestamp::now().as_second())
}

/// A token with any header and claims, signed right.
fn forge(header: &str, claims: &serde_json::Value, key: &[u8]) -> String {
    use hmac::Mac as _;
    let text = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut mac = hmac::Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

const HS256: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

#[test]
fn an_access_token_says_what_it_was_given() {
    let signer = Signer::new(&KEY, "k");
    let claims = claims();
    assert_eq!(claims.exp - claims.iat, 900);
    assert_eq!(signer.check(&signer.sign(&claims).unwrap()), Ok(claims.clone()));
    // The forger of the tests below makes good tokens where nothing is bent.
    let good = forge(HS256, &serde_json::to_value(&claims).unwrap(), &KEY);
    assert_eq!(signer.check(&good), Ok(claims));
}

#[test]
fn bent_access_tokens_are_refused() {
    let signer = Signer::new(&KEY, "k");
    let good = serde_json::to_value(claims()).unwrap();
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[name] = value;
        forge(HS256, &claims, &KEY)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        forge(HS256, &claims, &KEY)
    };
    let past = jiff::Timestamp::now().as_second() - 1;
    assert_eq!(signer.check(&with("exp", past.into())), Err(Refused::Expired));
    let whole = signer.sign(&claims()).unwrap();
    let (text, _) = whole.rsplit_once('.').unwrap();
    let (_, body) = text.split_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"none"}"#);
    for (what, token) in [
        ("another audience", with("aud", "other".into())),
        ("another issuer", with("iss", "other".into())),
        ("no audience", without("aud")),
        ("no issuer", without("iss")),
        ("no end", without("exp")),
        ("no session", without("sid")),
        ("no account", without("sub")),
        ("no UUID", with("sub", "me".into())),
        ("another key", forge(HS256, &good, &[8; 32])),
        ("another algorithm", forge(r#"{"typ":"JWT","alg":"HS384"}"#, &good, &KEY)),
        ("an asymmetric algorithm", forge(r#"{"typ":"JWT","alg":"RS256"}"#, &good, &KEY)),
        ("alg none, no signature", format!("{none}.{body}.")),
        ("alg none, signed", forge(r#"{"typ":"JWT","alg":"none"}"#, &good, &KEY)),
        ("no signature", format!("{text}.")),
        ("two parts", text.to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
    ] {
        assert_eq!(signer.check(&token), Err(Refused::Invalid), "{what}");
    }
}
