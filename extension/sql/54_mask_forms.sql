-- What has a form: emails and addresses of the internet by a pattern; IBAN, card and phone numbers by their digits, so that
-- digits or words beside a number keep it from being found as little as they are taken for a part of it. Patterns look
-- behind by one character at most: a longer look is taken from the text's beginning, again for each match.

CREATE FUNCTION @extschema@._steadytext_mask_written(value text, kind text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    octets constant text := replace('O(?:[.]O){3}', 'O', '(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]{1,2})');
    -- RFC 4291, 2.2
    groups constant text := replace('(?:'
        '(?:(?:H:){6}|(?:H:){0,5}:(?::|(?::H){1,5}:)|(?:H:){1,5}:(?:H:){0,4})' || octets || '(?![[:alnum:]]|[.][0-9])|'
        '(?:(?:H:){7}H|(?:H:){1,7}:|(?:H:){6}:H|(?:H:){5}(?::H){1,2}|(?:H:){4}(?::H){1,3}|(?:H:){3}(?::H){1,4}'
        '|(?:H:){2}(?::H){1,5}|H:(?::H){1,6}|:(?::H){1,7})(?![[:alnum:]]|:[[:xdigit:]:]|[.][0-9]))', 'H', '[[:xdigit:]]{1,4}');
BEGIN
    IF kind = 'email' THEN
        RETURN regexp_replace(value, '[[:alnum:].!#$%&''*+/=?^_`{|}~-]+@[[:alnum:]](?:[[:alnum:]-]*[[:alnum:]])?'
            '(?:[.][[:alnum:]](?:[[:alnum:]-]*[[:alnum:]])?)+', '[EMAIL]', 'g');
    END IF;
    value := regexp_replace(value, '(?<![[:alnum:].:])' || groups, '[IP]', 'g');
    -- a word and a colon before one, if the word is no group of it
    value := regexp_replace(value, '([G-Zg-z][[:xdigit:]]{0,3}:|[[:alnum:]]{5}:)' || groups, E'\\1[IP]', 'g');
    RETURN regexp_replace(value, '(?<![[:alnum:].])' || octets || '(?![[:alnum:]]|[.][0-9])', '[IP]', 'g');
END
$$;

-- The text is cut before each place where a number of the kind could begin; there, what lies ahead is looked at: how many
-- characters the number takes, 0 for none; less than 0, so many are left as they are.
CREATE FUNCTION @extschema@._steadytext_mask_numbers(value text, kind text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    starts constant text := CASE kind
        WHEN 'iban' THEN '(?<![[:alnum:]])(?=[A-Za-z]{2}[0-9]{2}(?: ?[0-9A-Za-z]){11})'
        WHEN 'card' THEN '(?<![0-9])(?=[1-9](?:[ -]?[0-9]){12})'
        ELSE '(?<![[:alnum:]+])(?=[+]?[(]?[0-9](?:[)]?[ ./-]?[(]?[0-9]){6})' END;
BEGIN
    IF value ~ starts THEN
        SELECT string_agg(p.piece, '' ORDER BY p.place) INTO value
        FROM @extschema@._steadytext_mask_pieces(value, kind, starts) WITH ORDINALITY p (piece, place);
    END IF;
    RETURN value;
END
$$;

CREATE FUNCTION @extschema@._steadytext_mask_pieces(value text, kind text, starts text) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    part record;
    size integer;
    taken integer;
    left_over integer := 0;
    before text;
BEGIN
    FOR part IN SELECT p.piece, left(string_agg(left(p.piece, 70), '') OVER (
                    ORDER BY p.place ROWS BETWEEN CURRENT ROW AND 34 FOLLOWING), 70) AS ahead
                FROM regexp_split_to_table(value, starts) WITH ORDINALITY p (piece, place) ORDER BY p.place
    LOOP
        size := length(part.piece);
        taken := left_over;
        IF taken = 0 THEN
            taken := CASE kind WHEN 'iban' THEN @extschema@._steadytext_mask_iban(part.ahead)
                               WHEN 'card' THEN @extschema@._steadytext_mask_card(part.ahead)
                               ELSE @extschema@._steadytext_mask_phone(part.ahead, substring(before FROM '[0-9][)]?([ ./-])$')) END;
            IF taken <> 0 THEN
                RETURN NEXT CASE WHEN taken > 0 THEN '[' || upper(kind) || ']' ELSE left(part.ahead, -taken) END;
                taken := abs(taken);
            END IF;
        END IF;
        left_over := greatest(taken - size, 0);
        IF size > taken THEN
            before := substr(part.piece, taken + 1);
            RETURN NEXT before;
            before := right(before, 3);
        ELSE
            before := NULL;
        END IF;
    END LOOP;
END
$$;

-- ISO 7064 MOD 97-10 over exactly the length of the country's IBANs: ISO 13616's registry, and those in use without it.
CREATE FUNCTION @extschema@._steadytext_mask_iban(ahead text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    lengths constant jsonb := '{"AD": 24, "AE": 23, "AL": 28, "AO": 25, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BF": 28, "BG": 22,
        "BH": 22, "BI": 27, "BJ": 28, "BR": 29, "BY": 28, "CF": 27, "CG": 27, "CH": 21, "CI": 28, "CM": 27, "CR": 22, "CV": 25,
        "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "DZ": 26, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18,
        "FO": 18, "FR": 27, "GA": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GQ": 27, "GR": 27, "GT": 28, "GW": 25, "HN": 28,
        "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IR": 26, "IS": 26, "IT": 27, "JO": 30, "KM": 27, "KW": 30, "KZ": 20,
        "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MA": 28, "MC": 27, "MD": 24, "ME": 22, "MG": 27,
        "MK": 19, "ML": 28, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "MZ": 25, "NE": 28, "NI": 28, "NL": 18, "NO": 15, "OM": 23,
        "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24,
        "SI": 19, "SK": 24, "SM": 27, "SN": 28, "SO": 23, "ST": 25, "SV": 28, "TD": 27, "TG": 28, "TL": 23, "TN": 24, "TR": 26,
        "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30}'::jsonb;
    size constant integer := (lengths ->> upper(left(ahead, 2)))::integer;
    found constant text := substring(ahead FROM format('^(?:[0-9A-Za-z] ?){%s}[0-9A-Za-z](?![[:alnum:]])', size - 1));
    bare text := upper(replace(found, ' ', ''));
BEGIN
    IF found IS NULL THEN
        RETURN 0;
    END IF;
    bare := substr(bare, 5) || left(bare, 4);
    FOR letter IN 10 .. 35 LOOP
        bare := replace(bare, chr(letter + 55), letter::text);
    END LOOP;
    RETURN CASE WHEN bare::numeric % 97 = 1 THEN length(found) ELSE 0 END;
END
$$;

-- As many digits as Luhn's formula (ISO/IEC 7812-1) holds for, of 13 to 19.
CREATE FUNCTION @extschema@._steadytext_mask_card(ahead text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- by the value of two digits: the sum of the doubled first's digits and the second, modulo 10
    sums constant text := '0123456789234567890145678901236789012345890123456712345678903456789012567890123478901234569012345678';
    run text := substring(ahead FROM '^[1-9](?:[ -]?[0-9]){12,19}');
    digits text;
    total integer;
BEGIN
    IF substr(ahead, length(run) + 1, 1) BETWEEN '0' AND '9' THEN
        run := rtrim(rtrim(run, '0123456789'), ' -');
    END IF;
    WHILE length(run) >= 13 LOOP
        digits := translate(run, ' -', '');
        EXIT WHEN length(digits) < 13;
        IF length(digits) < 20 THEN
            digits := lpad(digits, 20, '0');
            total := 0;
            FOR pair IN 1 .. 19 BY 2 LOOP
                total := total + substr(sums, substr(digits, pair, 2)::integer + 1, 1)::integer;
            END LOOP;
            IF total % 10 = 0 THEN
                RETURN length(run);
            END IF;
        END IF;
        run := rtrim(rtrim(run, '0123456789'), ' -');
    END LOOP;
    RETURN 0;
END
$$;

-- All of a row of digits where it may be one number, else as much of it, up to a space or slash, as is one without doubt,
-- best where the next begins. `joined` is what ties it to digits before that are no number.
CREATE FUNCTION @extschema@._steadytext_mask_phone(ahead text, joined text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    day constant text := '(?:19|20)[0-9]{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])';
    doubtless constant boolean := ahead ~ '^(?:[+]|0|[(][0-9]+[)])';
    run text;
    longest integer;
BEGIN
    IF joined IN ('.', '-') OR joined IS NOT NULL AND NOT doubtless AND ahead !~ '^[0-9]+[./-]' THEN
        RETURN 0;
    END IF;
    run := substring(ahead FROM '^[(]?' || day || '(?:(?![[:alnum:]]|-[0-9])|(?=-' || day || '))');
    IF run IS NOT NULL THEN
        RETURN -length(run);
    END IF;
    run := substring(ahead FROM '^[+]?[(]?[0-9]+(?:[)]?[ ./-]?[(]?[0-9]+)*[)]?');
    -- after a whole number: a date, an hour, 24/7
    run := coalesce(substring(left(ahead, length(run) + 3) FROM
        '^((?:[^0-9]*[0-9]){7,}?[)]?) (?:[0-9]{1,2}(?:/[0-9]{1,4}|:[0-9]{2})|' || day || ')(?![0-9])'), run);
    IF substr(ahead, length(run) + 1, 1) ~ '[[:alnum:]]' THEN
        run := regexp_replace(run, '[ ./()-]*[0-9]+[)]?$', '');
    END IF;
    IF length(translate(run, '+() ./-', '')) BETWEEN 7 AND 15 THEN
        RETURN CASE WHEN doubtless OR run ~ '^[(]|[0-9][ ./-][0-9]' AND run !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'
                    THEN length(run) ELSE 0 END;
    END IF;
    IF NOT doubtless THEN
        run := substring(run FROM '^[0-9]+[./-][0-9()./-]*[0-9](?= )');
        RETURN CASE WHEN length(translate(run, '+() ./-', '')) BETWEEN 7 AND 15 THEN length(run) ELSE 0 END;
    END IF;
    LOOP
        run := substring(run FROM '^(.*[0-9)])[ /]');
        EXIT WHEN run IS NULL OR length(translate(run, '+() ./-', '')) < 7;
        CONTINUE WHEN length(translate(run, '+() ./-', '')) > 15;
        IF substr(ahead, length(run) + 2) ~ '^[(]?0' THEN
            RETURN length(run);
        END IF;
        longest := coalesce(longest, length(run));
    END LOOP;
    RETURN coalesce(longest, 0);
END
$$;
