-- What findings are searched and filtered by, kept once for each text and not for each
-- finding: see db/findings/texts.rs. `text` of a path is a file or a folder above one,
-- `title` its last part; `text` of a rule is its id, `title` its title. A rule has a row
-- for each repository and one for the project, which has no repository.
CREATE TABLE finding_texts (
    id INTEGER PRIMARY KEY,
    project_id BLOB NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    repository_id BLOB REFERENCES repositories (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('path', 'rule')),
    -- The folder around a path.
    parent_id INTEGER,
    text TEXT NOT NULL,
    title TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX finding_texts_repository ON finding_texts (repository_id, kind, text, title);
CREATE UNIQUE INDEX finding_texts_rule ON finding_texts (project_id, text, title)
    WHERE repository_id IS NULL;
CREATE INDEX finding_texts_project ON finding_texts (project_id, kind, text);

-- The findings of a text, in the orders of the lists.
CREATE TABLE finding_entries (
    text_id INTEGER NOT NULL,
    severity TEXT NOT NULL,
    priority INTEGER NOT NULL,
    finding_id BLOB NOT NULL,
    PRIMARY KEY (text_id, severity, finding_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX finding_entries_priority ON finding_entries
    (text_id, severity, priority, finding_id);

-- Runs of three characters in texts, as a number: see db/findings/texts.rs.
CREATE TABLE finding_grams (
    scope_id BLOB NOT NULL,
    gram INTEGER NOT NULL,
    text_id INTEGER NOT NULL,
    PRIMARY KEY (scope_id, gram, text_id)
) STRICT, WITHOUT ROWID;

-- The entries of a rule do what these did, and those of a folder what no index could.
DROP INDEX findings_repository_rule;
DROP INDEX findings_repository_rule_priority;
DROP INDEX findings_repository_path;
DROP INDEX findings_project_rule;
DROP INDEX findings_project_rule_priority;
DROP INDEX findings_project_path;

-- What is there already. (benches/api runs what follows, too.)
INSERT INTO finding_texts (project_id, repository_id, kind, text, title)
WITH RECURSIVE up (project_id, repository_id, path) AS (
    SELECT project_id, repository_id, path FROM findings
    WHERE length(path) <= 500 AND length(path) - length(replace(path, '/', '')) <= 16
    UNION
    SELECT project_id, repository_id, rtrim(rtrim(path, replace(path, '/', '')), '/')
    FROM up WHERE path <> ''
)
SELECT project_id, repository_id, 'path', path,
    substr(path, length(rtrim(path, replace(path, '/', ''))) + 1)
FROM up WHERE path <> ''
UNION
SELECT project_id, repository_id, 'path', '/', '' FROM findings
WHERE length(path) > 500 OR length(path) - length(replace(path, '/', '')) > 16
UNION
SELECT project_id, repository_id, 'rule',
    CASE WHEN length(rule_id) + length(title) <= 500 THEN rule_id ELSE '/' END,
    CASE WHEN length(rule_id) + length(title) <= 500 THEN title ELSE '' END
FROM findings
UNION
SELECT project_id, NULL, 'rule',
    CASE WHEN length(rule_id) + length(title) <= 500 THEN rule_id ELSE '/' END,
    CASE WHEN length(rule_id) + length(title) <= 500 THEN title ELSE '' END
FROM findings;

UPDATE finding_texts SET parent_id = (
    SELECT p.id FROM finding_texts p
    WHERE p.repository_id = finding_texts.repository_id AND p.kind = 'path'
        AND p.text = rtrim(rtrim(finding_texts.text, replace(finding_texts.text, '/', '')), '/')
) WHERE kind = 'path' AND text <> '/';

-- CROSS JOIN makes SQLite begin with the findings.
INSERT INTO finding_entries (text_id, severity, priority, finding_id)
WITH RECURSIVE up (text_id, parent_id, severity, priority, finding_id) AS (
    SELECT t.id, t.parent_id, f.severity, f.priority, f.id
    FROM findings f CROSS JOIN finding_texts t
    WHERE t.repository_id = f.repository_id AND t.kind = 'path'
        AND t.text = CASE WHEN length(f.path) <= 500
            AND length(f.path) - length(replace(f.path, '/', '')) <= 16 THEN f.path ELSE '/' END
    UNION ALL
    SELECT t.id, t.parent_id, up.severity, up.priority, up.finding_id
    FROM up CROSS JOIN finding_texts t WHERE t.id = up.parent_id
)
SELECT text_id, severity, priority, finding_id FROM up
UNION ALL
SELECT t.id, f.severity, f.priority, f.id
FROM findings f CROSS JOIN finding_texts t
WHERE t.repository_id = f.repository_id AND t.kind = 'rule'
    AND t.text = CASE WHEN length(f.rule_id) + length(f.title) <= 500 THEN f.rule_id ELSE '/' END
    AND t.title = CASE WHEN length(f.rule_id) + length(f.title) <= 500 THEN f.title ELSE '' END
UNION ALL
SELECT t.id, f.severity, f.priority, f.id
FROM findings f CROSS JOIN finding_texts t
WHERE t.project_id = f.project_id AND t.repository_id IS NULL
    AND t.text = CASE WHEN length(f.rule_id) + length(f.title) <= 500 THEN f.rule_id ELSE '/' END
    AND t.title = CASE WHEN length(f.rule_id) + length(f.title) <= 500 THEN f.title ELSE '' END
ORDER BY 1, 2, 4;

INSERT INTO finding_grams (scope_id, gram, text_id)
WITH RECURSIVE w (project_id, repository_id, text_id, rule, word) AS (
    SELECT project_id, repository_id, id, 0, lower(title) FROM finding_texts WHERE kind = 'path'
    UNION ALL
    SELECT project_id, repository_id, id, 2097152, lower(text) FROM finding_texts
    WHERE repository_id IS NULL
    UNION ALL
    SELECT project_id, repository_id, id, 2097152, lower(title) FROM finding_texts
    WHERE repository_id IS NULL
    UNION ALL
    SELECT project_id, repository_id, text_id, rule, substr(word, 2) FROM w WHERE length(word) > 3
), g (project_id, repository_id, text_id, rule, a, b, c) AS (
    SELECT project_id, repository_id, text_id, rule, unicode(word), unicode(substr(word, 2, 1)),
        unicode(substr(word, 3, 1))
    FROM w WHERE length(word) >= 3
)
SELECT project_id, rule + a * 16384 + b * 128 + c, text_id FROM g
WHERE a < 128 AND b < 128 AND c < 128
UNION
SELECT repository_id, rule + a * 16384 + b * 128 + c, text_id FROM g
WHERE a < 128 AND b < 128 AND c < 128 AND repository_id IS NOT NULL
ORDER BY 1, 2, 3;
