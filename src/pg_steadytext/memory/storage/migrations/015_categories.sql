-- What each category stands for, in words: a memory belongs to the one whose words are nearest to it in meaning.

ALTER TABLE memory.categories ADD COLUMN description text NOT NULL DEFAULT '' CHECK (length(description) <= 1000);
COMMENT ON COLUMN memory.categories.description IS 'What belongs here, in a sentence; where it is empty, the name stands for it';
UPDATE memory.categories c SET description = d.description
FROM (VALUES
    ('note', 'A thought or an observation of the day'),
    ('task', 'A task: something that has to be done, a to-do list, an errand, a purchase'),
    ('event', 'An event at a date: a party, a concert, a meeting'),
    ('person', 'About a person: who somebody is, family, friends, colleagues'),
    ('place', 'A place: a restaurant, a shop, a street, a view'),
    ('preference', 'A preference: what somebody likes or dislikes'),
    ('idea', 'An idea: what if, a suggestion, something to try or invent'),
    ('reference', 'A reference: a book, a standard, documentation, a definition'),
    ('work', 'Work: the office, the team, a project, a deadline'),
    ('finance', 'Money: costs, bank, insurance, taxes, mortgage'),
    ('health', 'Health: doctor, medicine, sleep, sport, pain'),
    ('home', 'The home: household, repairs, furniture, garden, kitchen'),
    ('travel', 'Travel: flights, trains, hotels, holidays')) d (name, description)
WHERE c.name = d.name;
