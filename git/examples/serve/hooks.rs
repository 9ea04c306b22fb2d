//! Running the operator's programs, with the environment that git gives them.
//!
//! What a hook prints is shown to the pusher as it comes. A hook that is missing or not executable
//! agrees with everything.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use sluice_git::{Certificate, CheckedPush, Command, Messages, NonceStatus, ObjectId, Refusal};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process,
    sync::mpsc,
};

use crate::{repository::Bare, signature::Signer};

/// Longer lines are shown in parts.
const MAX_LINE: u64 = 8 << 10;

/// What one hook gets beside its arguments.
#[derive(Default)]
pub struct Tool<'a> {
    /// The object folder in which what is new still waits.
    pub quarantine: Option<&'a Path>,
    /// Its standard input.
    pub lines: String,
}

/// The hooks of one push.
pub struct Hooks {
    folder: PathBuf,
    hooks: PathBuf,
    environment: Vec<(String, String)>,
    /// Of the push; `update` does not get it.
    options: Vec<(String, String)>,
}

impl Hooks {
    pub fn new(bare: &Bare, push: &CheckedPush) -> Self {
        let (name, email) = bare.pusher.identity();
        let mut environment = vec![
            ("GIT_DIR".to_owned(), ".".to_owned()),
            ("GIT_COMMITTER_NAME".to_owned(), name),
            ("GIT_COMMITTER_EMAIL".to_owned(), email),
        ];
        if let Some(user) = &bare.pusher.user {
            environment.push(("REMOTE_USER".to_owned(), user.replace('\0', "")));
        }
        if let Some(address) = bare.pusher.address {
            environment.push(("REMOTE_ADDR".to_owned(), address.ip().to_string()));
        }
        let mut options = Vec::new();
        if bare.settings.push.push_options {
            options.push(("GIT_PUSH_OPTION_COUNT".to_owned(), push.options.len().to_string()));
            for (at, option) in push.options.iter().enumerate() {
                options.push((format!("GIT_PUSH_OPTION_{at}"), option.replace('\0', "")));
            }
        }
        let (folder, hooks) = (bare.folder.clone(), bare.settings.hooks.clone());
        Self { folder, hooks, environment, options }
    }

    /// The push was signed; the certificate is kept as this blob.
    pub fn certificate(
        &mut self,
        blob: ObjectId,
        certificate: &Certificate,
        signer: &Signer,
        asked: bool,
    ) {
        let mut set = |name: &str, value: String| {
            self.environment.push((format!("GIT_PUSH_CERT{name}"), value.replace('\0', "")));
        };
        set("", blob.to_string());
        set("_SIGNER", signer.name.clone());
        set("_KEY", signer.key.clone());
        set("_STATUS", signer.status.to_string());
        if asked {
            set("_NONCE", certificate.nonce.clone().unwrap_or_default());
            set("_NONCE_STATUS", certificate.nonce_status.word().to_owned());
            if let NonceStatus::Slop { seconds } = certificate.nonce_status {
                set("_NONCE_SLOP", seconds.to_string());
            }
        }
    }

    /// The standard input of a hook that sees all commands at once.
    pub fn lines<'a>(commands: impl Iterator<Item = &'a Command>) -> String {
        let lines =
            commands.map(|command| format!("{} {} {}\n", command.old, command.new, command.name));
        lines.collect::<Vec<_>>().concat()
    }

    /// Runs a hook and says whether it agrees.
    pub async fn run(
        &self,
        name: &str,
        arguments: &[String],
        tool: Tool<'_>,
        messages: &mut Messages,
    ) -> Result<bool, Refusal> {
        let program = self.hooks.join(name);
        let executable = tokio::fs::metadata(&program)
            .await
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        if !executable {
            return Ok(true);
        }
        let mut command = process::Command::new(&program);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !matches!(name, "update" | "post-update") {
            command.envs(self.options.iter().cloned());
        }
        if let Some(quarantine) = tool.quarantine {
            command
                .env("GIT_QUARANTINE_PATH", quarantine)
                .env("GIT_OBJECT_DIRECTORY", quarantine)
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.folder.join("objects"));
        }
        self.talk(command, tool.lines, messages).await.map_err(Refusal::internal)
    }

    async fn talk(
        &self,
        mut command: process::Command,
        input: String,
        messages: &mut Messages,
    ) -> io::Result<bool> {
        let mut child = command.spawn()?;
        let (lines, mut shown) = mpsc::channel(16);
        if let Some(output) = child.stdout.take() {
            tokio::spawn(read_lines(output, lines.clone()));
        }
        if let Some(output) = child.stderr.take() {
            tokio::spawn(read_lines(output, lines));
        }
        if let Some(mut stdin) = child.stdin.take() {
            // A hook need not read what it does not want to know.
            tokio::spawn(async move { stdin.write_all(input.as_bytes()).await });
        }
        while let Some(line) = shown.recv().await {
            messages.say(&line).await;
        }
        Ok(child.wait().await?.success())
    }
}

async fn read_lines(output: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    use tokio::io::AsyncReadExt as _;
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut output).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(1..) => {
                let _ = lines.send(String::from_utf8_lossy(&line).into_owned()).await;
            }
            _ => return,
        }
    }
}
