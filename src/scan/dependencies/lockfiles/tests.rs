use super::*;

/// `name@version` with marks: `!` direct, `~` for development, and the line.
fn packages(path: &str, text: &str) -> Vec<String> {
    let (list, fault) = components(path, text);
    assert!(fault.is_none(), "{path}: {}", fault.unwrap_or_default());
    list.iter()
        .map(|c| {
            let direct = if c.direct == Some(true) { "!" } else { "" };
            let dev = if c.dev { "~" } else { "" };
            format!("{}@{}{direct}{dev} {}", c.name, c.version, c.line)
        })
        .collect()
}

fn components(path: &str, text: &str) -> (Vec<Component>, Option<String>) {
    let kind = Kind::of_path(path).expect("a kind of lock file");
    let cancel = Cancel::new();
    let bounds = Bounds { until: None, cancel: &cancel, max_components: 1000 };
    let (list, fault) = read(kind, text, &bounds);
    (list, fault.map(|f| f.to_string()))
}

fn requires<'c>(list: &'c [Component], name: &str) -> &'c [String] {
    list.iter().find(|c| c.name == name).map_or(&[], |c| &c.requires)
}

#[test]
fn kinds_by_path() {
    for (path, expected) in [
        ("a/package-lock.json", Some("package-lock.json")),
        ("npm-shrinkwrap.json", Some("package-lock.json")),
        ("requirements.txt", Some("requirements.txt")),
        ("requirements/base.txt", Some("requirements.txt")),
        ("requirements/test.txt", Some("requirements-dev.txt")),
        ("dev-requirements.txt", Some("requirements-dev.txt")),
        ("requirements_dev.txt", Some("requirements-dev.txt")),
        ("robots.txt", None),
        ("package.json", None),
    ] {
        assert_eq!(Kind::of_path(path).map(Kind::as_str), expected, "{path}");
    }
    for (kind, name) in NAMES {
        assert_eq!(Kind::from_name(name), Some(*kind));
        assert_eq!(Kind::of_path(name), Some(*kind), "{name}");
    }
}

#[test]
fn npm_by_place() {
    let text = r#"{
  "name": "app",
  "lockfileVersion": 3,
  "packages": {
    "": {
      "dependencies": { "a": "^1.0.0", "short": "npm:real@2" },
      "devDependencies": { "t": "^3" }
    },
    "node_modules/a": {
      "version": "1.0.0",
      "dependencies": { "b": "^1" }
    },
    "node_modules/a/node_modules/b": {
      "version": "1.1.0"
    },
    "node_modules/b": {
      "version": "2.0.0",
      "dev": true
    },
    "node_modules/short": {
      "name": "real",
      "version": "2.0.1"
    },
    "node_modules/t": {
      "version": "3.0.0",
      "dev": true,
      "dependencies": { "b": "^2" }
    },
    "node_modules/@scope/member": {
      "resolved": "packages/member",
      "link": true
    },
    "packages/member": {
      "version": "0.0.1"
    },
    "node_modules/fromgit": {
      "version": "git+ssh://git@example.org/x.git#0123"
    }
  }
}"#;
    assert_eq!(
        packages("package-lock.json", text),
        [
            "a@1.0.0! 9",
            "b@1.1.0 13",
            "b@2.0.0~ 16",
            "real@2.0.1! 20",
            "t@3.0.0!~ 24",
            "fromgit@ 36"
        ]
    );
    let (list, _) = components("package-lock.json", text);
    assert_eq!(requires(&list, "a"), ["b@1.1.0"]);
    assert_eq!(requires(&list, "t"), ["b@2.0.0"]);
}

#[test]
fn npm_nested() {
    let text = r#"{
  "lockfileVersion": 1,
  "dependencies": {
    "a": {
      "version": "1.0.0",
      "requires": {
        "b": "^1"
      },
      "dependencies": {
        "b": {
          "version": "1.1.0"
        }
      }
    },
    "b": {
      "version": "2.0.0",
      "dev": true
    },
    "short": {
      "version": "npm:@s/real@3.0.0"
    }
  }
}"#;
    assert_eq!(
        packages("package-lock.json", text),
        ["a@1.0.0 4", "b@1.1.0 10", "b@2.0.0~ 15", "@s/real@3.0.0 19"]
    );
}

#[test]
fn yarn_classic() {
    let text = "# yarn lockfile v1\n\n\n\"@babel/core@^7.0.0\", \"@babel/core@^7.1.0\":\n  version \"7.2.0\"\n  resolved \"https://x\"\n  dependencies:\n    lodash \"^4.17.0\"\n\nlodash@^4.17.0:\n  version \"4.17.20\"\n\nshort@npm:real@^1:\n  version \"1.0.0\"\n";
    assert_eq!(
        packages("yarn.lock", text),
        ["@babel/core@7.2.0 4", "lodash@4.17.20 10", "real@1.0.0 13"]
    );
    let (list, _) = components("yarn.lock", text);
    assert_eq!(requires(&list, "@babel/core"), ["lodash@4.17.20"]);
}

#[test]
fn yarn_berry() {
    let text = r#"__metadata:
  version: 8

"app@workspace:.":
  version: 0.0.0-use.local
  resolution: "app@workspace:."
  dependencies:
    "@s/a": "npm:^1.0.0"
  languageName: unknown
  linkType: soft

"@s/a@npm:^1.0.0":
  version: 1.2.0
  resolution: "@s/a@npm:1.2.0"
  dependencies:
    b: "npm:^2.0.0"
  languageName: node
  linkType: hard

"b@npm:^2.0.0, b@npm:^2.1.0":
  version: 2.1.3
  resolution: "b@npm:2.1.3"
  linkType: hard
"#;
    assert_eq!(packages("yarn.lock", text), ["@s/a@1.2.0! 12", "b@2.1.3 20"]);
    let (list, _) = components("yarn.lock", text);
    assert_eq!(requires(&list, "@s/a"), ["b@2.1.3"]);
}

#[test]
fn pnpm_5() {
    let text = r"lockfileVersion: 5.4

specifiers:
  a: ^1.0.0
dependencies:
  a: 1.0.0_react@17.0.0
devDependencies:
  '@s/t': 2.0.0

packages:

  /a/1.0.0_react@17.0.0:
    resolution: {integrity: sha512-x}
    dependencies:
      b: 3.0.0
    dev: false

  /b/3.0.0:
    resolution: {integrity: sha512-y}
    dev: false

  /@s/t/2.0.0:
    resolution: {integrity: sha512-z}
    dev: true
";
    assert_eq!(packages("pnpm-lock.yaml", text), ["a@1.0.0! 12", "b@3.0.0 18", "@s/t@2.0.0!~ 22"]);
    let (list, _) = components("pnpm-lock.yaml", text);
    assert_eq!(requires(&list, "a"), ["b@3.0.0"]);
}

#[test]
fn pnpm_6() {
    let text = r"lockfileVersion: '6.0'

importers:
  .:
    dependencies:
      '@s/a':
        specifier: ^1.0.0
        version: 1.0.0(react@18.0.0)

packages:

  /@s/a@1.0.0(react@18.0.0):
    resolution: {integrity: sha512-x}
    dev: false

  /react@18.0.0:
    resolution: {integrity: sha512-x}
    dev: true
";
    assert_eq!(packages("pnpm-lock.yaml", text), ["@s/a@1.0.0! 12", "react@18.0.0~ 16"]);
}

#[test]
fn pnpm_9() {
    let text = r"lockfileVersion: '9.0'

importers:
  .:
    dependencies:
      a:
        specifier: ^1.0.0
        version: 1.0.0(p@2.0.0)
    devDependencies:
      t:
        specifier: ^3.0.0
        version: 3.0.0

packages:

  a@1.0.0:
    resolution: {integrity: sha512-x}
    peerDependencies:
      p: '*'

  '@s/b@1.5.0':
    resolution: {integrity: sha512-x}

  p@2.0.0:
    resolution: {integrity: sha512-x}

  t@3.0.0:
    resolution: {integrity: sha512-x}

snapshots:

  a@1.0.0(p@2.0.0):
    dependencies:
      '@s/b': 1.5.0
      p: 2.0.0

  '@s/b@1.5.0': {}

  p@2.0.0: {}

  t@3.0.0:
    dependencies:
      p: 2.0.0
";
    assert_eq!(
        packages("pnpm-lock.yaml", text),
        ["a@1.0.0! 16", "@s/b@1.5.0 21", "p@2.0.0 24", "t@3.0.0!~ 27"]
    );
    let (list, _) = components("pnpm-lock.yaml", text);
    assert_eq!(requires(&list, "a"), ["@s/b@1.5.0", "p@2.0.0"]);
}

#[test]
fn requirements_files() {
    let text = "# comment\n-r base.txt\n-e git+https://x/y.git#egg=z\nDjango==3.2.1  # pinned\nrequests[socks,security] == 2.19.0 ; python_version < \"3\"\nFlask_Login===0.5.0 \\\n    --hash=sha256:abc \\\n    --hash=sha256:def\nboto3>=1.0\nloose\nrange==1.*\npkg @ https://example.org/pkg.whl\n./local\nhttps://example.org/x.whl\nzope.interface (==5.0)\n";
    assert_eq!(
        packages("requirements.txt", text),
        [
            "django@3.2.1 4",
            "requests@2.19.0 5",
            "flask-login@0.5.0 6",
            "boto3@ 9",
            "loose@ 10",
            "range@ 11",
            "pkg@ 12",
            "zope-interface@5.0 15"
        ]
    );
    assert_eq!(packages("requirements-dev.txt", "x==1\n"), ["x@1~ 1"]);
}

#[test]
fn python_locks() {
    let poetry = r#"[[package]]
name = "Jinja2"
version = "2.10"
optional = false
groups = ["main"]

[package.dependencies]
MarkupSafe = ">=0.23"

[[package]]
name = "markupsafe"
version = "1.1.1"
category = "main"

[[package]]
name = "pytest"
version = "7.0.0"
groups = ["dev"]

[[package]]
name = "mine"
version = "0.1"

[package.source]
type = "directory"
url = "../mine"
"#;
    assert_eq!(
        packages("poetry.lock", poetry),
        ["jinja2@2.10 1", "markupsafe@1.1.1 10", "pytest@7.0.0~ 15"]
    );
    let (list, _) = components("poetry.lock", poetry);
    assert_eq!(requires(&list, "jinja2"), ["markupsafe@1.1.1"]);

    let uv = r#"version = 1

[[package]]
name = "app"
version = "0.1.0"
source = { virtual = "." }
dependencies = [{ name = "requests" }]

[package.dev-dependencies]
dev = [{ name = "pytest" }]

[[package]]
name = "requests"
version = "2.19.0"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "urllib3", marker = "x" }]

[[package]]
name = "urllib3"
version = "1.23"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "pytest"
version = "8.0.0"
source = { registry = "https://pypi.org/simple" }
"#;
    assert_eq!(
        packages("uv.lock", uv),
        ["requests@2.19.0! 12", "urllib3@1.23 18", "pytest@8.0.0!~ 23"]
    );

    let pdm = "[[package]]\nname = \"a\"\nversion = \"1.0\"\ngroups = [\"default\"]\ndependencies = [\"B_c>=1; python_version > '3'\"]\n\n[[package]]\nname = \"b-c\"\nversion = \"2.0\"\ngroups = [\"test\"]\n";
    assert_eq!(packages("pdm.lock", pdm), ["a@1.0 1", "b-c@2.0~ 7"]);
    let (list, _) = components("pdm.lock", pdm);
    assert_eq!(requires(&list, "a"), ["b-c@2.0"]);

    let pipfile = "{\n  \"default\": {\n    \"django\": {\n      \"index\": \"pypi\",\n      \"version\": \"==2.2.0\"\n    },\n    \"sqlparse\": {\n      \"version\": \"==0.3.0\"\n    }\n  },\n  \"develop\": {\n    \"pytest\": {\n      \"version\": \"==5.0\"\n    }\n  }\n}\n";
    assert_eq!(
        packages("Pipfile.lock", pipfile),
        ["django@2.2.0! 3", "sqlparse@0.3.0 7", "pytest@5.0~ 12"]
    );
}

#[test]
fn cargo_lock() {
    let text = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"smallvec 1.6.0\",\n]\n\n[[package]]\nname = \"smallvec\"\nversion = \"0.6.1\"\nsource = \"registry+x\"\n\n[[package]]\nname = \"smallvec\"\nversion = \"1.6.0\"\nsource = \"registry+x\"\ndependencies = [\"time\"]\n\n[[package]]\nname = \"time\"\nversion = \"0.1.0\"\nsource = \"registry+x\"\n";
    assert_eq!(
        packages("Cargo.lock", text),
        ["smallvec@0.6.1 10", "smallvec@1.6.0! 15", "time@0.1.0 21"]
    );
}

#[test]
fn go_mod() {
    let text = "module example.org/app\n\ngo 1.21\n\nrequire github.com/gin-gonic/gin v1.6.0\n\nrequire (\n\tgolang.org/x/text v0.3.0 // indirect\n\texample.org/local v1.0.0\n\texample.org/forked v1.0.0\n)\n\nreplace example.org/local => ../local\n\nreplace (\n\texample.org/forked v1.0.0 => example.org/fork v1.2.0\n)\n\nexclude golang.org/x/net v0.1.0\n";
    assert_eq!(
        packages("go.mod", text),
        [
            "github.com/gin-gonic/gin@v1.6.0! 5",
            "golang.org/x/text@v0.3.0 8",
            "example.org/fork@v1.2.0! 10"
        ]
    );
}

#[test]
fn pom() {
    let text = r#"<?xml version="1.0"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <parent><groupId>org.p</groupId><version>9.9</version></parent>
  <artifactId>app</artifactId>
  <properties>
    <log4j.version>2.14.1</log4j.version>
    <indirect>${log4j.version}</indirect>
    <loop>${loop}</loop>
  </properties>
  <dependencyManagement><dependencies><dependency>
    <groupId>org.yaml</groupId><artifactId>snakeyaml</artifactId><version>1.26</version>
  </dependency></dependencies></dependencyManagement>
  <dependencies>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-core</artifactId>
      <version>${indirect}</version>
      <exclusions><exclusion><groupId>x</groupId><artifactId>y</artifactId></exclusion></exclusions>
    </dependency>
    <dependency><groupId>org.yaml</groupId><artifactId>snakeyaml</artifactId></dependency>
    <dependency>
      <groupId>junit</groupId><artifactId>junit</artifactId><version>[4.12,5)</version><scope>test</scope>
    </dependency>
    <dependency><groupId>${project.groupId}</groupId><artifactId>mine</artifactId><version>${project.version}</version></dependency>
    <dependency><groupId>a</groupId><artifactId>b</artifactId><version>${loop}</version></dependency>
  </dependencies>
  <build><plugins><plugin><dependencies><dependency>
    <groupId>no</groupId><artifactId>no</artifactId><version>1</version>
  </dependency></dependencies></plugin></plugins></build>
</project>"#;
    assert_eq!(
        packages("pom.xml", text),
        [
            "org.apache.logging.log4j:log4j-core@2.14.1! 14",
            "org.yaml:snakeyaml@1.26! 20",
            "junit:junit@!~ 21",
            "org.p:mine@9.9! 24",
            "a:b@! 25"
        ]
    );
}

#[test]
fn gradle_ruby_composer_nuget() {
    assert_eq!(
        packages(
            "gradle.lockfile",
            "# comment\ncommons-collections:commons-collections:3.2.1=compileClasspath,runtimeClasspath\njunit:junit:4.12=testCompileClasspath,testRuntimeClasspath\nempty=annotationProcessor\n"
        ),
        ["commons-collections:commons-collections@3.2.1 2", "junit:junit@4.12~ 3"]
    );
    assert_eq!(
        packages(
            "Gemfile.lock",
            "PATH\n  remote: .\n  specs:\n    mine (0.1)\n\nGEM\n  remote: https://rubygems.org/\n  specs:\n    actionview (5.2.0)\n      nokogiri (>= 1.6)\n    nokogiri (1.10.0-x86_64-linux)\n\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n  actionview (~> 5.2)\n  mine!\n"
        ),
        ["actionview@5.2.0! 9", "nokogiri@1.10.0 11"]
    );
    assert_eq!(
        packages(
            "composer.lock",
            "{\n  \"packages\": [\n    {\n      \"name\": \"guzzlehttp/guzzle\",\n      \"version\": \"v7.4.0\",\n      \"require\": []\n    }\n  ],\n  \"packages-dev\": [\n    {\n      \"name\": \"phpunit/phpunit\",\n      \"version\": \"9.0.0\",\n      \"require\": {\"guzzlehttp/guzzle\": \"*\"}\n    }\n  ]\n}"
        ),
        ["guzzlehttp/guzzle@v7.4.0 4", "phpunit/phpunit@9.0.0~ 11"]
    );
    assert_eq!(
        packages(
            "packages.lock.json",
            "{\n  \"version\": 1,\n  \"dependencies\": {\n    \"net6.0\": {\n      \"Newtonsoft.Json\": {\n        \"type\": \"Direct\",\n        \"resolved\": \"12.0.1\"\n      },\n      \"App.Core\": {\n        \"type\": \"Project\"\n      }\n    }\n  }\n}"
        ),
        ["Newtonsoft.Json@12.0.1! 5"]
    );
}

/// What cannot be read is said, with what was read before it, and nothing panics.
#[test]
fn malformed() {
    for (_, name) in NAMES {
        for text in [
            "",
            "{",
            "[[package]]\nname = 1",
            "<project><dependencies><dependency>",
            "\u{0}",
            "{\"packages\": []}",
            "é@",
            "a: &x [*x, *x]",
            "\"@\":\n  version \"1\"\n",
            ":::=x",
        ] {
            let _ = components(name, text);
        }
        let deep = "[".repeat(100_000);
        let _ = components(name, &deep);
        let deep = "{\"dependencies\":{\"a\":".repeat(20_000);
        let _ = components(name, &deep);
        let deep = "<a>".repeat(100_000);
        let _ = components(name, &deep);
    }
    for (path, text) in [
        ("package-lock.json", "{"),
        ("Cargo.lock", "[[package]"),
        ("pnpm-lock.yaml", "a: &x 1\nb: *x\n"),
        ("pom.xml", "<project></wrong>"),
        ("yarn.lock", "no entry\n"),
    ] {
        let (_, fault) = components(path, text);
        assert!(fault.is_some_and(|f| f.starts_with("it is malformed")), "{path}");
    }
}

#[test]
fn stays_within_its_bounds() {
    let lines: Vec<String> = (0..2000).map(|n| format!("p{n}==1")).collect();
    let text = lines.join(
        "
",
    );
    let (list, fault) = components("requirements.txt", &text);
    assert_eq!(list.len(), 1000);
    assert_eq!(fault.as_deref(), Some("it names more than 1000 packages"));

    let cancel = Cancel::new();
    cancel.cancel();
    let bounds = Bounds { until: None, cancel: &cancel, max_components: 100_000 };
    let (list, fault) = read(Kind::Requirements, &text, &bounds);
    assert!(matches!(fault, Some(Fault::Cancelled)));
    assert!(list.len() < 2000);
}
