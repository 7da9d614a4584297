-- The operators on sets: one row a text, in input order, with the answer or the error. With strict, the first error is
-- raised instead.

CREATE FUNCTION @extschema@.steadytext_filter_batch(
    question text, texts text[], use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result boolean, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_filter_plan(question, use_cache, seed, model);
    RETURN QUERY SELECT o.place, @extschema@._steadytext_truth(o.answer), o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o;
END
$$;

CREATE FUNCTION @extschema@.steadytext_score_batch(
    criterion text, texts text[], use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result double precision, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_score_plan(criterion, use_cache, seed, model);
    RETURN QUERY SELECT o.place, @extschema@._steadytext_share(o.answer, 'yes'), o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o;
END
$$;

CREATE FUNCTION @extschema@.steadytext_classify_batch(
    texts text[], labels text[], use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result text, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_classify_plan(labels, false, use_cache, seed, model);
    RETURN QUERY SELECT o.place, o.answer, o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o;
END
$$;

-- A row for each text and label, best first within a text; where a text failed, its error stands beside every label.
CREATE FUNCTION @extschema@.steadytext_classify_scores_batch(
    texts text[], labels text[], multi_label boolean DEFAULT false, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, label text, score double precision, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    IF multi_label IS NULL THEN
        PERFORM @extschema@._steadytext_raise('22004', 'multi_label cannot be null');
    ELSIF multi_label THEN
        PERFORM @extschema@._steadytext_labels_check(labels);
        RETURN QUERY SELECT b.ordinal, l.name, b.result, b.error
                     FROM unnest(labels) WITH ORDINALITY l (name, place)
                     CROSS JOIN LATERAL @extschema@.steadytext_score_batch(
                         'about ' || l.name, texts, use_cache, seed, model, strict) b
                     ORDER BY b.ordinal, b.result DESC, l.place;
        RETURN;
    END IF;
    plan := @extschema@._steadytext_classify_plan(labels, true, use_cache, seed, model);
    RETURN QUERY SELECT o.place, l.name, @extschema@._steadytext_share(o.answer, l.name), o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o
                 CROSS JOIN unnest(labels) WITH ORDINALITY l (name, place)
                 ORDER BY o.place, 3 DESC, l.place;
END
$$;

CREATE FUNCTION @extschema@.steadytext_extract_batch(
    texts text[], schema jsonb, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result jsonb, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_extract_plan(schema, use_cache, seed, model, max_tokens);
    RETURN QUERY SELECT o.place, o.answer::jsonb, o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o;
END
$$;

CREATE FUNCTION @extschema@.steadytext_translate_batch(
    texts text[], language text, max_tokens integer DEFAULT NULL, use_cache boolean DEFAULT true,
    seed integer DEFAULT 42, model text DEFAULT NULL, strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result text, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_translate_plan(language, use_cache, seed, model, max_tokens);
    RETURN QUERY SELECT o.place, o.answer, o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o;
END
$$;

CREATE FUNCTION @extschema@.steadytext_sentiment_batch(
    texts text[], use_cache boolean DEFAULT true, seed integer DEFAULT 42, model text DEFAULT NULL,
    strict boolean DEFAULT false
) RETURNS TABLE (ordinal bigint, result text, error text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    plan record;
BEGIN
    plan := @extschema@._steadytext_sentiment_plan(use_cache, seed, model);
    RETURN QUERY SELECT o.place, o.answer, o.error
                 FROM @extschema@._steadytext_operate(texts, plan.params, plan.request, plan.cached, strict) o;
END
$$;
