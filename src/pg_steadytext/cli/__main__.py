"""``python -m pg_steadytext.cli``: the command without its script."""

from pg_steadytext.cli.main import app

if __name__ == "__main__":
    app(prog_name="pg-steadytext")
