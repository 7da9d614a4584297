-- name: lock
SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('memory.migrate', 7));

-- name: unlock
SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('memory.migrate', 7));

-- name: is_superuser
SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user;

-- name: prepare_schema
CREATE SCHEMA IF NOT EXISTS memory;

-- name: prepare_migrations
CREATE TABLE IF NOT EXISTS memory.migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now());

-- name: prepare_routines
CREATE TABLE IF NOT EXISTS memory.routines (
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now());

-- name: applied
SELECT number, name, sha256 FROM memory.migrations ORDER BY number;

-- name: record
INSERT INTO memory.migrations (number, name, sha256) VALUES (%s, %s, %s);

-- name: applied_routines
SELECT sha256 FROM memory.routines;

-- name: trust_bodies
-- A function may use one that a later file makes.
SET LOCAL check_function_bodies = off;

-- name: forget_routines
DELETE FROM memory.routines;

-- name: record_routines
INSERT INTO memory.routines (sha256) VALUES (%s);
