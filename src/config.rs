//! Configuration: every key once, with its name, default, meaning and check.
//!
//! A flag beats the environment, which beats the TOML file named by `--config`.
//! All of it is read and checked before anything is opened or bound; an unknown
//! key or an unusable value stops the start with one line that names it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use url::Url;

use crate::billing::decimal::Price;
use crate::billing::{ITEMS, Prices};

/// What is wrong with the configuration, as one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where jobs wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueUrl {
    /// In the database.
    Embedded,
    /// Told of by messages of this queue of SQS.
    Sqs(String),
}

/// A key that is no quota: name, default as shown to people, meaning.
pub struct Key {
    /// Environment variable; in the TOML file the same, or lower case without the
    /// prefix.
    pub env: &'static str,
    /// Default, as shown in help.
    pub default: &'static str,
    /// Meaning, as shown in help.
    pub meaning: &'static str,
}

const fn key(env: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key { env, default, meaning }
}

/// Every key but the quotas.
pub const KEYS: &[Key] = &[
    key(
        "SLUICE_LISTEN",
        "127.0.0.1:8000",
        "address to bind (:0 picks a free port); a worker's only if it is set",
    ),
    key("SLUICE_PUBLIC_URL", "http://localhost:8000", "what clients reach the server by"),
    key("SLUICE_DATA_DIR", "./sluice-data", "everything that the embedded run keeps"),
    key("SLUICE_DATABASE_URL", "sqlite://<data>/sluice.db", "sqlite://… or postgres://…"),
    key("SLUICE_STORAGE", "file://<data>/objects", "file://DIR or s3://BUCKET[/PREFIX]"),
    key("SLUICE_QUEUE", "embedded", "embedded (jobs wait in the database), or sqs://QUEUE_NAME"),
    key("SLUICE_JWT_SECRET", "generated", "signs access tokens; at least 32 characters"),
    key(
        "SLUICE_JWT_SECRETS_ACCEPTED",
        "none",
        "further ones that are accepted, commas between: see `sluice reseal`",
    ),
    key("SLUICE_WORKERS", "number of cores", "jobs that one process runs side by side"),
    key("SLUICE_LOG", "info", "tracing filter"),
    key("SLUICE_LOG_FORMAT", "text", "text or json"),
    key("SLUICE_ADMIN_EMAIL", "admin@localhost", "first account"),
    key("SLUICE_ADMIN_PASSWORD", "generated", "password of the first account"),
    key("SLUICE_ADVISORIES", "none", "folder of OSV records, or `sample`"),
    key("SLUICE_CURRENCY", "USD", "currency of the prices, a code of ISO 4217"),
    key("SLUICE_PRICE_PUSH", "0", ITEMS[0].meaning),
    key("SLUICE_PRICE_RECEIVED_GB", "0", ITEMS[1].meaning),
    key("SLUICE_PRICE_STORAGE_GB_HOUR", "0", ITEMS[2].meaning),
    key("SLUICE_PRICE_SCAN", "0", ITEMS[3].meaning),
    key("SLUICE_PRICE_SCAN_CPU_SECOND", "0", ITEMS[4].meaning),
    key("SLUICE_PRICE_FILE_SCANNED", "0", ITEMS[5].meaning),
    key("SLUICE_ALLOW_PRIVATE_URLS", "false", "lets clone-by-URL reach private networks"),
    key("SLUICE_ALLOW_HTTP_URLS", "false", "lets clone-by-URL use http:// besides https://"),
    key(
        "SLUICE_TRUSTED_PROXIES",
        "none",
        "proxies whose X-Forwarded-For tells the client's address: IP[/BITS],…",
    ),
    key("SLUICE_DNS_SERVERS", "the system's", "name servers for clone-by-URL: IP[:PORT],…"),
];

/// A quota: shown by `/v1/ops/limits`, set by its environment variable.
#[derive(Debug, Clone, Copy)]
pub struct LimitSpec {
    /// Name in the API.
    pub name: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Default.
    pub default: u64,
    /// `bytes`, `count`, `seconds`.
    pub unit: &'static str,
    /// What it bounds.
    pub meaning: &'static str,
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:expr, $unit:literal, $env:literal;)*) => {
        /// The quotas. Each is documented where it is listed, in [`LIMITS`].
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Default for Limits {
            fn default() -> Self { Self { $($name: $default,)* } }
        }

        /// Every quota.
        pub const LIMITS: &[LimitSpec] = &[$(LimitSpec {
            name: stringify!($name), env: $env, default: $default, unit: $unit,
            meaning: concat!($($doc),+),
        },)*];

        impl Limits {
            /// The value of a quota by its name.
            pub fn get(&self, name: &str) -> Option<u64> {
                match name { $(stringify!($name) => Some(self.$name),)* _ => None }
            }

            fn set(&mut self, env: &str, value: u64) -> bool {
                match env { $($env => self.$name = value,)* _ => return false }
                true
            }
        }
    };
}

limits! {
    /// Bytes of one pack.
    push_bytes = 4 << 30, "bytes", "SLUICE_LIMIT_PUSH_BYTES";
    /// Objects in one pack.
    push_objects = 10_000_000, "count", "SLUICE_LIMIT_PUSH_OBJECTS";
    /// Bytes of one object, inflated.
    object_bytes = 512 << 20, "bytes", "SLUICE_LIMIT_OBJECT_BYTES";
    /// Sum of the inflated bytes of the entries of one pack.
    push_inflated_bytes = 64 << 30, "bytes", "SLUICE_LIMIT_PUSH_INFLATED_BYTES";
    /// Sum of the bytes of all objects of one pack, deltas resolved.
    push_resolved_bytes = 256 << 30, "bytes", "SLUICE_LIMIT_PUSH_RESOLVED_BYTES";
    /// Length of a chain of deltas.
    delta_depth = 4095, "count", "SLUICE_LIMIT_DELTA_DEPTH";
    /// Entries of one directory.
    tree_entries = 250_000, "count", "SLUICE_LIMIT_TREE_ENTRIES";
    /// Bytes of a path, at most 4,096: of each name in a push, and of whole paths of what
    /// is ingested.
    path_bytes = 4096, "bytes", "SLUICE_LIMIT_PATH_BYTES";
    /// Bytes of one object of Git LFS.
    lfs_object_bytes = 4 << 30, "bytes", "SLUICE_LIMIT_LFS_OBJECT_BYTES";
    /// Refs of one upload.
    upload_refs = 50_000, "count", "SLUICE_LIMIT_UPLOAD_REFS";
    /// Commands of one push.
    push_commands = 10_000, "count", "SLUICE_LIMIT_PUSH_COMMANDS";
    /// Time of one push.
    push_seconds = 3600, "seconds", "SLUICE_LIMIT_PUSH_SECONDS";
    /// How long a push with `-o wait` follows its scan.
    push_wait_seconds = 1800, "seconds", "SLUICE_LIMIT_PUSH_WAIT_SECONDS";
    /// Time without a byte after which a push is given up.
    push_idle_seconds = 120, "seconds", "SLUICE_LIMIT_PUSH_IDLE_SECONDS";
    /// Pushes that one server receives at once; more wait. One account gets at most half, and
    /// leaves as many free as it has. The same of fetches and of objects of Git LFS.
    pushes_at_once = 64, "count", "SLUICE_LIMIT_PUSHES_AT_ONCE";
    /// Pushes at once with one token, for each server; more are refused.
    pushes_per_token = 32, "count", "SLUICE_LIMIT_PUSHES_PER_TOKEN";
    /// Bytes that one remote keeps: packs, indices and objects of Git LFS; 0 is no limit.
    upload_stored_bytes = 32 << 30, "bytes", "SLUICE_LIMIT_UPLOAD_STORED_BYTES";
    /// Bytes that one project keeps, of snapshots and artefacts too; they stop pushes,
    /// fetches and archives, but no job. 0 is no limit.
    project_stored_bytes = 1 << 40, "bytes", "SLUICE_LIMIT_PROJECT_STORED_BYTES";
    /// Bytes that the server keeps, of all projects, counted anew every few seconds; 0 is
    /// no limit.
    server_stored_bytes = 0, "bytes", "SLUICE_LIMIT_SERVER_STORED_BYTES";
    /// Time of one fetch of a repository or archive by URL.
    fetch_seconds = 3600, "seconds", "SLUICE_LIMIT_FETCH_SECONDS";
    /// Bytes of packs that one process keeps at hand besides the storage, at least those
    /// that it works with; 0 is no limit. Packs that are links into the storage do not
    /// count.
    git_cache_bytes = 20 << 30, "bytes", "SLUICE_LIMIT_GIT_CACHE_BYTES";
    /// Files of one snapshot.
    snapshot_files = 1_000_000, "count", "SLUICE_LIMIT_SNAPSHOT_FILES";
    /// Bytes of one snapshot.
    snapshot_bytes = 16 << 30, "bytes", "SLUICE_LIMIT_SNAPSHOT_BYTES";
    /// Bytes of a file that is scanned; larger ones are reported and left out.
    scan_file_bytes = 16 << 20, "bytes", "SLUICE_LIMIT_SCAN_FILE_BYTES";
    /// Findings of one scan.
    scan_findings = 50_000, "count", "SLUICE_LIMIT_SCAN_FINDINGS";
    /// Time of one scan.
    scan_seconds = 3600, "seconds", "SLUICE_LIMIT_SCAN_SECONDS";
    /// Bytes of one archive, as it is sent.
    archive_bytes = 1 << 30, "bytes", "SLUICE_LIMIT_ARCHIVE_BYTES";
    /// Time of reading one archive.
    archive_seconds = 1800, "seconds", "SLUICE_LIMIT_ARCHIVE_SECONDS";
    /// Bytes of the body of an API request; archives have a limit of their own.
    request_bytes = 1 << 20, "bytes", "SLUICE_LIMIT_REQUEST_BYTES";
    /// Requests of one account to the API in a minute, over all servers; 0 is no limit.
    requests_per_minute = 600_000, "count", "SLUICE_LIMIT_REQUESTS_PER_MINUTE";
    /// Longest life of a git upload.
    upload_seconds = 30 * 24 * 3600, "seconds", "SLUICE_LIMIT_UPLOAD_SECONDS";
    /// Failed sign-ins of an account from one address in 15 minutes; ten times as many of
    /// an account, or from an address, in all.
    login_failures = 10, "count", "SLUICE_LIMIT_LOGIN_FAILURES";
    /// Projects of one account.
    projects = 10_000, "count", "SLUICE_LIMIT_PROJECTS";
    /// Git uploads of one account that still answer.
    uploads = 10_000, "count", "SLUICE_LIMIT_UPLOADS";
    /// API keys of one account.
    api_keys = 1_000, "count", "SLUICE_LIMIT_API_KEYS";
}

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Where a worker tells of itself: only where it is told to.
    pub worker_listen: Option<SocketAddr>,
    /// What clients reach the server by; `None`: `http://localhost:<port>`.
    pub public_url: Option<Url>,
    /// Everything that the embedded run keeps.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`.
    pub database_url: String,
    /// `file://DIR` or `s3://BUCKET[/PREFIX]`.
    pub storage: String,
    /// Where jobs wait.
    pub queue: QueueUrl,
    /// `None`: generated and kept in the data folder.
    pub jwt_secret: Option<Secret>,
    /// What was made with one of these is accepted too: the next secret before a rotation,
    /// the one before after it.
    pub accepted_secrets: Vec<Secret>,
    /// Jobs that run side by side.
    pub workers: usize,
    /// Tracing filter.
    pub log: String,
    /// Text or JSON.
    pub log_format: LogFormat,
    /// E-mail of the first account.
    pub admin_email: String,
    /// Password of the first account; `None`: generated.
    pub admin_password: Option<Secret>,
    /// Folder of OSV records, or `sample`.
    pub advisories: Option<String>,
    /// Clone-by-URL may reach private networks.
    pub allow_private_urls: bool,
    /// Clone-by-URL may use `http://`.
    pub allow_http_urls: bool,
    /// Name servers for clone-by-URL; none: the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// Who may say in `X-Forwarded-For` where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// The quotas.
    pub limits: Limits,
    /// What usage costs.
    pub prices: Prices,
    /// Where the process dies, for tests: see [`sluice_git::fault`]. Never set in a
    /// release build, which does not know the key.
    pub fault: Option<String>,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Values by environment name, the strongest source first.
#[derive(Debug, Default)]
pub struct Sources {
    values: BTreeMap<String, String>,
}

impl Sources {
    /// Adds values that do not beat those already there.
    fn add(&mut self, values: impl IntoIterator<Item = (String, String)>) {
        for (key, value) in values {
            self.values.entry(key).or_insert(value);
        }
    }

    /// These values (by environment name) and no others: nothing of the user's.
    pub fn given<'a>(values: impl IntoIterator<Item = (&'static str, &'a str)>) -> Self {
        let mut sources = Self::default();
        sources.add(values.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
        sources
    }

    /// Flags (by environment name), then the environment, then the file.
    pub fn read(
        flags: Vec<(&'static str, Option<String>)>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let mut sources = Self::default();
        sources.add(flags.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))));
        sources.add(std::env::vars_os().filter_map(|(key, value)| {
            let key = key.into_string().ok()?;
            key.starts_with("SLUICE_").then(|| (key, value.to_string_lossy().into_owned()))
        }));
        if let Some(path) = file {
            sources.add(read_file(path)?);
        }
        Ok(sources)
    }
}

fn read_file(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| ConfigError(format!("--config {}: {e}", path.display())))?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|e| ConfigError(format!("--config {}: {}", path.display(), e.message())))?;
    table
        .into_iter()
        .map(|(key, value)| {
            let upper = key.to_ascii_uppercase();
            let env = if upper.starts_with("SLUICE_") { upper } else { format!("SLUICE_{upper}") };
            let value = match value {
                toml::Value::String(v) => v,
                toml::Value::Integer(v) => v.to_string(),
                toml::Value::Boolean(v) => v.to_string(),
                _ => {
                    return Err(ConfigError(format!(
                        "{key} in {} must be a string, a number, true or false",
                        path.display()
                    )));
                }
            };
            Ok((env, value))
        })
        .collect()
}

impl Config {
    /// Checks all values.
    ///
    /// # Errors
    ///
    /// The first unknown key or unusable value, by name. Values of secrets are not
    /// repeated in the message.
    pub fn from_sources(mut sources: Sources) -> Result<Self, ConfigError> {
        let mut limits = Limits::default();
        for spec in LIMITS {
            if let Some(text) = sources.values.remove(spec.env) {
                limits.set(spec.env, parse_number(spec.env, &text)?);
            }
        }
        if limits.path_bytes > crate::snapshot::MAX_PATH as u64 {
            return Err(ConfigError(format!(
                "SLUICE_LIMIT_PATH_BYTES {} must be at most {}",
                limits.path_bytes,
                crate::snapshot::MAX_PATH
            )));
        }
        let mut take = |env: &'static str| sources.values.remove(env).filter(|v| !v.is_empty());
        let worker_listen = take("SLUICE_LISTEN").map(|text| parse_listen(&text)).transpose()?;
        let listen = worker_listen.map_or_else(|| parse_listen("127.0.0.1:8000"), Ok)?;
        let public_url =
            take("SLUICE_PUBLIC_URL").map(|text| parse_public_url(&text)).transpose()?;
        let data_dir = PathBuf::from(take("SLUICE_DATA_DIR").unwrap_or("./sluice-data".into()));
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|e| ConfigError(format!("SLUICE_DATA_DIR {}: {e}", data_dir.display())))?;
        let database_url =
            take("SLUICE_DATABASE_URL").unwrap_or_else(|| crate::db::sqlite_url(&data_dir));
        let postgres = database_url.starts_with("postgres");
        if !postgres && !database_url.starts_with("sqlite://") {
            return Err(ConfigError(
                "SLUICE_DATABASE_URL must start with sqlite:// or postgres://".into(),
            ));
        }
        let storage = take("SLUICE_STORAGE")
            .unwrap_or_else(|| format!("file://{}", data_dir.join("objects").display()));
        // Not repeated: it might hold credentials, which belong elsewhere.
        crate::storage::Location::parse(&storage).map_err(|why| {
            ConfigError(format!("SLUICE_STORAGE must be file://DIR or s3://BUCKET[/PREFIX]: {why}"))
        })?;
        let queue = parse_queue(take("SLUICE_QUEUE").as_deref(), postgres)?;
        let jwt_secret = take("SLUICE_JWT_SECRET").map(Secret);
        if jwt_secret.as_ref().is_some_and(|s| s.0.len() < 32) {
            return Err(ConfigError("SLUICE_JWT_SECRET needs at least 32 characters".into()));
        }
        if postgres && jwt_secret.is_none() {
            return Err(ConfigError(
                "SLUICE_JWT_SECRET is required with PostgreSQL: every replica needs the same"
                    .into(),
            ));
        }
        let accepted_secrets = take("SLUICE_JWT_SECRETS_ACCEPTED").unwrap_or_default();
        let accepted_secrets = parse_secrets(&accepted_secrets)?;
        let workers = match take("SLUICE_WORKERS") {
            Some(text) => parse_number("SLUICE_WORKERS", &text)?,
            None => std::thread::available_parallelism().map_or(2, |n| n.get() as u64),
        };
        if !(1..=256).contains(&workers) {
            return Err(ConfigError(format!("SLUICE_WORKERS {workers} must be 1 to 256")));
        }
        let log = take("SLUICE_LOG").unwrap_or("info".into());
        tracing_subscriber::EnvFilter::try_new(&log)
            .map_err(|e| ConfigError(format!("SLUICE_LOG {log:?}: {e}")))?;
        let log_format = match take("SLUICE_LOG_FORMAT").as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                return Err(ConfigError(format!(
                    "SLUICE_LOG_FORMAT {other:?} must be text or json"
                )));
            }
        };
        let admin_email = take("SLUICE_ADMIN_EMAIL").unwrap_or("admin@localhost".into());
        let admin_password = take("SLUICE_ADMIN_PASSWORD").map(Secret);
        if admin_password.as_ref().is_some_and(|p| !(8..=1024).contains(&p.0.len())) {
            return Err(ConfigError("SLUICE_ADMIN_PASSWORD needs 8 to 1024 characters".into()));
        }
        let advisories = take("SLUICE_ADVISORIES");
        if let Some(dir) = advisories.as_deref().filter(|v| *v != "sample")
            && !Path::new(dir).is_dir()
        {
            return Err(ConfigError(format!("SLUICE_ADVISORIES {dir:?} is no folder")));
        }
        let mut flag = |env: &'static str| match take(env).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(ConfigError(format!("{env} {other:?} must be true or false"))),
        };
        let allow_private_urls = flag("SLUICE_ALLOW_PRIVATE_URLS")?;
        let allow_http_urls = flag("SLUICE_ALLOW_HTTP_URLS")?;
        let dns_servers = take("SLUICE_DNS_SERVERS").unwrap_or_default();
        let dns_servers = parse_dns_servers(&dns_servers)?;
        let trusted_proxies = take("SLUICE_TRUSTED_PROXIES").unwrap_or_default();
        let trusted_proxies = parse_networks(&trusted_proxies)?;
        let prices = prices(&mut take)?;
        let fault = if cfg!(debug_assertions) { take("SLUICE_FAULT") } else { None };
        sources.values.retain(|_, v| !v.is_empty());
        if let Some(unknown) = sources.values.keys().next() {
            return Err(ConfigError(format!(
                "unknown configuration key {unknown}: see `sluice serve --help`"
            )));
        }
        Ok(Self {
            listen,
            worker_listen,
            public_url,
            data_dir,
            database_url,
            storage,
            queue,
            jwt_secret,
            accepted_secrets,
            workers: workers as usize,
            log,
            log_format,
            admin_email,
            admin_password,
            advisories,
            allow_private_urls,
            allow_http_urls,
            dns_servers,
            trusted_proxies,
            limits,
            prices,
            fault,
        })
    }
}

/// `embedded` or `sqs://QUEUE_NAME`.
fn parse_queue(text: Option<&str>, postgres: bool) -> Result<QueueUrl, ConfigError> {
    let Some(text) = text.filter(|text| *text != "embedded") else {
        return Ok(QueueUrl::Embedded);
    };
    let bad = |why: &str| ConfigError(format!("SLUICE_QUEUE {text:?} {why}"));
    let name =
        text.strip_prefix("sqs://").ok_or_else(|| bad("must be embedded, or sqs://QUEUE_NAME"))?;
    if name.ends_with(".fifo") {
        return Err(bad("is a queue in order, which is slow and brings nothing here: name a \
                        standard queue"));
    }
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(1..=75).contains(&name.len()) || !name.bytes().all(known) {
        return Err(bad("must name a queue: 1 to 75 letters, digits, - and _"));
    }
    if !postgres {
        return Err(ConfigError(
            "SLUICE_QUEUE sqs://… needs SLUICE_DATABASE_URL postgres://…: with SQLite one \
             process does all the work and hears of it without messages"
                .into(),
        ));
    }
    Ok(QueueUrl::Sqs(name.to_owned()))
}

fn prices(take: &mut impl FnMut(&'static str) -> Option<String>) -> Result<Prices, ConfigError> {
    let mut prices = Prices::default();
    for (item, price) in ITEMS.iter().zip(&mut prices.unit) {
        if let Some(text) = take(item.env) {
            *price = Price::parse(&text)
                .map_err(|why| ConfigError(format!("{} {text:?} {why}", item.env)))?;
        }
    }
    if let Some(currency) = take("SLUICE_CURRENCY") {
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(ConfigError(format!(
                "SLUICE_CURRENCY {currency:?} must be a code of ISO 4217, such as EUR"
            )));
        }
        prices.currency = currency;
    }
    Ok(prices)
}

fn parse_number(env: &str, text: &str) -> Result<u64, ConfigError> {
    text.trim()
        .replace('_', "")
        .parse()
        .map_err(|_| ConfigError(format!("{env} {text:?} must be a whole number")))
}

/// Secrets, each as long as the one that signs has to be; commas between them.
fn parse_secrets(text: &str) -> Result<Vec<Secret>, ConfigError> {
    let parse = |item: &str| {
        if item.len() < 32 {
            return Err(ConfigError(
                "SLUICE_JWT_SECRETS_ACCEPTED: each secret needs at least 32 characters, and none \
                 may hold a comma"
                    .into(),
            ));
        }
        Ok(Secret(item.to_owned()))
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

/// `HOST:PORT`; `:PORT` stays on this machine, as the default does.
fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let full = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    full.to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(|| ConfigError(format!("SLUICE_LISTEN {text:?} must be ADDRESS:PORT")))
}

/// Addresses, each with the port 53 unless it has one; commas between them.
fn parse_dns_servers(text: &str) -> Result<Vec<SocketAddr>, ConfigError> {
    let parse = |item: &str| {
        let bare = item.parse().map(|ip| SocketAddr::new(ip, 53));
        bare.or_else(|_| item.parse()).map_err(|_| {
            ConfigError(format!("SLUICE_DNS_SERVERS {item:?} must be an address, or ADDRESS:PORT"))
        })
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

/// Networks, or single addresses; commas between them.
fn parse_networks(text: &str) -> Result<Vec<IpNet>, ConfigError> {
    let parse = |item: &str| {
        let bare = item.parse::<IpAddr>().map(IpNet::from);
        bare.or_else(|_| item.parse()).map_err(|_| {
            ConfigError(format!("SLUICE_TRUSTED_PROXIES {item:?} must be an address, or IP/BITS"))
        })
    };
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse).collect()
}

fn parse_public_url(text: &str) -> Result<Url, ConfigError> {
    let bad = |why: &str| ConfigError(format!("SLUICE_PUBLIC_URL {why}"));
    let url = Url::parse(text).map_err(|e| bad(&format!("is no URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(bad("must be http://HOST or https://HOST"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("must not hold a user name or password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("must not have a path, a query or a fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests;
