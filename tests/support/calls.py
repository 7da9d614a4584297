"""A call of every public function that does what the function is for, and one of any function by its types alone.

`{tag}` stands for a word of lower-case letters that is new with each run, so that names are new too.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg

EXAMPLES = {
    "generate": "'Say {tag}.', 2",
    "generate_stream": "'Stream {tag}.', 2",
    "generate_cached": "'Say {tag}.', 2",
    "generate_prompt": "'kept', '{{\"word\": \"{tag}\"}}', max_tokens => 2",
    "generate_json": "'Number {tag}', '{{\"enum\": [1, 2]}}', 8",
    "generate_regex": "'Digit {tag}', '[0-9]', 4",
    "generate_choice": "'Choose {tag}', ARRAY['a', 'b']",
    "generate_async": "'Later {tag}', 2, 5, NULL, dedupe_key => '{tag}', not_before => 'tomorrow'",
    "generate_json_async": "'Later {tag}', '{{\"enum\": [1, 2]}}'",
    "generate_regex_async": "'Later {tag}', '[0-9]'",
    "generate_choice_async": "'Later {tag}', ARRAY['a', 'b']",
    "generate_batch_async": "ARRAY['One {tag}', 'Two {tag}']",
    "embed": "'Embed {tag}'",
    "embed_batch": "ARRAY['Embed {tag}', 'Two {tag}', NULL]",
    "rerank_top_k": "'q {tag}', ARRAY['a', 'b'], 1",
    "prompt_create": "'made-{tag}', 'A {{{{ word }}}} {{% if more is defined %}}{{{{ more }}}}{{% endif %}}'",
    "prompt_update": "'kept', 'Say {{{{ word }}}} again.'",
    "prompt_get": "'kept'",
    "prompt_render": "'kept', '{{\"word\": \"{tag}\"}}'",
    "prompt_diff": "'kept', 1, 1",
    "prompt_versions": "'kept'",
    "prompt_delete": "'made-{tag}'",
    "prompt_pattern_set": "'made-{tag}', 'x'",
    "prompt_pattern_drop": "'made-{tag}'",
    "index_create": "'made-{tag}', ARRAY['a', 'b']",
    "index_add": "'kept', ARRAY['c {tag}']",
    "index_search": "'kept', 'a'",
    "index_drop": "'made-{tag}'",
    "check_async": "{request}",
    "get_result": "{request}",
    "get_async_result": "{request}, 0",
    "check_async_batch": "ARRAY[{request}]",
    "batch_status": "{request}",
    "cancel_async": "{request}",
    "queue_retry": "{request}",
    "cache_key": "'a', '{{\"b\": 1}}'",
    "config_get": "'daemon_port'",
    "config_set": "'default_seed', '42'",
    "check_rate_limit": "current_user",
    "rate_limit_set": "'made-{tag}', 5",
    "semantic_search": "'Embed', 3, 0",
    "model_register": "'made-{tag}', 'generation'",
    "pre_migration_check": "'1.1.0'",
    "migrate": "'1.1.0'",
}

BY_TYPE = {
    "text": "'a text'", "text[]": "ARRAY['one text', 'another']", "integer": "1", "bigint": "1", "boolean": "true",
    "double precision": "0.5", "jsonb": "'{}'", "uuid": "'00000000-0000-0000-0000-000000000000'",
    "uuid[]": "'{00000000-0000-0000-0000-000000000000}'", "name": "'name'", "interval": "'1 day'",
}  # fmt: skip

REQUEST = "(SELECT request_id FROM public.steadytext_queue ORDER BY id LIMIT 1)"
PREPARED = [
    "SELECT public.steadytext_prompt_create('kept', 'Say {{ word }}.')",
    "SELECT public.steadytext_index_create('kept', ARRAY['a', 'b'])",
    "SELECT public.steadytext_embed_async('Waits.', not_before => 'tomorrow')",
]
"""What the examples need: a prompt, an index, a request that waits."""


class Function(NamedTuple):
    """A public function: its name without prefix, and the types of the arguments without a default."""

    name: str
    required: list[str]


REQUIRED = r"""
SELECT substr(p.proname, 12), ARRAY(SELECT format_type(a.type, NULL)
                                    FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, place)
                                    WHERE a.place <= p.pronargs - p.pronargdefaults ORDER BY a.place)
  FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'steadytext\_%'
 ORDER BY p.proname"""


def functions(connection: psycopg.Connection) -> list[Function]:
    """Return every public function of the extension."""
    return [Function(*row) for row in connection.execute(REQUIRED)]


def call(function: Function, tag: str, prefix: str = "steadytext_") -> str:
    """Write the call of a function."""
    example = EXAMPLES.get(function.name)
    if example is None:
        arguments = ", ".join(BY_TYPE.get(kind, "NULL") for kind in function.required)
    else:
        arguments = example.format(tag=tag, request=REQUEST)
    return f"SELECT * FROM public.{prefix}{function.name}({arguments})"
