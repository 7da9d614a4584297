import ctypes

backend = ctypes.PyDLL(None)
user, context = ctypes.c_uint(), ctypes.c_int()
backend.GetUserIdAndSecContext(ctypes.byref(user), ctypes.byref(context))
RESTRICTED, PAST_FORCED_POLICIES = 2, 4
plans = SD.setdefault("plans", {})
level = backend.NewGUCNestLevel()
try:
    if "settings" not in plans:
        plans["settings"] = plpy.prepare(
            "SELECT pg_catalog.set_config('search_path', $1, true), pg_catalog.set_config('lock_timeout', $2, true)",
            ["text", "text"],
        )
    plpy.execute(plans["settings"], [path, patience])
    backend.SetUserIdAndSecContext(ctypes.c_uint(role), ctypes.c_int(context.value | RESTRICTED | PAST_FORCED_POLICIES))
    kept = (role, path, statement)
    if kept not in plans:
        if len(plans) > 500:
            plans.clear()
        plans[kept] = plpy.prepare(statement, ["text[]", "text[]", "text[]"])
    rows = plpy.execute(plans[kept], [a, b, c])
finally:
    backend.SetUserIdAndSecContext(user, context)
    backend.AtEOXact_GUC(False, level)
return [(row["key"], row["value"], row["note"]) for row in rows] if rows.nrows() and rows.colnames() else []
