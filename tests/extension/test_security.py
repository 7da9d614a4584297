"""What an ordinary role cannot do, whatever it puts in the way."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from tests.support.databases import Roles, Sessions


@pytest.fixture
def user(connect: Sessions, make_role: Roles) -> psycopg.Connection:
    """A session of a role that may generate and embed, and may create objects of its own."""
    role = make_role("steadytext_user")
    with connect() as admin:
        admin.execute(sql.SQL("CREATE SCHEMA hostile AUTHORIZATION {}").format(sql.Identifier(role)))
    return connect(user=role)


FORBIDDEN = [
    "SELECT * FROM steadytext_cache",
    "SELECT * FROM steadytext_cache_with_frecency",
    "SELECT * FROM _steadytext_settings",
    "SELECT * FROM _steadytext_cache_hits",
    "INSERT INTO _steadytext_cache_hits VALUES (1)",
    "INSERT INTO steadytext_cache (cache_key, prompt) VALUES ('a', 'b')",
    "UPDATE steadytext_config SET value = '\"evil\"' WHERE key = 'daemon_host'",
    "UPDATE steadytext_models SET digest = repeat('0', 64)",
    "SELECT steadytext_config_set('daemon_host', 'evil')",
    "SELECT steadytext_config_get('daemon_client_secret_key')",
    "SELECT steadytext_model_register('x', 'generation', filename => '/etc/passwd')",
    "SELECT steadytext_cache_clear()",
    "SELECT steadytext_cache_evict(0)",
    "SELECT steadytext_cache_preview_eviction()",
    "SELECT steadytext_daemon_start()",
    "SELECT steadytext_daemon_stop()",
    "SELECT steadytext_models_sync()",
    "SELECT _steadytext_cache_fold()",
    "SELECT _steadytext_template('read', '{}')",
    "SELECT * FROM _steadytext_index_documents",
    "INSERT INTO steadytext_prompt_versions (prompt_id, version, template) VALUES (gen_random_uuid(), 1, 'x')",
    "UPDATE steadytext_indexes SET owner = 'postgres'",
    "SELECT * FROM steadytext_performance_dashboard",
    "SELECT * FROM steadytext_error_analysis",
    "SELECT * FROM steadytext_prompt_patterns",
    "SELECT steadytext_prompt_pattern_set('x', 'x')",
    "SELECT steadytext_prompt_pattern_drop('x')",
    "UPDATE steadytext_prompt_patterns SET enabled = false",
    "SELECT _steadytext_policy_check(ARRAY['x'])",
    "SELECT _steadytext_cache_import('[]')",
    "UPDATE _steadytext_settings SET prompt_policy = NULL",
    "SELECT steadytext_cleanup_job()",
    "SELECT steadytext_migrate('1.1.0')",
    "SELECT _steadytext_call('tcp://127.0.0.1:1', '{}', 1, '{}')",
    "SELECT _steadytext_call_stream('tcp://127.0.0.1:1', '{}', 1, '{}')",
    "SELECT _steadytext_request('shutdown', '{}')",
    "SELECT _steadytext_cache_store(ARRAY['a'], '{}', ARRAY['b'], NULL, 'm', 'd', 1)",
    "SELECT steadytext_generate('x', model => 'openai:gpt', unsafe_mode => true)",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_an_ordinary_role_is_refused(statement: str, user: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        user.execute(statement)


def test_a_role_without_membership_can_use_nothing(connect: Sessions, make_role: Roles) -> None:
    stranger = connect(user=make_role())
    for call in ("steadytext_generate('x')", "steadytext_embed('x')", "steadytext_version()", "st_cache_stats()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(f"SELECT {call}")


def test_shadowing_names_in_the_search_path_are_never_met(user: psycopg.Connection, daemon: object) -> None:
    user.execute("SET search_path = hostile, pg_temp, pg_catalog, public")
    user.execute("CREATE FUNCTION hostile.bad(text, text) RETURNS text LANGUAGE plpgsql AS "
                 "$$ BEGIN RAISE EXCEPTION 'shadowed' USING ERRCODE = 'XX000'; END $$")  # fmt: skip
    user.execute("CREATE OPERATOR hostile.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.bad)")
    user.execute("CREATE FUNCTION hostile.bad_equal(text, text) RETURNS boolean LANGUAGE plpgsql AS "
                 "$$ BEGIN RAISE EXCEPTION 'shadowed' USING ERRCODE = 'XX000'; END $$")  # fmt: skip
    user.execute("CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.bad_equal)")
    for signature in ("sha256(bytea)", "convert_to(text, name)", "encode(bytea, text)", "to_json(text)", "now()"):
        user.execute(
            f"CREATE FUNCTION hostile.{signature} RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'shadowed' USING ERRCODE = 'XX000'; END $$"
        )
    user.execute("CREATE TEMP TABLE _steadytext_settings AS SELECT 'tcp://127.0.0.1:1' AS endpoint")
    user.execute("CREATE TEMP TABLE steadytext_cache AS SELECT 'x' AS cache_key")
    user.execute("CREATE TEMP TABLE steadytext_models AS SELECT 'x' AS name")
    user.execute("SELECT public.steadytext_index_create('shadowed', ARRAY['a', 'b'])")
    for call in (
        "steadytext_generate('Say hi.', 3)", "steadytext_generate('Say hi.', 3)", "st_embed('hi')",
        "steadytext_generate('Say hi.', 3, model => 'smollm2-135m-instruct')",
        "steadytext_prompt_create('shadowed', 'Say {{ word }}.')",
        "steadytext_prompt_update('shadowed', 'Say {{ word }}!')",
        "steadytext_generate_prompt('shadowed', '{\"word\": \"hi\"}', max_tokens => 3)",
        "steadytext_prompt_diff('shadowed', 1, 2)", "steadytext_rerank('a', ARRAY['b', 'c'])",
        "steadytext_rerank_batch(ARRAY['a'], ARRAY['b', 'c'])",
        "steadytext_index_add('shadowed', ARRAY['c'])", "steadytext_index_search('shadowed', 'a')",
        "steadytext_index_drop('shadowed')", "steadytext_health_check()",
    ):  # fmt: skip
        row = user.execute(f"SELECT public.{call}").fetchone()
        assert row is not None
        assert row[0]
    pieces = user.execute("SELECT public.steadytext_generate_stream('Say more.', 3)").fetchall()
    assert pieces
    assert user.execute("SELECT * FROM public.steadytext_embed_batch(ARRAY['a', 'b'])").fetchall()
    assert user.execute("SELECT * FROM public.steadytext_semantic_search('a', 1, 0)").fetchall()


def test_custom_settings_redirect_nothing(user: psycopg.Connection, daemon: object) -> None:
    for name in ("daemon_host", "endpoint", "supervisor_socket", "model_dir"):
        user.execute(f"SET steadytext.{name} = '/tmp/evil'")
    row = user.execute("SELECT public.steadytext_generate('Say hi again.', 3)").fetchone()
    assert row is not None
    assert row[0]


def test_the_supervisor_is_found_only_through_the_servers_files(
    connect: Sessions, make_role: Roles, unused_port: int
) -> None:
    with connect() as admin:
        admin.execute("SELECT steadytext_config_set('daemon_port', %s)", (str(unused_port),))
    session = connect(user=make_role("steadytext_user"))
    session.execute("SET steadytext.supervisor_socket = '/tmp/evil.sock'")
    with pytest.raises(psycopg.OperationalError) as refused:
        session.execute("SELECT steadytext_generate('x')")
    assert refused.value.sqlstate == "08001"
    assert "/tmp/evil.sock" not in str(refused.value)


def test_a_role_scoped_cache_is_not_shared(connect: Sessions, make_role: Roles, daemon: object) -> None:
    with connect() as admin:
        admin.execute("SELECT steadytext_config_set('cache_scope', 'role')")
    for _ in range(2):
        session = connect(user=make_role("steadytext_user"))
        session.execute("SELECT steadytext_embed('shared?')")
        found = session.execute("SELECT count(*) FROM steadytext_semantic_search('shared?', 10, 0.5)").fetchone()
        assert found == (1,)
    with connect() as admin:
        assert admin.execute("SELECT count(DISTINCT scope) FROM steadytext_cache").fetchone() == (2,)


def test_no_role_reads_what_another_asked(connect: Sessions, make_role: Roles, daemon: object) -> None:
    with connect() as admin:
        admin.execute("SELECT steadytext_config_set('cache_scope', 'role')")
    victim, thief = connect(user=make_role("steadytext_user")), connect(user=make_role("steadytext_user"))
    victim.execute("SELECT steadytext_generate('my secret', 2), steadytext_embed('my secret')")
    victim.execute("SELECT steadytext_index_create('mine', ARRAY['my secret'])")
    request, *_ = victim.execute(
        "SELECT unnest(steadytext_generate_batch_async(ARRAY['my secret', 'another'], user_id => 'ann'))"
    ).fetchall()
    seen = [
        thief.execute(statement).fetchall()
        for statement in (
            "SELECT * FROM steadytext_queue", "SELECT * FROM steadytext_queue_errors",
            "SELECT * FROM steadytext_indexes", "SELECT * FROM steadytext_index_list()",
            "SELECT * FROM steadytext_semantic_search('my secret', 10, -1)",
        )
    ]  # fmt: skip
    assert seen == [[]] * 5
    for function in ("check_async", "get_result", "get_async_result", "cancel_async", "batch_status"):
        with pytest.raises(psycopg.errors.NoDataFound):
            thief.execute(f"SELECT * FROM steadytext_{function}(%s)", request)
    for statement in ("index_search('mine', 'secret')", "index_add('mine', ARRAY['x'])"):
        with pytest.raises(psycopg.errors.NoDataFound):
            thief.execute(f"SELECT * FROM steadytext_{statement}".encode())
    for relation in ("cache", "cache_with_frecency", "dead_letters", "audit_log", "rate_limits", "workers",
                     "prompt_patterns", "performance_dashboard"):  # fmt: skip
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            thief.execute(f"SELECT * FROM steadytext_{relation}".encode())
    thief.execute("SELECT steadytext_generate_async('mine', dedupe_key => 'k', user_id => 'ann')")
    assert len(thief.execute("SELECT * FROM steadytext_queue").fetchall()) == 1
    assert thief.execute("SELECT steadytext_index_drop('mine')").fetchone() == (False,)
    assert len(victim.execute("SELECT * FROM steadytext_queue WHERE status = 'pending'").fetchall()) == 2
    assert victim.execute("SELECT document FROM steadytext_index_search('mine', 'x')").fetchone() == ("my secret",)


def test_the_secret_key_is_for_superusers(connect: Sessions, make_role: Roles) -> None:
    secret = "a" * 40
    with connect() as admin:
        admin.execute("SELECT steadytext_config_set('daemon_client_secret_key', %s)", (secret,))
        assert admin.execute("SELECT steadytext_config_get('daemon_client_secret_key')").fetchone() == (secret,)
    administrator = connect(user=make_role("steadytext_admin"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        administrator.execute("SELECT steadytext_config_get('daemon_client_secret_key')")
    assert secret not in str(administrator.execute("SELECT * FROM steadytext_config").fetchall())


def test_the_owners_code_in_anothers_session_has_no_rights_of_that_session(
    connect: Sessions, user: psycopg.Connection, daemon: object
) -> None:
    """What PostgreSQL runs as a table's owner must not pass for who maintains it, and may generate and embed."""
    admin = connect()
    admin.execute("CREATE TABLE vault (id int PRIMARY KEY, secret text)")
    user.execute("CREATE TABLE hostile.tried (step text, code text, answer text)")
    user.execute("CREATE TABLE hostile.mine (x int)")
    user.execute("INSERT INTO hostile.mine VALUES (1)")
    user.execute(
        """
        CREATE FUNCTION hostile.try_all(x int) RETURNS int LANGUAGE plpgsql AS $f$
        DECLARE
            step text;
            answer text;
        BEGIN
            IF session_user = current_user THEN
                RETURN x;
            END IF;
            FOREACH step IN ARRAY ARRAY[
                'public.steadytext_config_get(''daemon_client_secret_key'')',
                'public.steadytext_autoembed(''public.vault''::regclass, ''secret'')::text',
                'public.steadytext_index_list()::text', 'public.steadytext_generate_async(''x'')::text',
                'public.steadytext_generate(''x'', model => ''openai:gpt'', unsafe_mode => true)',
                'public.steadytext_embed(''harmless'')::text'] LOOP
                BEGIN
                    EXECUTE 'SELECT ' || step INTO answer;
                    INSERT INTO hostile.tried VALUES (step, '00000', answer);
                EXCEPTION WHEN OTHERS THEN
                    INSERT INTO hostile.tried VALUES (step, SQLSTATE, SQLERRM);
                END;
            END LOOP;
            RETURN x;
        END $f$
        """
    )
    user.execute(
        "CREATE FUNCTION hostile.immutable(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS"
        " $f$BEGIN RETURN hostile.try_all(x); END$f$"
    )
    user.execute("CREATE INDEX ON hostile.mine (hostile.immutable(x))")
    user.execute("CREATE MATERIALIZED VIEW hostile.seen AS SELECT hostile.try_all(x) FROM hostile.mine WITH NO DATA")
    for maintenance in ("ANALYZE hostile.mine", "REINDEX TABLE hostile.mine", "REFRESH MATERIALIZED VIEW hostile.seen"):
        user.execute("TRUNCATE hostile.tried")
        admin.execute(maintenance.encode())
        tried = user.execute("SELECT DISTINCT step, code FROM hostile.tried").fetchall()
        assert len(tried) == 6, maintenance
        assert {code for step, code in tried if "harmless" not in step} == {"42501"}, (maintenance, tried)
        assert ("public.steadytext_embed('harmless')::text", "00000") in tried
    assert admin.execute("SELECT count(*) FROM steadytext_autoembeddings").fetchone() == (0,)


def test_one_role_cannot_use_up_or_lock_anothers_rate_limit(connect: Sessions, make_role: Roles) -> None:
    limited = make_role("steadytext_user")
    admin, victim, thief = connect(), connect(user=limited), connect(user=make_role("steadytext_user"))
    admin.execute("SELECT steadytext_rate_limit_set(%s, 2)", (limited,))
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="rate limit of role"):
        thief.execute("SELECT steadytext_embed_async('x', user_id => %s)", (limited,))
    admin.execute("SELECT steadytext_embed_async('x', user_id => %s)", (limited,))
    victim.execute("BEGIN")
    victim.execute("SELECT steadytext_embed_async('mine')")
    with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="keeps the rate limit of"):
        connect(user=limited).execute("SELECT steadytext_embed_async('mine too')")
    victim.execute("COMMIT")
