//! Files that git itself reads: `.gitmodules` and `.gitattributes`.

use super::{Message, Refused, Report};
use crate::check::{Oddity, gitmodules};

/// Git stops reading a longer line of attributes.
const MAX_LINE: usize = 2048;

/// Git does not read more attributes, and more submodules than fit there nobody has.
pub(crate) const MAX_FILE: u64 = 100 << 20;

/// Checks the content of a `.gitmodules`; `None` is one that is larger than [`MAX_FILE`].
pub(crate) fn modules(data: Option<&[u8]>, report: &mut Report<'_>) -> Result<(), Refused> {
    let Some(data) = data else {
        return report.say(Message::GitmodulesLarge, ".gitmodules too large to parse");
    };
    let mut refused = Ok(());
    gitmodules::read(data, |oddity, _, value| {
        let (message, what) = match oddity {
            Oddity::SubmoduleName => (Message::GitmodulesName, "name"),
            Oddity::SubmoduleUrl => (Message::GitmodulesUrl, "url"),
            Oddity::SubmodulePath => (Message::GitmodulesPath, "path"),
            Oddity::SubmoduleUpdate => (Message::GitmodulesUpdate, "update setting"),
            _ => return,
        };
        say(&mut refused, report, message, what, value);
    });
    refused
}

fn say(
    refused: &mut Result<(), Refused>,
    report: &mut Report<'_>,
    message: Message,
    what: &str,
    value: &[u8],
) {
    if refused.is_ok() {
        let value: String = String::from_utf8_lossy(value).chars().take(200).collect();
        *refused = report.say(message, &format!("disallowed submodule {what}: {value}"));
    }
}

/// Checks a `.gitattributes`; `None` is one that is larger than [`MAX_FILE`].
pub(crate) fn attributes(data: Option<&[u8]>, report: &mut Report<'_>) -> Result<(), Refused> {
    let Some(data) = data else {
        return report.say(Message::GitattributesLarge, "gitattributes too large to parse");
    };
    if data.split(|byte| *byte == b'\n').any(|line| line.len() >= MAX_LINE) {
        let text = "gitattributes has too long lines to parse";
        return report.say(Message::GitattributesLineLength, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gix_hash::ObjectId;

    use super::{super::Levels, *};

    fn check(work: impl FnOnce(&mut Report<'_>) -> Result<(), Refused>) -> String {
        let id = ObjectId::null(gix_hash::Kind::Sha1);
        let levels = Levels::default();
        let mut warn = |_| {};
        work(&mut Report::new(&levels, &id, &mut warn)).err().unwrap_or_default()
    }

    #[test]
    fn modules_and_attributes() {
        let read = |text: &str| check(|report| modules(Some(text.as_bytes()), report));
        assert_eq!(read("[submodule \"a\"]\n\tpath = a\n\turl = ../a\n\tupdate = none\n"), "");
        assert!(read("[submodule \"../a\"]\n").contains("gitmodulesName"));
        assert!(read("url = -u./x\n").contains("gitmodulesUrl"));
        assert!(read("path = -x\n").contains("gitmodulesPath"));
        assert!(read("update = !rm\n").contains("gitmodulesUpdate"));
        assert!(check(|report| modules(None, report)).contains("gitmodulesLarge"));
        assert_eq!(check(|report| attributes(Some(b"* text\n"), report)), "");
        let long = vec![b'x'; MAX_LINE];
        assert!(check(|report| attributes(Some(&long), report)).contains("LineLength"));
        assert!(check(|report| attributes(None, report)).contains("gitattributesLarge"));
    }
}
