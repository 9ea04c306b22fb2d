//! The files that name packages, one parser each.
//!
//! A parser takes the text of a file and adds a [`Component`] for each package that
//! the file pins or asks for. Packages of the project itself (workspace members,
//! local paths) are left out. `direct` is told where the file tells it.

mod cargo;
mod composer;
mod go;
mod gradle;
mod json;
mod maven;
mod npm;
mod nuget;
mod pnpm;
mod python;
mod requirements;
mod ruby;
#[cfg(test)]
mod tests;
mod yaml;
mod yarn;

use std::time::Instant;

use crate::scan::model::{Cancel, Component};

use super::purl::purl;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PackageLock,
    Yarn,
    Pnpm,
    Requirements,
    /// Requirements whose name says that they are for development.
    RequirementsDev,
    Poetry,
    Uv,
    Pdm,
    Pipfile,
    Cargo,
    GoMod,
    Pom,
    Gradle,
    Gemfile,
    Composer,
    NuGet,
}

const NAMES: &[(Kind, &str)] = &[
    (Kind::PackageLock, "package-lock.json"),
    (Kind::Yarn, "yarn.lock"),
    (Kind::Pnpm, "pnpm-lock.yaml"),
    (Kind::Requirements, "requirements.txt"),
    (Kind::RequirementsDev, "requirements-dev.txt"),
    (Kind::Poetry, "poetry.lock"),
    (Kind::Uv, "uv.lock"),
    (Kind::Pdm, "pdm.lock"),
    (Kind::Pipfile, "Pipfile.lock"),
    (Kind::Cargo, "Cargo.lock"),
    (Kind::GoMod, "go.mod"),
    (Kind::Pom, "pom.xml"),
    (Kind::Gradle, "gradle.lockfile"),
    (Kind::Gemfile, "Gemfile.lock"),
    (Kind::Composer, "composer.lock"),
    (Kind::NuGet, "packages.lock.json"),
];

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        NAMES.iter().find(|(k, _)| *k == self).map_or("", |(_, name)| name)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, n)| *n == name).map(|(k, _)| *k)
    }

    pub(super) fn of_path(path: &str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match name {
            "npm-shrinkwrap.json" => Some(Self::PackageLock),
            "gems.locked" => Some(Self::Gemfile),
            "buildscript-gradle.lockfile" => Some(Self::Gradle),
            _ => Self::from_name(name).or_else(|| requirements_of_path(folder, name)),
        }
    }
}

/// `requirements.txt`, `requirements-dev.txt`, `dev_requirements.txt`,
/// `requirements/base.txt`, `constraints.txt`.
fn requirements_of_path(folder: &str, name: &str) -> Option<Kind> {
    let stem = name.strip_suffix(".txt")?;
    let in_folder = folder.rsplit('/').next() == Some("requirements");
    let named = stem.starts_with("requirements")
        || stem.ends_with("requirements")
        || matches!(stem, "constraints");
    if !named && !in_folder {
        return None;
    }
    let dev = stem
        .split(['-', '_', '.'])
        .any(|w| matches!(w, "dev" | "develop" | "test" | "tests" | "testing" | "lint" | "docs"));
    Some(if dev { Kind::RequirementsDev } else { Kind::Requirements })
}

/// How long and how much.
pub(super) struct Bounds<'a> {
    pub(super) until: Option<Instant>,
    pub(super) cancel: &'a Cancel,
    pub(super) max_components: usize,
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("it is malformed: {0}")]
    Malformed(String),
    #[error("it names more than {0} packages")]
    TooMany(usize),
    #[error("reading it took too long")]
    TooLong,
    #[error("the scan was cancelled")]
    Cancelled,
}

/// Steps between two looks at the clock.
const STEPS: u32 = 256;

/// Takes the packages of one file within its bounds.
pub(super) struct Collector<'a> {
    bounds: &'a Bounds<'a>,
    ecosystem: &'static str,
    list: Vec<Component>,
    steps: u32,
}

impl<'a> Collector<'a> {
    fn new(bounds: &'a Bounds<'a>, ecosystem: &'static str) -> Self {
        Self { bounds, ecosystem, list: Vec::new(), steps: 0 }
    }

    /// To be called in every loop over something that the file gives.
    fn step(&mut self) -> Result<(), Fault> {
        self.steps += 1;
        if self.steps < STEPS {
            return Ok(());
        }
        self.steps = 0;
        if self.bounds.cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        match self.bounds.until {
            Some(until) if Instant::now() > until => Err(Fault::TooLong),
            _ => Ok(()),
        }
    }

    fn add(&mut self, package: Package<'_>) -> Result<(), Fault> {
        self.step()?;
        if package.name.is_empty() {
            return Ok(());
        }
        if self.list.len() >= self.bounds.max_components {
            return Err(Fault::TooMany(self.bounds.max_components));
        }
        self.list.push(Component {
            ecosystem: self.ecosystem.to_owned(),
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            purl: purl(self.ecosystem, package.name, package.version),
            direct: package.direct,
            dev: package.dev,
            line: package.line,
            requires: package.requires,
        });
        Ok(())
    }
}

/// A package as a parser sees it.
#[derive(Debug, Default)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    direct: Option<bool>,
    dev: bool,
    line: u32,
    requires: Vec<String>,
}

/// Reads a file: its packages, and what kept it from being read whole.
pub(super) fn read(kind: Kind, text: &str, bounds: &Bounds<'_>) -> (Vec<Component>, Option<Fault>) {
    let ecosystem = match kind {
        Kind::PackageLock | Kind::Yarn | Kind::Pnpm => "npm",
        Kind::Requirements
        | Kind::RequirementsDev
        | Kind::Poetry
        | Kind::Uv
        | Kind::Pdm
        | Kind::Pipfile => "PyPI",
        Kind::Cargo => "crates.io",
        Kind::GoMod => "Go",
        Kind::Pom | Kind::Gradle => "Maven",
        Kind::Gemfile => "RubyGems",
        Kind::Composer => "Packagist",
        Kind::NuGet => "NuGet",
    };
    let mut out = Collector::new(bounds, ecosystem);
    let done = match kind {
        Kind::PackageLock => npm::read(text, &mut out),
        Kind::Yarn => yarn::read(text, &mut out),
        Kind::Pnpm => pnpm::read(text, &mut out),
        Kind::Requirements => requirements::read(text, false, &mut out),
        Kind::RequirementsDev => requirements::read(text, true, &mut out),
        Kind::Poetry => python::poetry(text, &mut out),
        Kind::Uv => python::uv(text, &mut out),
        Kind::Pdm => python::pdm(text, &mut out),
        Kind::Pipfile => python::pipfile(text, &mut out),
        Kind::Cargo => cargo::read(text, &mut out),
        Kind::GoMod => go::read(text, &mut out),
        Kind::Pom => maven::read(text, &mut out),
        Kind::Gradle => gradle::read(text, &mut out),
        Kind::Gemfile => ruby::read(text, &mut out),
        Kind::Composer => composer::read(text, &mut out),
        Kind::NuGet => nuget::read(text, &mut out),
    };
    (out.list, done.err())
}

/// Number of a line that is counted from 0, as it is shown.
fn line_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX - 1) + 1
}

/// Lines of the `[[package]]` headers of a TOML lock file, in their order, which is
/// that of the parsed list.
fn package_headers(text: &str) -> Vec<u32> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| line.trim_end() == "[[package]]")
        .map(|(n, _)| line_number(n))
        .collect()
}

/// What a TOML parser says about a file that is none, without quoting it.
fn toml_fault(e: &toml::de::Error) -> Fault {
    Fault::Malformed(e.message().to_owned())
}
