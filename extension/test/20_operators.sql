\ir setup.psql
SELECT plan(107);

-- What needs no model.
SELECT is(steadytext_mask(v), w, v) FROM (VALUES
    ('Mail anna.b+x@mail.example.org, today.', 'Mail [EMAIL], today.'),
    ('a@b is none', 'a@b is none'),
    ('Call +49 (30) 901820 or 030-901 820!', 'Call [PHONE] or [PHONE]!'),
    ('On 2024-03-01 at 10:30, room 1204, 3.14', 'On 2024-03-01 at 10:30, room 1204, 3.14'),
    ('IBAN DE89 3704 0044 0532 0130 00.', 'IBAN [IBAN].'),
    ('IBAN GB82WEST12345698765432', 'IBAN [IBAN]'),
    ('Card 4111 1111 1111 1111 or 4111-1111-1111-1111', 'Card [CARD] or [CARD]'),
    ('From 192.168.0.17 or 2001:db8::1, port 80', 'From [IP] or [IP], port 80'),
    ('Version 300.1.2.4 at 12:30:45', 'Version 300.1.2.4 at 12:30:45'),
    -- what stands beside a number neither hides it nor goes with it
    ('card 4111 1111 1111 1111 03/27', 'card [CARD] 03/27'),
    ('card 4111 1111 1111 1111 737', 'card [CARD] 737'),
    ('id 7 4111111111111111', 'id 7 [CARD]'),
    ('4111 1111 1111 1111 4012-8888-8888-1881', '[CARD] [CARD]'),
    ('41111111111111111111', '41111111111111111111'),
    ('4111 1111 1111 1112', '4111 1111 1111 1112'),
    ('AT61 1904 3002 3457 3201 bitte', '[IBAN] bitte'),
    ('ES91 2100 0418 4502 0005 1332 for Bob', '[IBAN] for Bob'),
    ('PL61 1090 1014 0000 0712 1981 2874 PLN', '[IBAN] PLN'),
    ('BE68 5390 0754 7034 is my IBAN', '[IBAN] is my IBAN'),
    ('no BE11 BE68 5390 0754 7034 MT84MALT011000012345MTLCAST001S', 'no BE11 [IBAN] [IBAN]'),
    ('1.2.3.4:80, ip:10.0.0.1 10.0.0.1/24, 1.2.3.4.5', '[IP]:80, ip:[IP] [IP]/24, 1.2.3.4.5'),
    ('::ffff:10.0.0.1 [2001:db8::1]:443 ip:2001:db8::1: up', '[IP] [[IP]]:443 ip:[IP]: up'),
    ('1:2:3:4:5:6:7:8 ab:cd:ef:01:02:03:04:05:06:07 a::b::c std::dec', '[IP] ab:cd:ef:01:02:03:04:05:06:07 a::b::c std::dec'),
    ('Tel 030 901820 0171 1234567', 'Tel [PHONE] [PHONE]'),
    ('212-555-1234 646-555-6789 or +1 212 555 1234 +1 646 555 6789', '[PHONE] [PHONE] or [PHONE] [PHONE]'),
    ('(030) 9018 0234, 030 901820/0171 1234567', '[PHONE], [PHONE]/[PHONE]'),
    ('2024-03-01 030-901820', '2024-03-01 [PHONE]'),
    ('030-901820 2024-03-01 10:30', '[PHONE] 2024-03-01 10:30'),
    ('call 030-901820 24/7, +49 30 901820 10:30', 'call [PHONE] 24/7, [PHONE] 10:30'),
    ('2024-03-01/2024-03-05, 2024-03-01 10:30', '2024-03-01/2024-03-05, 2024-03-01 10:30'),
    ('12345678-0123-4567-8901-234567890123', '12345678-0123-4567-8901-234567890123'),
    (E'  two\t spaces \n\n kept, 東京 🙂 ', E'  two\t spaces \n\n kept, 東京 🙂 '),
    ('', ''), (NULL, NULL)) t (v, w);
SELECT is(steadytext_mask('DE88370400440532013000', '{iban}'), 'DE88370400440532013000', 'an IBAN has check digits');
SELECT is(steadytext_mask('4111 1111 1111 1112', '{card}'), '4111 1111 1111 1112', 'so has a card');
SELECT is(steadytext_mask('a@b.org 192.168.0.17', '{ip}'), 'a@b.org [IP]', 'only what is asked for');
SELECT results_eq($$SELECT * FROM steadytext_mask_batch(ARRAY['a@b.org', NULL, ''])$$,
    $$VALUES (1::bigint, '[EMAIL]', NULL::text), (2, NULL, NULL), (3, '', NULL)$$, 'a set is masked in order');
SELECT results_eq($$SELECT * FROM steadytext_mask_batch('[3:4][2:3]={{a@b.org,b},{NULL,c}}'::text[])$$,
    $$VALUES (1::bigint, '[EMAIL]', NULL::text), (2, 'b', NULL), (3, NULL, NULL), (4, 'c', NULL)$$, 'an array of any shape');
SELECT throws_ok($$SELECT steadytext_mask('a', NULL)$$, '22004', 'kinds cannot be null');
SELECT throws_ok($$SELECT steadytext_mask('a', '{email,NULL}')$$, '22004', 'kinds cannot contain null');
SELECT throws_ok($$SELECT steadytext_mask('a', '{}')$$, '22023', 'kinds cannot be empty');
SELECT throws_ok($$SELECT steadytext_mask('a', '{shoe}')$$, '22023', 'kinds cannot contain "shoe"');
SELECT throws_ok($$SELECT steadytext_mask(repeat('a', 100001))$$, '22001', 'input_text of 100001 characters is longer than max_prompt_chars allows, 100000');
SELECT is(steadytext_mask(repeat(' ', 10)), repeat(' ', 10), 'an empty text has nothing to mask');
SELECT throws_ok($$SELECT steadytext_mask('a', strict => NULL)$$, '22004', 'strict cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_mask_batch('{a}', strict => NULL)$$, '22004', 'strict cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_mask_batch(ARRAY['a', repeat('a', 100001)], strict => true)$$, '22001', 'texts[2]: input_text of 100001 characters is longer than max_prompt_chars allows, 100000');
SELECT results_eq($$SELECT result, error FROM steadytext_mask_batch(ARRAY[repeat('a', 100001), 'a'])$$,
    $$VALUES (NULL, 'input_text of 100001 characters is longer than max_prompt_chars allows, 100000'), ('a', NULL)$$, 'a text too long is an error of its row');
SELECT throws_ok($$SELECT * FROM steadytext_mask_batch(NULL)$$, '22004', 'texts cannot be null');

-- A null text is a null answer, whatever the operator.
SELECT is(steadytext_filter('Is it?', NULL), NULL, 'filter');
SELECT is(steadytext_score('good', NULL), NULL, 'score');
SELECT is(steadytext_classify(NULL, '{a,b}'), NULL, 'classify');
SELECT is(steadytext_extract(NULL, '{"type": "object"}'), NULL, 'extract');
SELECT is(steadytext_translate(NULL, 'French'), NULL, 'translate');
SELECT is(steadytext_sentiment(NULL), NULL, 'sentiment');
SELECT is(steadytext_similarity(NULL, 'a'), NULL, 'similarity');
SELECT is(steadytext_similarity('a', NULL), NULL, 'similarity, the other');
SELECT results_eq($$SELECT * FROM steadytext_classify_scores(NULL, '{a,b}')$$,
    $$VALUES ('a', NULL::float8), ('b', NULL)$$, 'classify_scores');
SELECT results_eq($$SELECT * FROM steadytext_filter_batch('Is it?', ARRAY[NULL]::text[])$$,
    $$VALUES (1::bigint, NULL::boolean, NULL::text)$$, 'in a set, without an error');
SELECT is(count(*), 0::bigint, 'no texts, no rows') FROM steadytext_filter_batch('Is it?', '{}');

-- Answers have their form.
SELECT ok(steadytext_filter('Is it about an animal?', 'The dog barks.') IS NOT DISTINCT FROM
          (SELECT result FROM st_filter_batch('Is it about an animal?', ARRAY['The dog barks.'])), 'by row as by set');
SELECT ok(steadytext_score('about an animal', 'The dog barks.') BETWEEN 0 AND 1, 'a score lies between 0 and 1');
SELECT ok(steadytext_classify('The dog barks.', '{animal,plant}') IN ('animal', 'plant'), 'a label is one of the list');
SELECT ok(abs(sum(score) - 1) < 1e-9 AND count(*) = 3, 'the shares of all labels make one')
    FROM steadytext_classify_scores('The dog barks.', '{animal,plant,stone}');
SELECT is((SELECT label FROM steadytext_classify_scores('The dog barks.', '{animal,plant,stone}') LIMIT 1),
    steadytext_classify('The dog barks.', '{animal,plant,stone}'), 'the first of them is the label');
SELECT results_eq($$SELECT label, score FROM steadytext_classify_scores_batch(ARRAY['The dog barks.'], '{animal,plant,stone}')$$,
    $$SELECT * FROM steadytext_classify_scores('The dog barks.', '{animal,plant,stone}')$$, 'scores by row as by set');
SELECT set_eq($$SELECT score FROM steadytext_classify_scores('The dog barks.', '{animal,plant}', multi_label => true)$$,
    $$SELECT steadytext_score('about ' || l, 'The dog barks.') FROM unnest('{animal,plant}'::text[]) l$$,
    'with multi_label each label is judged by itself');
SELECT results_eq($$SELECT label, score FROM steadytext_classify_scores_batch(ARRAY['The dog barks.'], '{animal,plant}', true)$$,
    $$SELECT * FROM steadytext_classify_scores('The dog barks.', '{animal,plant}', true)$$, 'and so in a set');
SELECT set_eq($$SELECT jsonb_object_keys(steadytext_extract('We meet in Oslo.', '{"type": "object", "required": ["city"],
    "properties": {"city": {"type": "string", "maxLength": 10}}, "additionalProperties": false}'))$$, ARRAY['city'], 'an extract follows its schema');
SELECT ok(steadytext_sentiment('I love it.') IN ('positive', 'negative', 'neutral', 'mixed'), 'a feeling is one of four');
SELECT ok(steadytext_similarity('a red car', 'a red automobile') > steadytext_similarity('a red car', 'the tax law'), 'alike is more similar');
SELECT is(round(steadytext_similarity('the same', 'the same')::numeric, 6), 1.000000, 'a text is like itself');
SELECT is(result, steadytext_similarity('a red car', 'the tax law'), 'similarity by row as by set')
    FROM steadytext_similarity_batch(ARRAY['a red car'], ARRAY['the tax law']);
SELECT isnt(error, NULL, 'a translation that max_tokens cuts off is an error, not half a text')
    FROM steadytext_translate_batch(ARRAY['The dog barks at the man in the green coat.'], 'French', max_tokens => 2);
SELECT results_eq(format('SELECT * FROM steadytext_mask_batch(%L::text[], ''{name,email}'')', v),
    $$SELECT * FROM steadytext_mask_batch('{Anna Berg lives,car a@b.org,"",Tom}', '{name,email}')$$, v || ' is masked in storage order')
    FROM (VALUES ('[3:6]={Anna Berg lives,car a@b.org,"",Tom}'), ('{{Anna Berg lives,car a@b.org},{"",Tom}}')) t (v);
SELECT ok(position('a@b.org' IN steadytext_mask('Write to a@b.org', '{email,name,address}')) = 0, 'names beside forms');

-- Refusals.
SELECT throws_ok($$SELECT steadytext_filter(NULL, 'a')$$, '22004', 'question cannot be null');
SELECT throws_ok($$SELECT steadytext_filter(' ', 'a')$$, '22023', 'question cannot be empty');
SELECT throws_ok($$SELECT steadytext_filter('q', ' ')$$, '22023', 'input_text cannot be empty');
SELECT throws_ok($$SELECT steadytext_filter('q', repeat('a', 100001))$$, '22001');
SELECT throws_ok($$SELECT steadytext_filter('q', 'a', strict => NULL)$$, '22004', 'strict cannot be null');
SELECT throws_ok($$SELECT steadytext_filter('q', 'a', seed => -1)$$, '22023', 'seed must be non-negative');
SELECT throws_ok($$SELECT steadytext_filter('q', 'a', model => 'nobody')$$, 'P0002');
SELECT throws_ok($$SELECT steadytext_filter('q', 'a', use_cache => NULL)$$, '22004', 'use_cache cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_filter_batch('q', NULL)$$, '22004', 'texts cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_filter_batch('q', '{a,""}', strict => true)$$, '22023', 'texts[2]: input_text cannot be empty');
SELECT results_eq($$SELECT result, error FROM steadytext_filter_batch('q', '{""}')$$, $$VALUES (NULL::boolean, 'input_text cannot be empty')$$, 'a lenient set gives the error');
SELECT throws_ok($$SELECT steadytext_score(NULL, 'a')$$, '22004', 'criterion cannot be null');
SELECT throws_ok($$SELECT steadytext_translate('a', NULL)$$, '22004', 'language cannot be null');
SELECT throws_ok($$SELECT steadytext_translate('The dog barks.', 'French', max_tokens => 1)$$, '22023', 'max_tokens cut the answer off');
SELECT throws_ok($$SELECT steadytext_classify('a', NULL)$$, '22004', 'labels cannot be null');
SELECT throws_ok($$SELECT steadytext_classify('a', '{a,NULL}')$$, '22004', 'labels cannot contain null');
SELECT throws_ok($$SELECT steadytext_classify('a', '{a}')$$, '22023', 'labels must contain at least 2 labels');
SELECT throws_ok($$SELECT steadytext_classify('a', '{{a,b},{c,d}}')$$, '22023', 'labels must be an array of one dimension');
SELECT throws_ok($$SELECT steadytext_classify('a', '{a,a}')$$, '22023', 'labels cannot contain duplicates');
SELECT throws_ok($$SELECT steadytext_classify('a', '{a," "}')$$, '22023', 'labels cannot contain an empty label');
SELECT throws_ok($$SELECT * FROM steadytext_classify_scores('a', '{a,b}', multi_label => NULL)$$, '22004', 'multi_label cannot be null');
SELECT throws_ok($$SELECT steadytext_extract('a', NULL)$$, '22004', 'Schema cannot be null');
SELECT throws_ok($$SELECT steadytext_extract('a', '{}')$$, '22023', 'Schema cannot be empty');
SELECT throws_ok($$SELECT steadytext_similarity('a', ' ')$$, '22023', 'b cannot be empty');
SELECT throws_ok($$SELECT steadytext_similarity('a', 'b', strict => NULL)$$, '22004', 'strict cannot be null');
SELECT throws_ok($$SELECT * FROM steadytext_similarity_batch('{a}', '{}')$$, '22023', 'a and b must have the same length, not 1 and 0');
SELECT throws_ok($$SELECT * FROM steadytext_similarity_batch('{a}', NULL)$$, '22004', 'b cannot be null');
SELECT results_eq($$SELECT * FROM steadytext_similarity_batch('{a,""}', '{a,b}', strict => false)$$,
    $$VALUES (1::bigint, 1::float8, NULL::text), (2, NULL, 'a cannot be empty')$$, 'a pair has its own error');
SELECT throws_ok($$SELECT * FROM steadytext_similarity_batch('{a,""}', '{a,b}', strict => true)$$, '22023', 'pair[2]: a cannot be empty');

SELECT * FROM finish();
ROLLBACK;
