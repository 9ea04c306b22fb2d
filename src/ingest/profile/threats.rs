//! From what was seen to sentences: each threat rests on a trait that was seen in the
//! files it names; nothing is claimed that rests on nothing.

use std::collections::BTreeSet;

use super::{Exposure, ProfileSource, Rating, Seen, Stride, Threat, ThreatProfile};
use crate::ingest::LanguageStat;

/// Files that are named for one threat.
pub(super) const MAX_PATHS: usize = 20;

/// Something that was seen in files and that threats rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trait {
    Http,
    Port,
    Sql,
    Commands,
    Files,
    Credentials,
    OutgoingHttp,
    Deserialises,
    PersonalData,
    PaymentData,
    Store,
    Service,
    UntrustedWorkflow,
    RootContainer,
}

/// Trait, id, category, title, impact, mitigation.
const THREATS: &[(Trait, &str, Stride, &str, Rating, &str)] = &[
    (
        Trait::Sql,
        "sql-injection",
        Stride::Tampering,
        "Input that reaches a database statement changes the statement",
        Rating::High,
        "Bind every value as a parameter; never build statements from strings.",
    ),
    (
        Trait::Commands,
        "command-injection",
        Stride::ElevationOfPrivilege,
        "Input that reaches a started program runs commands on the server",
        Rating::High,
        "Start programs with a list of arguments and without a shell; allow only known values.",
    ),
    (
        Trait::Deserialises,
        "unsafe-deserialisation",
        Stride::ElevationOfPrivilege,
        "Serialised objects from outside run code while they are read",
        Rating::High,
        "Take in plain data formats only, such as JSON, and check them against a schema.",
    ),
    (
        Trait::Files,
        "file-access",
        Stride::InformationDisclosure,
        "Names of uploaded or requested files lead outside of their folder",
        Rating::Medium,
        "Choose file names on the server, resolve paths and check that they stay in the folder.",
    ),
    (
        Trait::OutgoingHttp,
        "request-forgery",
        Stride::InformationDisclosure,
        "Addresses from outside make the server call services of its own network",
        Rating::Medium,
        "Allow known hosts only and refuse private addresses after name resolution.",
    ),
    (
        Trait::Credentials,
        "credential-theft",
        Stride::Spoofing,
        "Guessed or leaked credentials let somebody act as another user",
        Rating::High,
        "Throttle sign-in, keep passwords only as slow hashes and secrets out of the repository.",
    ),
    (
        Trait::Http,
        "missing-authorisation",
        Stride::ElevationOfPrivilege,
        "A route that forgets to ask who calls gives away what it serves",
        Rating::High,
        "Refuse by default, check access where the data is read, and test every route without rights.",
    ),
    (
        Trait::Http,
        "resource-exhaustion",
        Stride::DenialOfService,
        "Large or many requests use up memory, connections or workers",
        Rating::Medium,
        "Bound the size of bodies and pages, set time-outs, and limit rates per caller.",
    ),
    (
        Trait::PersonalData,
        "personal-data",
        Stride::InformationDisclosure,
        "Personal data leaks through answers, logs or backups",
        Rating::High,
        "Return only the fields that are needed, keep them out of logs, and encrypt backups.",
    ),
    (
        Trait::PaymentData,
        "payment-audit",
        Stride::Repudiation,
        "A payment is disputed and nothing proves who asked for it",
        Rating::Medium,
        "Write an append-only record of each payment with caller, time and amount.",
    ),
    (
        Trait::UntrustedWorkflow,
        "workflow-takeover",
        Stride::ElevationOfPrivilege,
        "A workflow that strangers can start runs with the rights of the repository",
        Rating::High,
        "Do not check out or run code of strangers in it, and give its token read rights only.",
    ),
    (
        Trait::RootContainer,
        "root-container",
        Stride::ElevationOfPrivilege,
        "A weakness in the service gives root within its container",
        Rating::Medium,
        "Add a USER line with an unprivileged account to the image.",
    ),
];

/// Which traits need somebody outside to reach the code before they matter.
fn likelihood(what: Trait, reachable: bool) -> Rating {
    match what {
        Trait::UntrustedWorkflow => Rating::Medium,
        Trait::RootContainer => Rating::Low,
        _ if reachable => Rating::Medium,
        _ => Rating::Low,
    }
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn owned(names: &BTreeSet<&'static str>) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn put_into_words(
    mut seen: Seen,
    languages: &[LanguageStat],
    vendored: &BTreeSet<String>,
    files: usize,
) -> ThreatProfile {
    let paths = |what| seen.traits.get(&what).cloned().unwrap_or_default();
    let has = |what| seen.traits.contains_key(&what);
    let (http, port) = (has(Trait::Http), has(Trait::Port));
    let reachable = http || port;
    // Routes behind a published port are taken to face the internet until a person says
    // otherwise, as the other mistake would hide what matters. A route alone tells that
    // requests come in, not from how far.
    let exposure =
        match (http && port, reachable, seen.entry_points.iter().any(|e| e.kind == "cli")) {
            (true, ..) => Exposure::Internet,
            (_, true, _) => Exposure::Unknown,
            (_, _, true) => Exposure::Local,
            _ => Exposure::Unknown,
        };
    if has(Trait::Credentials) {
        seen.sensitive.insert("credentials");
    }
    if has(Trait::PersonalData) {
        seen.sensitive.insert("personal data");
    }
    if has(Trait::PaymentData) {
        seen.sensitive.insert("payment data");
    }
    let threats: Vec<Threat> = THREATS
        .iter()
        .filter(|(what, ..)| has(*what))
        .map(|(what, id, category, title, impact, mitigation)| Threat {
            id: (*id).to_owned(),
            category: *category,
            title: (*title).to_owned(),
            affected_paths: paths(*what).into_iter().collect(),
            likelihood: likelihood(*what, reachable),
            impact: *impact,
            mitigation: (*mitigation).to_owned(),
        })
        .collect();
    let mut boundaries = Vec::new();
    if reachable {
        boundaries.push("Network callers to the service's routes and ports.".to_owned());
    }
    if !seen.data_stores.is_empty() {
        let stores = owned(&seen.data_stores).join(", ");
        boundaries.push(format!("The service to its data stores ({stores})."));
    }
    if !seen.services.is_empty() {
        let services = owned(&seen.services).join(", ");
        boundaries.push(format!("The service to services of others ({services})."));
    }
    if has(Trait::Commands) {
        boundaries.push("The process to the programs that it starts.".to_owned());
    }
    if seen.entry_points.iter().any(|e| e.kind == "workflow") {
        boundaries.push("Contributors to the workflows that build the project.".to_owned());
    }
    seen.entry_points.sort_by(|a, b| {
        (&a.path, a.line, &a.kind, &a.detail).cmp(&(&b.path, b.line, &b.kind, &b.detail))
    });
    seen.entry_points.dedup();

    let names: Vec<String> = languages.iter().map(|l| l.name.clone()).collect();
    let total: u64 = languages.iter().map(|l| l.files).sum();
    let mut summary = match names.as_slice() {
        [] => "No source files in a known language.".to_owned(),
        names => {
            let main: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
            let files = count(total as usize, "source file", "source files");
            format!("{files}, mostly {}.", main.join(", "))
        }
    };
    if !seen.frameworks.is_empty() {
        summary.push_str(&format!(" Uses {}.", owned(&seen.frameworks).join(", ")));
    }
    let routes = seen.entry_points.iter().filter(|e| e.kind == "http").count();
    if routes > 0 {
        summary.push_str(&format!(" {} found.", count(routes, "HTTP route", "HTTP routes")));
    }
    let notes = if seen.cut {
        format!("Generated from {files} files; the budget ended before all were read.")
    } else {
        String::new()
    };
    ThreatProfile {
        summary,
        languages: names,
        frameworks: owned(&seen.frameworks),
        data_stores: owned(&seen.data_stores),
        external_services: owned(&seen.services),
        sensitive_data: owned(&seen.sensitive),
        trust_boundaries: boundaries,
        exposure,
        threats,
        excluded_paths: vendored.iter().take(100).cloned().collect(),
        notes,
        entry_points: seen.entry_points,
        source: ProfileSource::Generated,
        version: 1,
    }
}
