CREATE TABLE boot_once (
    machine TEXT PRIMARY KEY REFERENCES machines (id),
    choice TEXT NOT NULL,
    made BIGINT NOT NULL
);
