//! Every key, good and bad.

use super::*;

fn config(values: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut sources = Sources::default();
    sources.add(values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    Config::from_sources(sources)
}

#[test]
fn defaults_are_usable() {
    let config = config(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert!(config.database_url.ends_with("/sluice-data/sluice.db"));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn a_queue_of_sqs_goes_with_postgres() {
    let postgres = [
        ("SLUICE_DATABASE_URL", "postgres://localhost/sluice"),
        ("SLUICE_JWT_SECRET", "a secret that is long enough, too"),
        ("SLUICE_QUEUE", "sqs://Jobs-of_1"),
    ];
    assert_eq!(config(&postgres).unwrap().queue, QueueUrl::Sqs("Jobs-of_1".into()));
    let long = format!("sqs://{}", "x".repeat(76));
    let too_long = [postgres[0], postgres[1], ("SLUICE_QUEUE", long.as_str())];
    assert!(config(&too_long).unwrap_err().to_string().contains("1 to 75"));
}

#[test]
fn every_price_has_a_key() {
    for item in ITEMS {
        assert!(KEYS.iter().any(|key| key.env == item.env), "{}", item.env);
        let config = config(&[(item.env, "0.25"), ("SLUICE_CURRENCY", "EUR")]).unwrap();
        let price = config.prices.items().find(|(of, _)| of.env == item.env).unwrap().1;
        assert_eq!((price.to_string().as_str(), config.prices.currency.as_str()), ("0.25", "EUR"));
    }
}

#[test]
fn every_bad_value_names_its_key() {
    for (key, value) in [
        ("SLUICE_LISTEN", "nowhere"),
        ("SLUICE_PUBLIC_URL", "ftp://x"),
        ("SLUICE_PUBLIC_URL", "http://user:pw@x"),
        ("SLUICE_DATABASE_URL", "mysql://x"),
        ("SLUICE_STORAGE", "ftp://x"),
        ("SLUICE_QUEUE", "rabbit"),
        ("SLUICE_QUEUE", "sqs://"),
        ("SLUICE_QUEUE", "sqs://two/names"),
        ("SLUICE_QUEUE", "sqs://jobs.fifo"),
        // With SQLite, which is what there is if nothing is said.
        ("SLUICE_QUEUE", "sqs://jobs"),
        ("SLUICE_JWT_SECRET", "short"),
        ("SLUICE_WORKERS", "0"),
        ("SLUICE_WORKERS", "many"),
        ("SLUICE_LOG_FORMAT", "xml"),
        ("SLUICE_ALLOW_PRIVATE_URLS", "perhaps"),
        ("SLUICE_ALLOW_HTTP_URLS", "perhaps"),
        ("SLUICE_DNS_SERVERS", "127.0.0.1,nowhere"),
        ("SLUICE_TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.0/40"),
        ("SLUICE_CURRENCY", "dollars"),
        ("SLUICE_PRICE_PUSH", "-0.5"),
        ("SLUICE_PRICE_STORAGE_GB_HOUR", "1e3"),
        ("SLUICE_LIMIT_PUSH_BYTES", "-1"),
        ("SLUICE_LIMIT_PUSH_BITES", "1"),
        ("SLUICE_LIMIT_PATH_BYTES", "4097"),
        ("SLUICE_ADVISORIES", "/does/not/exist"),
        ("SLUICE_ADMIN_PASSWORD", "short"),
    ] {
        let error = config(&[(key, value)]).unwrap_err().to_string();
        assert!(error.contains(key), "{key}={value}: {error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn secrets_are_neither_repeated_nor_printed() {
    let error = config(&[("SLUICE_JWT_SECRET", "hunter2")]).unwrap_err().to_string();
    assert!(!error.contains("hunter2"));
    let ok = config(&[("SLUICE_JWT_SECRET", &"x".repeat(32))]).unwrap();
    assert!(!format!("{ok:?}").contains("xxxx"));
    let two = format!("{},{}", "x".repeat(32), "y".repeat(40));
    let ok = config(&[("SLUICE_JWT_SECRETS_ACCEPTED", &two)]).unwrap();
    assert_eq!(ok.accepted_secrets.len(), 2);
    assert!(!format!("{ok:?}").contains("yyyy"));
    let short = format!("{},hunter2", "x".repeat(32));
    let error = config(&[("SLUICE_JWT_SECRETS_ACCEPTED", &short)]).unwrap_err().to_string();
    assert!(error.contains("SLUICE_JWT_SECRETS_ACCEPTED") && !error.contains("hunter2"));
}

#[test]
fn only_a_build_for_tests_can_be_told_to_die() {
    assert_eq!(config(&[("SLUICE_FAULT", "push.stored")]).is_ok(), cfg!(debug_assertions));
    assert_eq!(config(&[]).unwrap().fault, None);
}

#[test]
fn postgres_needs_a_shared_secret() {
    let error = config(&[("SLUICE_DATABASE_URL", "postgres://h/d")]).unwrap_err().to_string();
    assert!(error.contains("SLUICE_JWT_SECRET"));
}

#[test]
fn a_file_takes_both_spellings_and_loses_to_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sluice.toml");
    std::fs::write(&path, "workers = 3\nSLUICE_LOG = \"debug\"\nlimit_push_bytes = 5\n").unwrap();
    let mut sources = Sources::default();
    sources.add([("SLUICE_WORKERS".to_owned(), "4".to_owned())]);
    sources.add(read_file(&path).unwrap());
    let config = Config::from_sources(sources).unwrap();
    assert_eq!((config.workers, config.log.as_str()), (4, "debug"));
    assert_eq!(config.limits.push_bytes, 5);
}

#[test]
fn a_worker_listens_only_where_it_is_told_to() {
    let unset = config(&[]).unwrap();
    assert_eq!((unset.listen.to_string().as_str(), unset.worker_listen), ("127.0.0.1:8000", None));
    let set = config(&[("SLUICE_LISTEN", "0.0.0.0:9000")]).unwrap();
    assert_eq!(
        (set.listen.to_string().as_str(), set.worker_listen),
        ("0.0.0.0:9000", Some(set.listen))
    );
}
