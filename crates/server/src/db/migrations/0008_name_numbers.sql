-- Numbers in host names: each is given once for all names of a pattern ("b7-{n}"), and stays its machine's.
CREATE TABLE name_numbers (
    pattern TEXT NOT NULL,
    number BIGINT NOT NULL,
    machine TEXT NOT NULL REFERENCES machines (id),
    PRIMARY KEY (pattern, number)
);
CREATE UNIQUE INDEX name_numbers_by_machine ON name_numbers (pattern, machine);
