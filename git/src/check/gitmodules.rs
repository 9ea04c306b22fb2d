//! Looking into `.gitmodules`: values that have been used to attack git.

use super::Oddity;

/// Looks for submodules whose name, address or path has been used to attack git
/// (fsck: `gitmodulesName`, `gitmodulesUrl`, `gitmodulesPath`). Reads lines as git's
/// configuration does where it matters: section names in quotes, `key = value`.
pub(crate) fn read(data: &[u8], mut odd: impl FnMut(Oddity, &[u8])) {
    for line in data.split(|byte| *byte == b'\n') {
        let carriage_return = line.ends_with(b"\r");
        let text = line.trim_ascii();
        if let Some(section) = text.strip_prefix(b"[submodule \"") {
            let name = section.split(|byte| *byte == b'"').next().unwrap_or_default();
            if gix_validate::submodule::name(name.into()).is_err() {
                odd(Oddity::SubmoduleName, name);
            }
            continue;
        }
        let Some(equals) = text.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let key = text[..equals].trim_ascii().to_ascii_lowercase();
        let raw = text[equals + 1..].trim_ascii();
        let value = raw
            .strip_prefix(b"\"")
            .map_or(raw, |quoted| quoted.strip_suffix(b"\"").unwrap_or(quoted));
        let option = value.starts_with(b"-");
        let newline = value.to_ascii_lowercase().windows(3).any(|part| part == b"%0a")
            || value.windows(2).any(|part| part == b"\\n");
        match &key[..] {
            b"url" if option || newline => odd(Oddity::SubmoduleUrl, value),
            b"path"
                if option
                    || value.ends_with(b"\r")
                    || (carriage_return && raw.starts_with(b"\"")) =>
            {
                odd(Oddity::SubmodulePath, value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd(text: &str) -> Vec<Oddity> {
        let mut found = Vec::new();
        read(text.as_bytes(), |oddity, _| found.push(oddity));
        found
    }

    #[test]
    fn ordinary_submodules_pass() {
        let text = "[submodule \"libs/zlib\"]\n\tpath = libs/zlib\n\turl = https://example.com/z-lib.git\n";
        assert_eq!(odd(text), []);
        assert_eq!(odd(&text.replace('\n', "\r\n")), [], "a file with Windows line ends");
    }

    #[test]
    fn known_attacks_are_seen() {
        assert_eq!(odd("[submodule \"../../x\"]\n"), [Oddity::SubmoduleName]);
        assert_eq!(odd("url = -u./payload\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("URL = https://host/%0ahost=evil\n"), [Oddity::SubmoduleUrl]);
        assert_eq!(odd("path = -rf\n"), [Oddity::SubmodulePath]);
        assert_eq!(odd("path = \"a\r\"\n"), [Oddity::SubmodulePath]);
    }
}
