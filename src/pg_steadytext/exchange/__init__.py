"""Cache files of SteadyText's own package: SQLite files whose values are pickles, read without ever running one."""
