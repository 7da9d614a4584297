-- name: database_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %(name)s) AS there;

-- name: extension_versions
SELECT installed_version, default_version FROM pg_catalog.pg_available_extensions WHERE name = 'pg_steadytext';

-- name: create_extension
CREATE EXTENSION pg_steadytext CASCADE;

-- name: update_extension
ALTER EXTENSION pg_steadytext UPDATE;

-- name: set_config
SELECT steadytext_config_set(%(key)s, %(value)s) WHERE steadytext_config_get(%(key)s) IS DISTINCT FROM %(value)s;

-- name: sync_models
SELECT steadytext_models_sync();

-- name: role_exists
SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = %(name)s) AS there;

-- name: create_memory_login
CREATE ROLE steadytext_memory LOGIN IN ROLE memory_service;
