"""Prompts exclude each other's writers, and get nothing out of the sandbox."""

from __future__ import annotations

import json
import threading
import time

import psycopg
import pytest

from tests.support.databases import Sessions

ESCAPES = [
    # attributes and what they lead to
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ ''['\\x5f\\x5fclass\\x5f\\x5f'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ().__class__.__bases__[0].__subclasses__() }}",
    "{{ [1]|map(attribute='__class__')|list }}",
    "{{ [1]|map('attr', '__class__')|list }}",
    "{{ ['']|selectattr('__class__')|list }}",
    "{{ ['a']|sort(attribute='__class__.__mro__') }}",
    "{{ [1]|groupby('__class__') }}",
    "{{ 'a'|escape|attr('__html__') }}",
    "{{ dict.__subclasses__() }}",
    "{{ dict.mro() }}",
    "{{ namespace.__init__ }}",
    "{{ range.__self__ }}",
    "{% for i in [1] %}{{ loop._iterator }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "{% macro m() %}{% endmacro %}{{ m.name }}",
    "{{ (1).__class__ }}",
    "{{ ''.encode() }}",
    # the environment's and the context's objects
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ config.items() }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ range }}",
    # format strings
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ ''.format.__self__ }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
    "{{ '%s'|format(1) }}",
    "{{ '%999999999d' % 5 }}",
    # other templates and files
    "{% import 'os' as os %}",
    "{% from 'x' import y %}",
    "{% include '/etc/passwd' %}",
    "{% extends 'x' %}",
    "{% block a %}{% endblock %}",
    # changing what was passed
    "{{ [].append(1) }}",
    "{% set x = {} %}{{ x.update(a=1) }}",
    # memory
    "{{ range(100000000) }}",
    "{{ 'a' * 1000000000 }}",
    "{{ [0] * 1000000000 }}",
    "{{ 10 ** 10000000 }}",
    "{{ 9 ** (9 ** 9) }}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x={}) %}{% for i in range(200) %}{% set ns.x = {'a': ns.x} %}{% endfor %}{{ ns.x }}",
    "{{ ('a' * 900000).replace('a', 'b' * 900000) }}",
    "{{ ('a' * 900000)|replace('a', 'b' * 900000) }}",
    "{{ ('a' * 900000).join(['x'] * 1000) }}",
    "{{ ['x'] * 1000 | join('a' * 900000) }}",
    "{{ 'a'|center(1000000000) }}",
    "{{ 'a'.zfill(1000000000) }}",
    "{{ 'a\t'.expandtabs(1000000000) }}",
    "{{ 1.5|round(100000000, 'floor') }}",
    "{{ [1]|batch(1000000000, 'x')|list }}",
    "{{ ([[1] * 1000] * 1000)|sum(start=[])|length }}",
    # time
    "{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}",
    "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
    "{% macro m(n) %}{% if n < 40 %}{{ m(n + 1) }}{{ m(n + 1) }}{% endif %}{% endmacro %}{{ m(0) }}",
    "{% for i in [1, 2] recursive %}{% if loop.depth < 40 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}",
    "{% macro m() %}" + "y" * 50000 + "{% endmacro %}{% for i in range(10000) %}{% set q = m() %}{% endfor %}",
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
    "{{ " + "1+" * 5000 + "1 }}",
    # what no text holds
    "{{ '\\x00' }}",
    "{{ '\\ud800' }}",
]


REFUSED = {"42601", "42501", "22023", "22001"}


@pytest.mark.parametrize("strict", [True, False])
def test_every_escape_is_refused(strict: bool, connection: psycopg.Connection) -> None:
    for number, template in enumerate(ESCAPES):
        began = time.monotonic()
        assert outcome(connection, f"escape-{number}", template, strict) in REFUSED, template
        assert time.monotonic() - began < 3, template


def outcome(connection: psycopg.Connection, slug: str, template: str, strict: bool) -> str:
    """The SQLSTATE of making and rendering a prompt, or what it wrote."""
    try:
        connection.execute("SELECT steadytext_prompt_create(%s, %s)", (slug, template))
        row = connection.execute("SELECT steadytext_prompt_render(%s, '{}', strict => %s)", (slug, strict)).fetchone()
    except psycopg.Error as error:
        return str(error.sqlstate)
    return str(row)


def test_rendering_obeys_statement_timeout(connection: psycopg.Connection) -> None:
    slow = "{% for i in range(9000) %}{% set x = text|wordcount %}{% endfor %}"
    connection.execute("SELECT steadytext_prompt_create('slow', %s)", (slow,))
    connection.execute("SET statement_timeout = '300ms'")
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT steadytext_prompt_render('slow', %s)", (json.dumps({"text": "a " * 100_000}),))
    assert time.monotonic() - began < 1.5


def test_concurrent_updates_make_one_version_each(connect: Sessions) -> None:
    sessions = [connect() for _ in range(8)]
    sessions[0].execute("SELECT steadytext_prompt_create('busy', 'zero')")

    def update(session: psycopg.Connection) -> None:
        for number in range(5):
            session.execute("SELECT steadytext_prompt_update('busy', %s)", (f"{number}",))

    threads = [threading.Thread(target=update, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = sessions[0].execute("SELECT version FROM steadytext_prompt_versions('busy')").fetchall()
    assert versions == [(number,) for number in range(1, 42)]
