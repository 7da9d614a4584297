-- name: guard
-- What a file's own schema defines must not run functions of SQLite's on the file's behalf.
PRAGMA trusted_schema = OFF;

-- name: guard_pages
PRAGMA cell_size_check = ON;

-- name: tables
-- Plain ones: neither views nor virtual tables nor tables with computed columns, which would run the file's own expressions.
SELECT name FROM sqlite_master
 WHERE type = 'table' AND name IN ('cache', 'pg_steadytext') AND sql LIKE 'CREATE TABLE%'
   AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(sqlite_master.name) AS c WHERE c.hidden <> 0);

-- name: create
CREATE TABLE cache (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    frequency INTEGER DEFAULT 1,
    last_access INTEGER NOT NULL,
    size INTEGER NOT NULL
);
CREATE INDEX idx_frecency ON cache (frequency ASC, last_access ASC);
CREATE TABLE metadata (property TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pg_steadytext (
    id INTEGER PRIMARY KEY,
    key TEXT,
    prompt TEXT NOT NULL,
    response TEXT,
    embedding BLOB,
    params TEXT NOT NULL,
    access_count INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    took_ms INTEGER,
    is_foreign INTEGER NOT NULL
);

-- name: entries
SELECT key, CASE WHEN length(value) <= 16777216 THEN value END AS value, frequency, last_access FROM cache ORDER BY last_access, key;

-- name: own_entries
SELECT key, prompt, response, embedding, params, access_count, last_accessed, created_at, took_ms, is_foreign
  FROM pg_steadytext ORDER BY id;

-- name: add
INSERT INTO cache (key, value, frequency, last_access, size) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: add_own
INSERT INTO pg_steadytext (key, prompt, response, embedding, params, access_count, last_accessed, created_at, took_ms, is_foreign)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
