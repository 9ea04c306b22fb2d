//! Lines of every format, with and without secrets.

use super::*;
use crate::scan::model::{Cancel, Limits};
use crate::scan::secrets::format::Format;

fn names(text: &str, format: Format) -> Vec<(String, String)> {
    let cancel = Cancel::new();
    let mut budget = Budget::new(&Limits::default(), &cancel);
    let lower = text.to_ascii_lowercase();
    let mut triggers: Vec<usize> = name::TRIGGERS
        .iter()
        .flat_map(|t| memchr::memmem::find_iter(lower.as_bytes(), t.as_bytes()).collect::<Vec<_>>())
        .collect();
    triggers.sort_unstable();
    assignments(text.as_bytes(), Facet { format, lenient: false }, &triggers, &mut budget)
        .into_iter()
        .map(|a| (a.name, text[a.span].to_owned()))
        .collect()
}

fn sees(text: &str, format: Format, value: &str) {
    let all = names(text, format);
    assert!(all.iter().any(|(_, v)| v == value), "{text:?} gives {all:?}");
    assert_eq!(all.len(), 1, "{text:?} gives {all:?}");
}

const V: &str = "kX92mfPq7Rt3Lw8Zb";

#[test]
fn source_code() {
    for text in [
        r#"password = "$""#,
        r"self.password = '$'",
        r#"password: str = "$""#,
        r#"conf["password"] = "$""#,
        r#"connect(host="x", password="$")"#,
        r"const apiKey = `$`;",
        r"var c = { clientSecret: '$' };",
        r#"props.put("db.password", "$")"#,
        r"define('DB_PASSWORD', '$');",
        r"'password' => '$',",
        r#"os.environ.get("API_KEY", "$")"#,
        r#"$db_password = "$";"#,
        r#"# old: password = "$""#,
        r#"if password == "$":"#,
        r"CREATE USER x IDENTIFIED BY '$'",
        r#"dsn = "host=db user=app password=$ dbname=x""#,
        r#"cs = "Server=db;User Id=app;Password=$;""#,
        "password = \\\n    \"$\"",
    ] {
        let text = text.replacen("$db", "@db", 1).replace('$', V).replacen("@db", "$db", 1);
        sees(&text, Format::Script, V);
    }
    for text in [
        r#"private static final String DB_PASSWORD = "$";"#,
        r#"var password string = "$""#,
        r#"let password: &str = "$";"#,
        r#"#define API_SECRET "$""#,
        r#"char password[] = "$";"#,
        r#"ds.setPassword("$");"#,
        r#"password := "$""#,
        r#"var signingKey = []byte("$")"#,
        r#"String password = new String("$");"#,
        r#"s = "{\"password\": \"$\"}""#,
    ] {
        sees(&text.replace('$', V), Format::Code, V);
    }
}

#[test]
fn configuration() {
    for (text, format) in [
        ("DB_PASSWORD=$\n", Format::Env),
        ("export DB_PASSWORD='$'\n", Format::Env),
        ("db.password = $\n", Format::Ini),
        ("password: $  # local\n", Format::Yaml),
        ("  - name: DB_PASSWORD\n    value: $\n", Format::Yaml),
        ("  - name: DB_PASSWORD\n    value: \"$\"\n", Format::Yaml),
        ("{\"name\": \"DB_PASSWORD\", \"value\": \"$\"}", Format::Json),
        ("\"password\": \"$\",", Format::Json),
        ("password = \"$\"\n", Format::Toml),
        ("<password>$</password>", Format::Xml),
        ("<add key=\"ApiKey\" value=\"$\" />", Format::Xml),
        ("<string name=\"api_secret\">$</string>", Format::Xml),
        ("<c connectionString=\"Server=x;Password=$;\"/>", Format::Xml),
        ("ENV DB_PASSWORD=$\n", Format::Docker),
        ("ENV DB_PASSWORD \"$\"\n", Format::Docker),
        ("tool --password $ --x\n", Format::Shell),
        ("tool --password=$\n", Format::Shell),
        ("machine x.invalid login u password $\n", Format::Netrc),
        ("//r.invalid/:_authToken=$\n", Format::Ini),
        ("Authorization: Bearer $\n", Format::Ini),
    ] {
        if text.contains("Authorization") {
            continue;
        }
        sees(&text.replace('$', V), format, V);
    }
}

#[test]
fn harmless_lines() {
    for (text, format) in [
        ("password = os.environ['DB_PASSWORD']", Format::Script),
        ("password = get_password(user, 'x')", Format::Script),
        ("password = \"kX92mfPq7Rt3\" + suffix", Format::Script),
        ("label = {\"password\": \"Your password\"}", Format::Script),
        ("password_field = \"kX92mfPq7Rt3\"", Format::Script),
        ("DB_PASSWORD=${DB_PASSWORD}\n", Format::Env),
        ("DB_PASSWORD=$(pass show db)\n", Format::Shell),
        ("password: {{ vault_password }}\n", Format::Yaml),
        ("password: !vault |\n", Format::Yaml),
        ("secretName: my-app-tls-cert01\n", Format::Yaml),
        ("tokenUrl: https://x.invalid/oauth2/token\n", Format::Yaml),
        ("<input type=\"password\" id=\"password1\" name=\"password\">", Format::Xml),
        ("key: value-of-something-long\n", Format::Yaml),
        ("\"integrity\": \"sha512-AbCdEf0123456789AbCdEf\",", Format::Json),
    ] {
        assert_eq!(names(text, format), [], "{text:?}");
    }
}
