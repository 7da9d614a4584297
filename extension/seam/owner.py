import ctypes

backend = ctypes.PyDLL(None)
user, context = ctypes.c_uint(), ctypes.c_int()
backend.GetUserIdAndSecContext(ctypes.byref(user), ctypes.byref(context))
RESTRICTED, PAST_FORCED_POLICIES = 2, 4
STATEMENT_TIMEOUT = 3
plans = SD.setdefault("plans", {})
below = ctypes.c_void_p.in_dll(backend, "error_context_stack")
waits, cancels = (ctypes.c_int.in_dll(backend, name) for name in ("InterruptPending", "QueryCancelPending"))
backend.get_timeout_active.restype = backend.get_timeout_indicator.restype = ctypes.c_bool


def overdue():
    return timed and not backend.get_timeout_active(STATEMENT_TIMEOUT)


# PostgreSQL calls it with every error: code that catches the cancel is cancelled again at once, until none does.
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def insist(_):
    if overdue():
        waits.value = cancels.value = 1


# as PostgreSQL's own ErrorContextCallback: the one before, the function, its argument
frame = (ctypes.c_void_p * 3)(below.value, ctypes.cast(insist, ctypes.c_void_p).value, None)
timed = milliseconds is not None and not backend.get_timeout_active(STATEMENT_TIMEOUT)
late = False
level = backend.NewGUCNestLevel()
try:
    if "settings" not in plans:
        plans["settings"] = plpy.prepare(
            "SELECT pg_catalog.set_config('search_path', $1, true), pg_catalog.set_config('lock_timeout', $2, true)",
            ["text", "text"],
        )
    plpy.execute(plans["settings"], [path, patience])
    backend.SetUserIdAndSecContext(ctypes.c_uint(role), ctypes.c_int(context.value | RESTRICTED | PAST_FORCED_POLICIES))
    if timed:
        below.value = ctypes.addressof(frame)
        backend.enable_timeout_after(STATEMENT_TIMEOUT, milliseconds)
    kept = (role, path, statement)
    if kept not in plans:
        if len(plans) > 500:
            plans.clear()
        plans[kept] = plpy.prepare(statement, ["text[]", "text[]", "text[]"])
    rows = plpy.execute(plans[kept], [a, b, c])
except plpy.SPIError:
    late = overdue()
    if not late:
        raise
finally:
    if timed:
        below.value = frame[0]
        came = overdue()
        backend.disable_timeout(STATEMENT_TIMEOUT, True)
        if backend.get_timeout_indicator(STATEMENT_TIMEOUT, True) or came:
            cancels.value = 0  # it may have come with the statement's end: it is for no other
    backend.SetUserIdAndSecContext(user, context)
    backend.AtEOXact_GUC(False, level)
if late:
    plpy.error("it took too long", sqlstate="ST002")
return [(row["key"], row["value"], row["note"]) for row in rows] if rows.nrows() and rows.colnames() else []
