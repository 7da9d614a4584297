-- name: setting
SELECT pg_catalog.current_setting(%(name)s, true);

-- name: extension_versions
SELECT installed_version, default_version FROM pg_catalog.pg_available_extensions WHERE name = 'pg_steadytext';

-- name: make_python_probe
-- Asks the server's own Python, which is not the one this command runs on.
CREATE FUNCTION pg_temp.steadytext_python(OUT version text, OUT zmq text, OUT jinja2 text, OUT missing text, OUT problem text) LANGUAGE plpython3u AS $probe$
import importlib, sys
found = {}
for name in ("zmq", "jinja2"):
    try:
        found[name] = importlib.import_module(name).__version__
    except Exception as error:
        problem = "%s: %s (sys.path: %s)" % (type(error).__name__, error, ":".join(sys.path))
        return sys.version, None, None, name, problem
return sys.version, found["zmq"], found["jinja2"], None, None
$probe$;

-- name: ask_python_probe
SELECT version, zmq, jinja2, missing, problem FROM pg_temp.steadytext_python();

-- name: config
SELECT steadytext_config_get(%(key)s);
