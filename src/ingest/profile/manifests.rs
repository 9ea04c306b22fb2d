//! What manifests say: frameworks, stores and services by the packages they name,
//! ports and workflows.

use std::sync::LazyLock;

use regex::Regex;

use super::Seen;
use super::threats::Trait;

/// What a package tells about the code that needs it.
enum Tells {
    Framework(&'static str),
    Store(&'static str),
    Service(&'static str),
    Data(&'static str),
}
use Tells::{Data, Framework, Service, Store};

/// Package names in all ecosystems; matched as whole words within a manifest.
const PACKAGES: &[(&str, Tells)] = &[
    ("flask", Framework("Flask")),
    ("fastapi", Framework("FastAPI")),
    ("django", Framework("Django")),
    ("aiohttp", Framework("aiohttp")),
    ("starlette", Framework("Starlette")),
    ("tornado", Framework("Tornado")),
    ("celery", Framework("Celery")),
    ("express", Framework("Express")),
    ("koa", Framework("Koa")),
    ("fastify", Framework("Fastify")),
    ("@nestjs/core", Framework("NestJS")),
    ("next", Framework("Next.js")),
    ("react", Framework("React")),
    ("vue", Framework("Vue")),
    ("@angular/core", Framework("Angular")),
    ("spring-boot-starter-web", Framework("Spring Boot")),
    ("spring-boot-starter", Framework("Spring Boot")),
    ("spring-webmvc", Framework("Spring MVC")),
    ("quarkus-rest", Framework("Quarkus")),
    ("github.com/gin-gonic/gin", Framework("Gin")),
    ("github.com/labstack/echo/v4", Framework("Echo")),
    ("github.com/go-chi/chi/v5", Framework("chi")),
    ("github.com/gorilla/mux", Framework("Gorilla mux")),
    ("github.com/gofiber/fiber/v2", Framework("Fiber")),
    ("axum", Framework("axum")),
    ("actix-web", Framework("Actix Web")),
    ("rocket", Framework("Rocket")),
    ("rails", Framework("Rails")),
    ("sinatra", Framework("Sinatra")),
    ("laravel/framework", Framework("Laravel")),
    ("psycopg2", Store("PostgreSQL")),
    ("psycopg2-binary", Store("PostgreSQL")),
    ("psycopg", Store("PostgreSQL")),
    ("asyncpg", Store("PostgreSQL")),
    ("pg", Store("PostgreSQL")),
    ("postgresql", Store("PostgreSQL")),
    ("github.com/lib/pq", Store("PostgreSQL")),
    ("github.com/jackc/pgx/v5", Store("PostgreSQL")),
    ("tokio-postgres", Store("PostgreSQL")),
    ("pymysql", Store("MySQL")),
    ("mysqlclient", Store("MySQL")),
    ("mysql2", Store("MySQL")),
    ("mysql", Store("MySQL")),
    ("mysql-connector-java", Store("MySQL")),
    ("mysql-connector-j", Store("MySQL")),
    ("github.com/go-sql-driver/mysql", Store("MySQL")),
    ("sqlite3", Store("SQLite")),
    ("better-sqlite3", Store("SQLite")),
    ("rusqlite", Store("SQLite")),
    ("sqlite-jdbc", Store("SQLite")),
    ("github.com/mattn/go-sqlite3", Store("SQLite")),
    ("sqlalchemy", Store("SQL database (SQLAlchemy)")),
    ("redis", Store("Redis")),
    ("ioredis", Store("Redis")),
    ("jedis", Store("Redis")),
    ("github.com/redis/go-redis/v9", Store("Redis")),
    ("pymongo", Store("MongoDB")),
    ("mongoose", Store("MongoDB")),
    ("mongodb", Store("MongoDB")),
    ("elasticsearch", Store("Elasticsearch")),
    ("kafka-python", Service("Kafka")),
    ("kafkajs", Service("Kafka")),
    ("kafka-clients", Service("Kafka")),
    ("pika", Service("RabbitMQ")),
    ("amqplib", Service("RabbitMQ")),
    ("boto3", Service("Amazon Web Services")),
    ("aws-sdk", Service("Amazon Web Services")),
    ("@aws-sdk/client-s3", Service("Amazon Web Services")),
    ("github.com/aws/aws-sdk-go-v2", Service("Amazon Web Services")),
    ("google-cloud-storage", Service("Google Cloud")),
    ("stripe", Service("Stripe")),
    ("twilio", Service("Twilio")),
    ("sendgrid", Service("SendGrid")),
    ("@sendgrid/mail", Service("SendGrid")),
    ("nodemailer", Service("mail server")),
    ("openai", Service("OpenAI")),
    ("anthropic", Service("Anthropic")),
    ("@slack/web-api", Service("Slack")),
    ("slack-sdk", Service("Slack")),
    ("sentry-sdk", Service("Sentry")),
    ("passport", Data("sign-in data")),
    ("bcrypt", Data("passwords")),
    ("argon2", Data("passwords")),
    ("passlib", Data("passwords")),
    ("spring-boot-starter-security", Data("sign-in data")),
    ("jsonwebtoken", Data("session tokens")),
    ("pyjwt", Data("session tokens")),
    ("jjwt", Data("session tokens")),
    ("github.com/golang-jwt/jwt/v5", Data("session tokens")),
];

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn is_workflow(path: &str) -> bool {
    let yaml = path.ends_with(".yml") || path.ends_with(".yaml");
    yaml && path.strip_prefix(".github/workflows/").is_some_and(|name| !name.contains('/'))
}

fn is_dockerfile(name: &str) -> bool {
    name == "Dockerfile" || name == "Containerfile" || name.starts_with("Dockerfile.")
}

/// True for files that [`read`] understands.
pub(super) fn is_manifest(path: &str) -> bool {
    let name = name_of(path);
    let listed = [
        "package.json",
        "requirements.txt",
        "pyproject.toml",
        "Pipfile",
        "setup.py",
        "setup.cfg",
        "pom.xml",
        "build.gradle",
        "build.gradle.kts",
        "go.mod",
        "Cargo.toml",
        "Gemfile",
        "composer.json",
        "Procfile",
    ];
    listed.contains(&name)
        || (name.starts_with("requirements") && name.ends_with(".txt"))
        || is_dockerfile(name)
        || is_workflow(path)
}

/// Words as package names are written, with the slashes and signs they may hold.
static WORD: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"[A-Za-z@][A-Za-z0-9_./@-]*").ok());
static EXPOSE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?mi)^[ \t]*EXPOSE[ \t]+([0-9][0-9/a-z \t]*)").ok());
static USER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?mi)^[ \t]*USER[ \t]+(\S+)").ok());
static UNTRUSTED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\b(pull_request_target|workflow_run|issue_comment)\b").ok());

/// Notes what a manifest says.
pub(super) fn read(path: &str, text: &str, seen: &mut Seen) {
    let name = name_of(path);
    if is_workflow(path) {
        let title = text.lines().find_map(|line| line.strip_prefix("name:"));
        seen.enter("workflow", path, 1, title.unwrap_or(name).trim_matches(['"', '\'', ' ']));
        if UNTRUSTED.as_ref().is_some_and(|r| r.is_match(text)) {
            seen.note(Trait::UntrustedWorkflow, path);
        }
        return;
    }
    if is_dockerfile(name) {
        for port in EXPOSE.iter().flat_map(|r| r.captures_iter(text)).filter_map(|c| c.get(1)) {
            seen.enter("port", path, line_of(text, port.start()), port.as_str());
            seen.note(Trait::Port, path);
        }
        let last = USER.iter().flat_map(|r| r.captures_iter(text)).last();
        let user = last.as_ref().and_then(|c| c.get(1)).map_or("root", |m| m.as_str());
        if matches!(user, "root" | "0" | "0:0" | "root:root") {
            seen.note(Trait::RootContainer, path);
        }
        return;
    }
    if name == "Procfile" {
        for (number, line) in text.lines().enumerate().filter(|(_, l)| l.contains(':')) {
            seen.enter("cli", path, number as u32 + 1, line);
        }
        return;
    }
    for word in WORD.iter().flat_map(|r| r.find_iter(text)) {
        let word = word.as_str().trim_end_matches(['.', '-', '/']).to_ascii_lowercase();
        match PACKAGES.iter().find(|(package, _)| *package == word) {
            Some((_, Framework(name))) => drop(seen.frameworks.insert(name)),
            Some((_, Store(name))) => {
                seen.data_stores.insert(name);
                seen.note(Trait::Store, path);
            }
            Some((_, Service(name))) => {
                seen.services.insert(name);
                seen.note(Trait::Service, path);
            }
            Some((_, Data(name))) => {
                seen.sensitive.insert(name);
                seen.note(Trait::Credentials, path);
            }
            None => {}
        }
    }
}

/// The line of a byte, from 1.
pub(super) fn line_of(text: &str, at: usize) -> u32 {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    memchr::memchr_iter(b'\n', before).count() as u32 + 1
}
