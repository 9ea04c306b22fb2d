//! Push options: what the person who pushes asks for with `git push -o …`.

use sluice_git::Refusal;
use uuid::Uuid;

use super::access::database;
use crate::db::projects;
use crate::db::uploads::{PushOptions, Upload};
use crate::scan::Severity;
use crate::server::App;

/// The options that exist, as they are listed to whoever used another.
const KNOWN: &str = "wait, fail-on=SEVERITY, no-scan, project=NAME";

/// What was asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Wishes {
    /// `-o wait`: follow ingest and scan, and show what was found.
    pub(super) wait: bool,
    /// `-o fail-on=SEVERITY`: check before any ref moves.
    pub(super) fail_on: Option<Severity>,
    /// `-o no-scan`: ingest, but do not scan.
    pub(super) no_scan: bool,
    /// `-o project=NAME`, or the project's id.
    project: Option<String>,
}

impl Wishes {
    /// Reads the options in the client's order.
    ///
    /// # Errors
    ///
    /// A sentence that names the first option that is unknown, was given twice with
    /// two values, or makes no sense.
    pub(super) fn parse(given: &[String]) -> Result<Self, Refusal> {
        let mut wishes = Self::default();
        for option in given {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            match (name, value) {
                ("wait", None) => wishes.wait = true,
                ("no-scan", None) => wishes.no_scan = true,
                ("fail-on", Some(value)) => {
                    let severity = value.parse().map_err(|why: String| {
                        Refusal::forbidden(format!(
                            "The push option fail-on={}: {why}.",
                            shown(value)
                        ))
                    })?;
                    once("fail-on", &mut wishes.fail_on, severity)?;
                }
                ("project", Some(value)) if !value.trim().is_empty() => {
                    once("project", &mut wishes.project, value.trim().to_owned())?;
                }
                ("wait" | "no-scan", Some(_)) => {
                    return Err(Refusal::forbidden(format!(
                        "The push option {name} takes no value."
                    )));
                }
                ("fail-on", None) => {
                    return Err(Refusal::forbidden(
                        "The push option fail-on needs a severity, as in -o fail-on=high.",
                    ));
                }
                ("project", _) => {
                    return Err(Refusal::forbidden(
                        "The push option project needs a name, as in -o project=shop.",
                    ));
                }
                _ => {
                    return Err(Refusal::forbidden(format!(
                        "The push option {:?} is not known here. Known are: {KNOWN}.",
                        shown(name)
                    )));
                }
            }
        }
        Ok(wishes)
    }

    /// What the transaction of the push has to know of it. Looks the project up.
    ///
    /// # Errors
    ///
    /// A sentence if there is no such project, if its name is not enough, or if the
    /// remote fills a repository of another one already.
    pub(super) async fn resolve(&self, app: &App, upload: &Upload) -> Result<PushOptions, Refusal> {
        let project_id = match &self.project {
            Some(name) => Some(project(app, upload, name).await?),
            None => None,
        };
        Ok(PushOptions { no_scan: self.no_scan, history: true, project_id })
    }
}

fn once<T: PartialEq>(name: &str, slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    if slot.as_ref().is_some_and(|before| *before != value) {
        return Err(Refusal::forbidden(format!(
            "The push option {name} was given twice with two values."
        )));
    }
    *slot = Some(value);
    Ok(())
}

/// What may be repeated to the terminal of the person who pushed.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// The project of the remote's owner that is meant.
async fn project(app: &App, upload: &Upload, name: &str) -> Result<Uuid, Refusal> {
    let found = match Uuid::try_parse(name) {
        Ok(id) => projects::get(&app.db, upload.owner_id, id).await.map(Vec::from_iter),
        Err(_) => projects::by_name(&app.db, upload.owner_id, name).await,
    };
    let name = shown(name);
    let project = match found.map_err(database)?.as_slice() {
        [] => {
            return Err(Refusal::forbidden(format!(
                "There is no project {name:?}. Make it first with POST /v1/projects/."
            )));
        }
        [project] => project.id,
        _ => {
            return Err(Refusal::forbidden(format!(
                "There are several projects {name:?}. Give the id of one: -o project=ID."
            )));
        }
    };
    if upload.repository_id.is_some() && upload.project_id != project {
        return Err(Refusal::forbidden(format!(
            "This remote fills a repository of another project than {name:?} already. Leave \
             the option out, or make a new upload."
        )));
    }
    Ok(project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Wishes, String> {
        let given: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
        Wishes::parse(&given).map_err(|refusal| refusal.message)
    }

    #[test]
    fn all_known_options_together() {
        let all = ["wait", "fail-on=high", "no-scan", "project= a shop ", "fail-on=high"];
        let wishes = parse(&all).unwrap();
        assert!(wishes.wait && wishes.no_scan);
        assert_eq!(wishes.fail_on, Some(Severity::High));
        assert_eq!(wishes.project.as_deref(), Some("a shop"));
        assert_eq!(parse(&[]).unwrap(), Wishes::default());
    }

    #[test]
    fn others_are_refused_by_name() {
        for (option, says) in [
            ("foo", "\"foo\" is not known"),
            ("foo=bar", "\"foo\" is not known"),
            ("", "\"\" is not known"),
            ("wait=1", "wait takes no value"),
            ("fail-on", "needs a severity"),
            ("fail-on=bad", "use info, low"),
            ("project", "needs a name"),
            ("project=", "needs a name"),
            ("a\x1b[2Jb", "\"a[2Jb\""),
        ] {
            let said = parse(&[option]).unwrap_err();
            assert!(said.contains(says), "{option:?}: {said}");
        }
        let said = parse(&["fail-on=high", "fail-on=low"]).unwrap_err();
        assert!(said.contains("twice"), "{said}");
    }
}
